"""What a comparison found, in sentences: what is better, what is too close to call, what could not be compared."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

from tunery.comparison.records import Board, Comparison, LeaderboardRow, TestedPair
from tunery.reporting.answers import unchanged, warning
from tunery.reporting.text import counted, listed, number, p_value, signed

_MOST_NAMED = 4  # in one sentence
_MOST_SENTENCES = 4  # of one kind
_MOST_NOTES = 3  # on single runs, in a terminal
_BARE = ("", "none", "unknown")  # methods of models that were not trained, as far as is known
_IN_CONTEXT = "icl"
_WHY = "since no error is known"


def conclusions(comparison: Comparison) -> list[str]:
    """The main board in sentences, most important first."""
    board, confidence = comparison.main, comparison.confidence
    apart = sum(one.seeds for other in comparison.boards[1:] for one in other.contenders) + len(comparison.unranked)
    return [
        *_best(board),
        *_unchanged(board),
        *_one_answer(board),
        *_close(board),
        *_better(board, confidence),
        *_on_tasks(board, confidence),
        *_over_base(board, confidence),
        *_fine_tuning(board, confidence),
        *_votes(board),
        *([f"{counted(apart, 'run')} set apart, each listed with its reason."] if apart else []),
    ]


def caveats(board: Board, brief: bool = False) -> list[str]:
    """What a reader of a board's numbers should know; in brief, notes on single runs are counted, not listed."""
    every = (f"{', '.join(names)}: {note}" for note, names in _by_note(board).items())
    notes = _counted_entry_notes(board) if brief else every
    return [*_limits(board), *board.notes, *notes]


def places(contender: LeaderboardRow) -> str:
    """Its range of places: "1" or "1–3"."""
    low, high = contender.ranks
    return str(low) if low == high else f"{low}–{high}"


def _best(board: Board) -> Iterator[str]:
    best = board.contenders[0]
    over = f", {signed(best.score.gain.value, 3)} over its base" if best.score.gain else ""
    if len(board.contenders) == 1:
        yield f"{best.name} scores {number(best.score.value, 3)}{over}; there is nothing to rank it against."
        return
    many = len(board.contenders)
    allowed = "only place 1" if best.ranks == (1, 1) else f"places {best.ranks[0]} to {best.ranks[1]} of {many}"
    yield f"{best.name} scores best: {number(best.score.value, 3)}{over}. The data allow {allowed}."
    close = board.ties[0] if board.ties and board.ties[0][0] == best.name else ()
    rivals = [one.name for one in board.contenders[1:] if one.ranks[0] == 1 and one.name not in close]
    if rivals:
        yield f"First place may also belong to {listed(rivals, _MOST_NAMED)}."


def _unchanged(board: Board) -> Iterator[str]:
    """Configurations that chose on every item of a task what their base chose: nothing was learned that shows there."""
    found = [unchanged(cell.changed, one.name) for one in board.contenders for cell in one.cells.values()]
    told = [sentence for sentence in found if sentence is not None]
    yield from told[:_MOST_SENTENCES]
    more = len(told) - _MOST_SENTENCES
    if more > 0:
        yield f"And on {counted(more, 'more task')} no answer changed."


def _one_answer(board: Board) -> Iterator[str]:
    """Scores that one answer to all items would reach too; of a base, only that it all but always answers alike."""
    found = [
        told
        for one in board.contenders
        for cell in one.cells.values()
        if cell.answers is not None and (cell.answers.is_one_answer or one.first.method not in _BARE)
        if (told := warning(cell.answers, one.name)) is not None
    ]
    yield from found[:_MOST_SENTENCES]
    more = len(found) - _MOST_SENTENCES
    if more > 0:
        yield f"And {counted(more, 'more score')} no better than one answer to all items."


def _close(board: Board) -> Iterator[str]:
    untested = {(pair.one, pair.other): math.isnan(pair.difference.p_value) for pair in board.over_all}
    for group in board.ties[:_MOST_SENTENCES]:
        unknown = [untested[two] for two in itertools.combinations(group, 2)]
        first = " for the first place" if group[0] == board.contenders[0].name else ""
        as_far = ", where it could be tested" if any(unknown) else ""
        words = f"Not tested against one another, {_WHY}" if all(unknown) else f"Too close to call{first}{as_far}"
        yield f"{words}: {listed(group)}."
    more = len(board.ties) - _MOST_SENTENCES
    if more > 0:
        yield f"And {counted(more, 'more group')} of neighbours."


def _better(board: Board, confidence: float) -> Iterator[str]:
    """One sentence a winner, about the score."""
    found: dict[str, list[str]] = defaultdict(list)
    for winner, loser, text in _wins(board.over_all, confidence):
        found[winner].append(f"{loser} ({text})")
    what = "" if len(board.tasks) > 1 else f" on {board.tasks[0]}"
    order = [one.name for one in board.contenders if one.name in found]
    for winner in order[:_MOST_SENTENCES]:
        yield f"{winner} is better than {listed(found[winner], _MOST_NAMED)}{what}."


def _on_tasks(board: Board, confidence: float) -> Iterator[str]:
    """One sentence a task: the largest of its sure differences; then the other tasks."""
    if len(board.tasks) < 2:
        return
    found = {task: [pair for pair in board.pairs if pair.task == task] for task in board.tasks}
    wins = {}
    for task, pairs in found.items():
        largest = sorted(pairs, key=lambda pair: -abs(pair.difference.value))
        wins[task] = [f"{winner} is better than {loser} ({text})" for winner, loser, text in _wins(largest, confidence)]
    sure = [task for task in board.tasks if wins[task]]
    for task in sure[:_MOST_SENTENCES]:
        yield f"On {task}: {listed(wins[task], _MOST_NAMED)}."
    if len(sure) > _MOST_SENTENCES:
        yield f"Differences are sure on {listed(sure[_MOST_SENTENCES:])} too."
    tested = [task for task in found if not all(math.isnan(pair.difference.p_value) for pair in found[task])]
    unsure = [task for task in tested if task not in sure]
    if unsure:
        yield f"No difference between any two is sure on {listed(unsure)}."
    unknown = [task for task in board.tasks if task not in tested]
    if unknown and len(board.contenders) > 1:
        yield f"No two could be tested on {listed(unknown)}."


def _wins(pairs: Sequence[TestedPair], confidence: float) -> Iterator[tuple[str, str, str]]:
    """Winner and loser of each sure difference, and how large and how sure it is."""
    for pair in pairs:
        if pair.difference.is_sure(confidence):
            names = (pair.one, pair.other) if pair.difference.value > 0 else (pair.other, pair.one)
            yield *names, _size(abs(pair.difference.value), pair.difference.adjusted)


def _size(value: float, adjusted: float) -> str:
    """How large and how sure: "+0.040, p = 0.003", the p-value after correction."""
    return f"{signed(value, 3)}, p {p_value(adjusted)}"


def _over_base(board: Board, confidence: float) -> Iterator[str]:
    """Gains over the base; then the ranks over all tasks."""
    gains = [(one.name, one.score.gain) for one in board.contenders if one.score.gain is not None]
    sized = [(f"{name} ({_size(gain.value, gain.adjusted)})", gain) for name, gain in gains]
    sure = [(text, gain.value) for text, gain in sized if gain.is_sure(confidence)]
    without = [one for one in board.contenders if one.score.base is None]
    kinds = {
        "Better than the base": [text for text, value in sure if value > 0],
        "Worse than the base": [text for text, value in sure if value < 0],
        "Not surely different from the base": [name for name, gain in gains if gain.adjusted > 1 - confidence],
        f"Not tested against the base, {_WHY}": [name for name, gain in gains if math.isnan(gain.adjusted)],
        "No base score on the same items in the same precision": [
            one.name for one in without if one.first.method not in _BARE
        ],
    }
    for words, names in kinds.items():
        if names:
            yield f"{words}: {listed(names, 2 * _MOST_NAMED)}."
    ranks = board.task_ranks
    if ranks is not None:
        differ = "differ" if ranks.friedman_p <= 1 - confidence else "do not surely differ"
        yield (
            f"Over {ranks.tasks} tasks the ranks {differ} (Friedman p {p_value(ranks.friedman_p)}); average ranks that "
            f"lie less than {ranks.critical_difference:.2f} apart may differ by chance (Nemenyi)."
        )


def _fine_tuning(board: Board, confidence: float) -> Iterator[str]:
    """Whether training was needed: the best trained configuration against the best that only shows rows in context."""
    shown = next((one for one in board.contenders if one.first.method == _IN_CONTEXT), None)
    trained = next((one for one in board.contenders if one.first.method not in (*_BARE, _IN_CONTEXT)), None)
    if shown is None or trained is None:
        return
    pair = next((pair for pair in board.over_all if {pair.one, pair.other} == {shown.name, trained.name}), None)
    if pair is None or math.isnan(pair.difference.p_value):
        return
    better, worse = (trained, shown) if trained.place < shown.place else (shown, trained)
    size = _size(abs(pair.difference.value), pair.difference.adjusted)
    best = f"{better.name} ({better.first.method}) against {worse.name} ({worse.first.method}), {size}"
    if not pair.difference.is_sure(confidence):
        yield f"Did you need to fine-tune? The data do not say: {best}."
    else:
        yield f"Did you need to fine-tune? {'Yes' if better is trained else 'No'}: {best}."


def _votes(board: Board) -> Iterator[str]:
    for one in board.contenders:
        if one.win_rate is not None:
            rate, votes = one.win_rate, one.win_rate.votes
            is_open = rate.low <= 0.5 <= rate.high
            whom = f"its base to {one.name}" if rate.high < 0.5 else f"{one.name} to its base"
            said = f"The votes do not say whether people prefer {whom}" if is_open else f"People preferred {whom}"
            yield (
                f"{said}: the tuned model won {votes.wins} of {counted(votes.wins + votes.losses, 'vote')} "
                f"({rate.low:.0%} to {rate.high:.0%}; {counted(votes.ties, 'tie')} left out)."
            )


def _limits(board: Board) -> Iterator[str]:
    pairs = board.over_all
    unpaired = sum(pair.difference.test.startswith("unpaired") for pair in pairs)
    unknown = sum(math.isnan(pair.difference.p_value) for pair in pairs)
    if unpaired:
        yield (
            f"{unpaired} of {counted(len(pairs), 'pair')} compared without answers (unpaired z): real differences are "
            "found less often than item by item."
        )
    if unknown:
        yield f"{unknown} of {counted(len(pairs), 'pair')} listed but not tested: no standard error is known."
    alone = sum(one.seeds == 1 and one.first.method not in ("", "none") for one in board.contenders)
    if alone:
        yield (
            f"{counted(alone, 'configuration')} with one seed: the result holds for that adapter; another seed of the "
            "same configuration may differ."
        )


def _counted_entry_notes(board: Board) -> Iterator[str]:
    """Imported runs as one count; other notes with a few names each, or as one count if there are many."""
    files = [run.source for contender in board.contenders for run in contender.runs if run.source]
    if files:
        distinct = sorted(set(files))
        where = distinct[0] if len(distinct) == 1 else f"{len(distinct)} files; the report lists them"
        yield f"{counted(len(files), 'imported run')}, from {where}."
    notes = _by_note(board, sources=False)
    if len(notes) > _MOST_NOTES:
        yield f"{counted(len(notes), 'note')} on single runs; the report lists them."
        return
    for note, names in notes.items():
        yield f"{listed(names, 3)}: {note}"


def _by_note(board: Board, sources: bool = True) -> dict[str, list[str]]:
    """Names of configurations by what is noted on their runs, and by the files that imported runs come from."""
    found: dict[str, list[str]] = defaultdict(list)
    for contender in board.contenders:
        notes = [f"imported from {run.source}" for run in contender.runs if run.source and sources]
        for note in dict.fromkeys([*notes, *(note for run in contender.runs for note in run.notes)]):
            found[note].append(contender.name)
    return found

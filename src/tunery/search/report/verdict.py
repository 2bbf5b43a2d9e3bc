"""What a study found, in a few sentences: which trial won, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import itemgetter

from tunery.records.scores import Difference
from tunery.records.studies import Finalist, StudyRecord, TrialRow
from tunery.reporting.text import code, counted, interval, measured_on, number, p_value, shown, signed
from tunery.search.report.facts import base_gap, best_first, gap, mean, means, winner_of
from tunery.statistics.significance import CONFIDENCE


def study_verdict(record: StudyRecord) -> str:
    """The verdict in Markdown: one bold sentence, then its support."""
    winner = winner_of(record)
    if winner is None:
        return _without_winner(record)
    sentences = [f"**{_headline(record, winner)}**", _chosen_by(record, winner), _scores(record, winner)]
    gains = {
        "the base": record.over_base,
        _parent(record): record.over_parent,
        "the project's own settings": record.over_own,
    }
    known = [f"{_gain(gain)} over {rival}" for rival, gain in gains.items() if gain is not None]
    if winner.locked and known:
        sentences.append(f"On locked items that is {'; '.join(known)}.")
    return " ".join(filter(None, [*sentences, _scored_better(record, winner)]))


def _without_winner(record: StudyRecord) -> str:
    rows = best_first(record)
    if not rows:
        return f"**None of {counted(len(record.trials), 'trial')} is complete: there is nothing to choose from.**"
    if not rows[0].feasible:
        trials = counted(len(rows), "complete trial")
        return f"**None of {trials} meets every constraint: there is nothing to choose from.**"
    first = next(iter(record.objectives))
    why = (
        "not every finalist was trained again and scored"
        if record.finalists
        else "no finalist was trained again (`search.finalists` is 0, or the study was interrupted)"
    )
    return (
        f"**Best so far: trial {rows[0].number} ({code(rows[0].name)}).** Its {code(first)} is "
        f"{shown(first, rows[0].values[first])}, which is optimistic: the trial was chosen by it. "
        f"{_best_over_parent(record, rows[0])}There is no winner and no locked score, since {why}."
    )


def _best_over_parent(record: StudyRecord, best: TrialRow) -> str:
    """The best trial's gain over the adapter that it began with; empty where it began with a new one."""
    gain = best.metrics.get("over_parent/score")
    if gain is None or record.parent_dev is None:
        return ""
    dev = number(record.parent_dev)
    return f"Over {_parent(record)}, which scores {dev} on dev items, that is a gain in score of {signed(gain)}. "


def _parent(record: StudyRecord) -> str:
    return f"the parent, {code(str(record.start))}"


def _headline(record: StudyRecord, winner: Finalist) -> str:
    """Which trial won, and by which objective if that is not the score."""
    first = next(iter(record.objectives))
    by = "" if first == "score" else f" by {code(first)}"
    if winner.own:
        return f"No configuration beat the project's own settings{by}."
    won = f"Trial {winner.trial} ({code(winner.name)}) won{by}"
    if record.over_own is None:
        return f"{won}{measured_on(first)}."
    if record.over_own.value <= 0:
        return f"{won}{measured_on(first)}, but does not score better than the project's own settings on locked items."
    if record.over_own.p_value >= 1 - CONFIDENCE:
        return f"{won}, but its gain in score over the project's own settings may be chance."
    return f"{won} and scores better than the project's own settings."


def _chosen_by(record: StudyRecord, winner: Finalist) -> str:
    """The means of the first objective, unless it is the score, which `_scores` reports."""
    first = next(iter(record.objectives))
    if first == "score":
        return ""
    compared = [winner, *(one for one in record.finalists if one.own)]
    value, *own = (shown(first, means(one, record.objectives)[first]) for one in compared)
    seeds = f"mean of {counted(len(winner.seeds), 'seed')}"
    against = f", against {own[0]} with the project's own settings" if own and not winner.own else ""
    return f"{'Their' if winner.own else 'Its'} {code(first)}{measured_on(first)} is {value} ({seeds}){against}."


def _scores(record: StudyRecord, winner: Finalist) -> str:
    if not winner.dev:
        return "No task is scored, so no number is independent of the choice."
    scores = f"{'They score' if winner.own else 'It scores'} {number(mean(winner.dev))} on dev items"
    seeds = f"mean of {counted(len(winner.dev), 'seed')}"
    if not winner.locked:
        chosen = any(measured_on(name) == measured_on("score") for name in record.objectives)
        but = ", so this score is from the items that the choice was made on" if chosen else ""
        return f"{scores} ({seeds}). Locked items have not been scored{but}."
    of_base = base_gap(record)
    known = "" if math.isnan(of_base) else f"; the base's own gap is {signed(of_base)}"
    locked = f"**{number(mean(winner.locked))} on locked items**"
    return f"{scores} and {locked} ({seeds}): a gap of {signed(gap(winner))}{known}."


def _scored_better(record: StudyRecord, winner: Finalist) -> str:
    """Finalists with a better score than the winner, the best first, and why they did not win."""
    sides: dict[str, Callable[[Finalist], Sequence[float]]] = {
        "dev": lambda one: one.dev,
        "locked": lambda one: one.locked,
    }
    found: dict[str, str] = {}
    for items, side in sides.items():
        # Rounded as they are shown: a report must not say that 0.4545 is better than 0.4545.
        least = round(mean(side(winner)), 4)
        above = [(mean(side(one)), _name(one)) for one in record.finalists if round(mean(side(one)), 4) > least]
        if above:
            named = (f"{name} ({number(score)})" for score, name in sorted(above, key=itemgetter(0), reverse=True))
            found[items] = f"on {items} items {' and '.join(named)}"
    if not found:
        return ""
    first = next(iter(record.objectives))
    why = f"; the winner was chosen by {code(first)}" if first != "score" else ""
    if first == "score" and "locked" in found:
        why = "; nothing is chosen by locked items"
    return f"Others score better: {', '.join(found.values())}{why}."


def _name(one: Finalist) -> str:
    name = "the project's own settings" if one.own else f"trial {one.trial}"
    return f"{name}, which could not win," if one.refused else name


def _gain(gain: Difference) -> str:
    """A gain with its interval and p: "+0.0210 (95% interval +0.0040 to +0.0380, p = 0.016)"."""
    known = not math.isnan(gain.low)
    bounds = f"{CONFIDENCE:.0%} interval {interval(gain.low, gain.high, sign=True)}, " if known else ""
    return f"{signed(gain.value)} ({bounds}p {p_value(gain.p_value)})"

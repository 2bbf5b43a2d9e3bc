"""What a study found, in a few sentences: which trial won, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rich.markdown import Markdown

from tunery.records import Difference, Finalist, StudyRecord
from tunery.reporting.text import code, counted, interval, measured_on, number, p_value, shown, signed
from tunery.search.report.facts import best_first, better_scored, gap, mean, means, winner_of
from tunery.statistics.significance import CONFIDENCE

_SURE = 1 - CONFIDENCE


def study_verdict(record: StudyRecord) -> str:
    """The verdict in Markdown: one bold sentence, then its support."""
    winner = winner_of(record)
    if winner is None:
        return _without_winner(record)
    sentences = [f"**{headline(record, code)}**", _chosen_by(record, winner), _scores(record, winner)]
    if winner.locked:
        sentences += _gains(record)
    sentences.append(_scored_better(record))
    return " ".join(sentence for sentence in sentences if sentence)


def shown_verdict(record: StudyRecord) -> Markdown:
    """The verdict for a terminal, with emphasis rendered."""
    return Markdown(study_verdict(record))


def headline(record: StudyRecord, quote: Callable[[str], str] = str) -> str:
    """One sentence: which trial won, and by which objective if that is not the score.

    Args:
        quote: Formats the name of a configuration: plain in a terminal, as code in Markdown.
    """
    winner = winner_of(record)
    if winner is None:
        return _nothing_final(record, quote)
    first = next(iter(record.objectives))
    by = "" if first == "score" else f" by {quote(first)}"
    if winner.own:
        return f"No configuration beat the project's own settings{by}."
    won = f"Trial {winner.trial} ({quote(winner.name)}) won{by}"
    if record.over_own is None:
        return f"{won}{measured_on(first)}."
    if record.over_own.value <= 0:
        return f"{won}{measured_on(first)}, but does not score better than the project's own settings on locked items."
    if record.over_own.p_value >= _SURE:
        return f"{won}, but its gain in score over the project's own settings may be chance."
    return f"{won} and scores better than the project's own settings."


def _without_winner(record: StudyRecord) -> str:
    verdict = f"**{_nothing_final(record, code)}**"
    rows = [row for row in best_first(record) if row.feasible]
    if not rows:
        return verdict
    first = next(iter(record.objectives))
    why = (
        "not every finalist was trained again and scored"
        if record.finalists
        else "no finalist was trained again (`search.finalists` is 0, or the study was interrupted)"
    )
    return (
        f"{verdict} Its {code(first)} is {shown(first, rows[0].values[first])}, which is optimistic: the trial was "
        f"chosen by it. There is no winner and no locked score, since {why}."
    )


def _nothing_final(record: StudyRecord, quote: Callable[[str], str]) -> str:
    rows = best_first(record)
    if not rows:
        return f"None of {counted(len(record.trials), 'trial')} is complete: there is nothing to choose from."
    if not rows[0].feasible:
        return (
            f"None of {counted(len(rows), 'complete trial')} meets every constraint: there is nothing to choose from."
        )
    return f"Best so far: trial {rows[0].number} ({quote(rows[0].name)})."


def _chosen_by(record: StudyRecord, winner: Finalist) -> str:
    """The means of the first objective, unless it is the score, which `_scores` reports."""
    first = next(iter(record.objectives))
    if first == "score":
        return ""
    value, own = (
        None if one is None else shown(first, means(one, record.objectives)[first])
        for one in (winner, next((one for one in record.finalists if one.own), None))
    )
    seeds = f"mean of {counted(len(winner.seeds), 'seed')}"
    against = "" if winner.own or own is None else f", against {own} with the project's own settings"
    return f"{'Their' if winner.own else 'Its'} {code(first)}{measured_on(first)} is {value} ({seeds}){against}."


def _scores(record: StudyRecord, winner: Finalist) -> str:
    if not winner.dev:
        return "No task is scored, so no number is independent of the choice."
    subject = "They score" if winner.own else "It scores"
    seeds = f"mean of {counted(len(winner.dev), 'seed')}"
    if not winner.locked:
        chosen = any(measured_on(name) == measured_on("score") for name in record.objectives)
        but = ", so this score is from the items that the choice was made on" if chosen else ""
        return f"{subject} {number(mean(winner.dev))} on dev items ({seeds}). Locked items have not been scored{but}."
    scores = (
        f"{subject} {number(mean(winner.dev))} on dev items and **{number(mean(winner.locked))} on locked items** "
        f"({seeds}): a gap of {signed(gap(winner))}"
    )
    if record.base_dev is None or record.base_locked is None:
        return f"{scores}."
    return f"{scores}; the base's own gap is {signed(record.base_dev - record.base_locked)}."


def _gains(record: StudyRecord) -> list[str]:
    gains = {"the base": record.over_base, "the project's own settings": record.over_own}
    known = [f"{gain_text(gain)} over {rival}" for rival, gain in gains.items() if gain is not None]
    return [f"On locked items that is {'; '.join(known)}."] if known else []


def _scored_better(record: StudyRecord) -> str:
    """Finalists with a better score than the winner, and why they did not win."""
    sides: dict[str, Callable[[Finalist], Sequence[float]]] = {
        "dev": lambda one: one.dev,
        "locked": lambda one: one.locked,
    }
    found = {
        name: f"on {name} items {_above(record, side)}" for name, side in sides.items() if better_scored(record, side)
    }
    if not found:
        return ""
    first = next(iter(record.objectives))
    why = f"; the winner was chosen by {code(first)}" if first != "score" else ""
    if first == "score" and "locked" in found:
        why = "; nothing is chosen by locked items"
    return f"Others score better: {', '.join(found.values())}{why}."


def _above(record: StudyRecord, side: Callable[[Finalist], Sequence[float]]) -> str:
    return " and ".join(f"{_name(one)} ({number(mean(side(one)))})" for one in better_scored(record, side))


def _name(one: Finalist) -> str:
    name = "the project's own settings" if one.own else f"trial {one.trial}"
    return f"{name}, which could not win," if one.refused else name


def gain_text(gain: Difference) -> str:
    """A gain with its interval and p: "+0.0210 (95% interval +0.0040 to +0.0380, p = 0.016)"."""
    known = not math.isnan(gain.low)
    bounds = f"{CONFIDENCE:.0%} interval {interval(gain.low, gain.high, sign=True)}, " if known else ""
    return f"{signed(gain.value)} ({bounds}p {p_value(gain.p_value)})"

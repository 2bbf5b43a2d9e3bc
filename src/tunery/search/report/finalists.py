"""The section on finalists in a study's report: their values and scores, and how to read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tunery.records import Finalist, StudyRecord
from tunery.reporting.text import cell, code, linked, listed, measured_on, number, shown, signed
from tunery.search.report.facts import finalists_first, gap, seeds_of, spread_factors
from tunery.search.report.tables import gap_text, spread_of, with_spread

_Column = tuple[str, Callable[[Finalist], str], str]  # heading, cell of a finalist, cell of the base


def finalists_section(record: StudyRecord, link: Callable[[str], str]) -> str:
    """The finalists in Markdown; empty if there are none.

    Args:
        link: Address of a run's page, given its id; empty for none.
    """
    if not record.finalists:
        return ""
    columns = _finalist_columns(record)
    lines = [
        "## Finalists, trained again with other seeds",
        "",
        f"| | trial | settings | {' | '.join(head for head, _, _ in columns)} | runs |",
        f"| --- | ---: | --- |{' ---: |' * len(columns)} --- |",
        *(_finalist_row(one, record, columns, link) for one in finalists_first(record)),
    ]
    if record.base_dev is not None or record.base_locked is not None:
        lines.append(f"| | | the base model | {' | '.join(base for _, _, base in columns)} | |")
    return "\n".join([*lines, "", *_reading(record), ""])


def _finalist_columns(record: StudyRecord) -> list[_Column]:
    """The values that finalists and winner were chosen by, then their scores."""
    first = next(iter(record.objectives))
    found = {row.number: row.values.get(first) for row in record.trials}
    columns: list[_Column] = [(f"{first} in the search", lambda one: shown(first, found.get(one.trial)), "–")]
    columns += [(f"{name}, mean ± sd", partial(_over_seeds, record, name), "–") for name in _unscored(record)]
    if _is_scored(record):
        dev, locked = record.base_dev, record.base_locked
        columns += [
            ("dev score, mean ± sd", lambda one: with_spread(one.dev), number(dev)),
            ("locked score, mean ± sd", lambda one: with_spread(one.locked), number(locked)),
            ("gap", lambda one: signed(gap(one)), gap_text(dev, locked, 4)),
        ]
    return columns


def _unscored(record: StudyRecord) -> list[str]:
    """Objectives other than the score, which has its own columns."""
    return [name for name in record.objectives if name != "score"]


def _is_scored(record: StudyRecord) -> bool:
    return any(one.dev for one in record.finalists)


def _over_seeds(record: StudyRecord, objective: str, one: Finalist) -> str:
    return spread_of(objective, seeds_of(one, record.objectives)[objective])


def _finalist_row(one: Finalist, record: StudyRecord, columns: Sequence[_Column], link: Callable[[str], str]) -> str:
    won = "**won**" if one.trial == record.winner else ""
    whose = " (the project's own)" if one.own else ""
    runs = " ".join(linked(f"seed {seed}", run_id, link) for seed, run_id in zip(one.seeds, one.run_ids, strict=False))
    trial_run = next((row.run_id for row in record.trials if row.number == one.trial), None)
    return (
        f"| {won} | {linked(str(one.trial), trial_run, link)} | {cell(one.name)}{whose} | "
        f"{' | '.join(text(one) for _, text, _ in columns)} | {runs} |"
    )


def _reading(record: StudyRecord) -> Iterator[str]:
    """How to read the numbers of the table."""
    first, *others = record.objectives
    between = f"; between equal means, {listed([code(name) for name in others])} decides" if others else ""
    yield (
        f"- *{first} in the search* is optimistic: finalists are chosen by it, except the project's own settings, "
        "which are always finalists. The winner is chosen by the mean of "
        f"{code(first)}{measured_on(first)}, over seeds that the search never used{between}."
    )
    if not _is_scored(record):
        yield "- No task is scored, so no number is independent of the search."
    elif any(one.locked for one in record.finalists):
        yield f"- *Locked* items were scored after the winner was chosen. *Gap* is dev − locked: {_gap_reading(record)}"
    else:
        yield "- Locked items have not been scored, so no number is independent of the search yet."
    seeds = min(len(one.seeds) for one in record.finalists)
    if seeds >= 2:
        low, high = spread_factors(seeds)
        yield (
            f"- *sd* is the spread over seeds. From {seeds} seeds it is rough: the true value is between "
            f"{low:.1f} and {high:.1f} times as large (95% confidence)."
        )
    elif seeds == 1:
        yield "- One seed says nothing about the spread over seeds: set `search.seeds` to 3 or more."


def _gap_reading(record: StudyRecord) -> str:
    if any(measured_on(name) == measured_on("score") for name in record.objectives):
        return (
            "how much the search fooled itself, plus how much easier the dev items happen to be; the base's gap "
            "shows the latter."
        )
    return "no objective is measured on dev items, so it mostly shows how much easier they are, as the base's does."

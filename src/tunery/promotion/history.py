"""`tunery history`: which version was champion when, why, and with what scores, from the runs of kind promotion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunery.config.load import project_name
from tunery.reporting.text import number
from tunery.runs.observer import Observer

if TYPE_CHECKING:
    from tunery.promotion.store import Promotion

_STYLES = {"accepted": "green", "forced": "yellow", "rolled back": "cyan", "refused": "red"}


@dataclass(frozen=True)
class Event:
    """One decision about a model's champion."""

    version: str  # "quickstart/3"; the run if a refused candidate was never registered
    decision: str  # accepted, forced, rolled back or refused
    began: str  # when the aliases moved, or when the candidate was refused; ISO 8601
    until: str | None  # when the next champion came; None for the current champion and for a refused candidate
    by: str
    reason: str
    score: float | None = None  # of the version, on locked items; None if unknown
    champion_score: float | None = None  # of the champion before it
    over_champion: str = ""  # gain with its interval, as text; "" if unknown
    over_base: str = ""


def history(
    project: str, observer: Observer, *, refused: bool = False, tracking_uri: str | None = None
) -> Sequence[Event]:
    """Show every champion of a project's model.

    Args:
        project: Folder of a project, or a registered model's name.
        refused: Whether refused candidates are shown too.

    Returns:
        The decisions that are shown, oldest first.

    Raises:
        RefError: If there is no registered model of that name.
    """
    from tunery.promotion.store import promotions
    from tunery.tracking.aliases import check_model, current_aliases
    from tunery.tracking.links import model_link, where_shown
    from tunery.tracking.store import connect

    name = project_name(project)
    store = connect(tracking_uri, name)
    check_model(store, name)
    known = promotions(store, name)
    events = _events(name, known, refused)
    champion = current_aliases(store, name).champion
    observer.show(history_table(name, events, _notes(name, known, champion)))
    observer.step(where_shown(store, model_link(name)))
    observer.step(f"next: {_next(name, champion)}")
    return events


def _next(name: str, champion: int | None) -> str:
    promote = f"tunery promote models:/{name}/VERSION"
    return promote if champion is None else f"tunery chat models:/{name}@champion, {promote}, or tunery rollback {name}"


def _events(name: str, known: Sequence[Promotion], refused: bool) -> list[Event]:
    """Decisions, oldest first; a champion's time ends when the next one's begins."""
    applied = [one for one in known if one.applied is not None]
    ends: dict[str, str | None] = {one.run_id: after.applied for one, after in pairwise(applied)}
    scores: dict[int | None, Promotion] = {}
    events = []
    for one in known:
        if one.decision in ("accepted", "forced") and one.applied is not None:
            scores[one.version] = one
        if one.applied is not None or (refused and one.decision == "refused"):
            event = _event(name, one, ends.get(one.run_id))
            if one.decision == "rolled back" and one.version in scores:  # it has the score of its promotion
                metrics = scores[one.version].metrics
                event = replace(event, score=metrics.get("promotion/score"), over_base=_gain(metrics, "base"))
            events.append(event)
    return events


def _event(name: str, one: Promotion, until: str | None) -> Event:
    metrics = one.metrics
    return Event(
        version=f"run {one.run_id}" if one.version is None else f"{name}/{one.version}",
        decision=one.decision,
        began=one.moment,
        until=until,
        by=one.by,
        reason=one.reason,
        score=metrics.get("promotion/score"),
        champion_score=metrics.get("promotion/score_of_champion"),
        over_champion=_gain(metrics, "champion"),
        over_base=_gain(metrics, "base"),
    )


def _gain(metrics: Mapping[str, float], baseline: str) -> str:
    key = f"promotion/score/over_{baseline}"
    if key not in metrics:
        return ""
    return f"{metrics[key]:+.4f} [{metrics[f'{key}_low']:+.4f}, {metrics[f'{key}_high']:+.4f}]"


def _notes(name: str, known: Sequence[Promotion], champion: int | None) -> list[str]:
    """A note if the alias differs from the last promotion."""
    last = next((one.version for one in reversed(known) if one.applied is not None), None)
    if champion == last:
        return []
    now = f"{name}/{champion} has the alias champion" if champion is not None else "no version has the alias champion"
    return [f"{now}, which no promotion recorded: it was set or removed by hand."]


def history_table(name: str, events: Sequence[Event], notes: Sequence[str] = ()) -> RenderableType:
    """One row a decision, oldest first; the current champion is the last without an end."""
    if not events:
        return Group(Text(f"{name}: no version was promoted yet."), *map(Text, notes))
    table = Table(title=f"Champions of {name}, times in UTC", title_justify="left", box=SIMPLE_HEAD)
    for column in ("version", "decision", "from", "until", "by", "score", "gain over champion", "over base", "why"):
        table.add_column(column, justify="right" if column == "score" else "left", overflow="fold")
    for event in events:
        table.add_row(
            Text(event.version.removeprefix(f"{name}/")),  # the title names the model
            Text(event.decision, style=_STYLES.get(event.decision, "")),
            _when(event.began),
            "–" if event.decision == "refused" else "now" if event.until is None else _when(event.until),
            Text(event.by),
            number(event.score) + (f" (champion {number(event.champion_score)})" if event.champion_score else ""),
            event.over_champion or "–",
            event.over_base or "–",
            Text(event.reason),
        )
    return Group(table, *map(Text, notes))


def _when(moment: str) -> str:
    return moment[:16].replace("T", " ")

"""`tunery history`: who was champion when, why, and with what scores, from the runs of kind promotion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from tunery.config.load import project_name
from tunery.promotion.report import Event, history_table
from tunery.runs.observer import Observer

if TYPE_CHECKING:
    from tunery.promotion.store import Promotion


def history(
    project: str, observer: Observer, *, refused: bool = False, tracking_uri: str | None = None
) -> Sequence[Event]:
    """Show every champion that a project's model had.

    Args:
        project: Folder of a project, or a registered model's name.
        observer: Shown the table.
        refused: Whether refused candidates are shown too.
        tracking_uri: MLflow store.

    Returns:
        What was shown, oldest first.

    Raises:
        RefError: If there is no registered model of that name.
    """
    from tunery.promotion.store import promotions
    from tunery.tracking.aliases import check_model, current_aliases
    from tunery.tracking.store import connect

    name = project_name(project)
    store = connect(tracking_uri, name)
    check_model(store, name)
    known = promotions(store, name)
    events = _events(name, known, refused)
    observer.show(history_table(name, events, _notes(name, known, current_aliases(store, name).champion)))
    return events


def _events(name: str, known: Sequence[Promotion], refused: bool) -> list[Event]:
    """Decisions in the order of time; a reign ends where the next one begins."""
    reigns = [one for one in known if one.applied is not None]
    ends: dict[str, str | None] = {one.run_id: after.applied for one, after in pairwise(reigns)}
    scores: dict[int | None, Promotion] = {}
    events = []
    for one in known:
        if one.decision in ("accepted", "forced") and one.applied is not None:
            scores[one.version] = one
        if one.applied is not None or (refused and one.decision == "refused"):
            event = _event(name, one, ends.get(one.run_id))
            measured = scores.get(one.version)
            events.append(_with_scores(event, measured) if one.decision == "rolled back" and measured else event)
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
        rival_score=metrics.get("promotion/score_of_champion"),
        over_champion=_gain(metrics, "champion"),
        over_base=_gain(metrics, "base"),
    )


def _with_scores(event: Event, measured: Promotion) -> Event:
    """A version that came back has the score of when it was promoted."""
    return replace(event, score=measured.metrics.get("promotion/score"), over_base=_gain(measured.metrics, "base"))


def _gain(metrics: Mapping[str, float], rival: str) -> str:
    key = f"promotion/score/over_{rival}"
    if key not in metrics:
        return ""
    return f"{metrics[key]:+.4f} [{metrics[f'{key}_low']:+.4f}, {metrics[f'{key}_high']:+.4f}]"


def _notes(name: str, known: Sequence[Promotion], champion: int | None) -> list[str]:
    """Whether the alias says something else than the last promotion did."""
    reigns = [one for one in known if one.applied is not None]
    last = reigns[-1].version if reigns else None
    if champion == last:
        return []
    now = f"{name}/{champion} has the alias champion" if champion is not None else "no version has the alias champion"
    return [f"{now}, which no promotion says: it was set or taken away by hand."]

"""Who was champion when, why, and with what scores, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_STYLES = {"accepted": "green", "forced": "yellow", "rolled back": "cyan", "refused": "red"}


@dataclass(frozen=True)
class Event:
    """One decision about a model's champion.

    Args:
        version: "quickstart/3"; the run of a refused candidate that was never registered.
        decision: accepted, forced, rolled back or refused.
        began: When the aliases moved, or when it was refused; ISO 8601.
        until: When the next champion came; None for the one that is champion now, and for a refused one.
        score, rival_score: On locked items, of the version and of the champion before; None where nobody measured.
        over_champion, over_base: Gains with their intervals, as text; "" where there are none.
    """

    version: str
    decision: str
    began: str
    until: str | None
    by: str
    reason: str
    score: float | None = None
    rival_score: float | None = None
    over_champion: str = ""
    over_base: str = ""


def history_table(name: str, events: Sequence[Event], notes: Sequence[str] = ()) -> RenderableType:
    """One row a decision, oldest first; the champion of now is the last that has no end."""
    if not events:
        return Group(Text(f"{name}: nobody was promoted yet."), *map(Text, notes))
    table = Table(title=f"Champions of {name}, times in UTC", title_justify="left", box=SIMPLE_HEAD)
    for column in ("version", "decision", "from", "until", "by", "score", "gain over champion", "over base", "why"):
        table.add_column(column, justify="right" if column == "score" else "left", overflow="fold")
    for event in events:
        table.add_row(
            Text(event.version.removeprefix(f"{name}/")),  # the title names the model
            Text(event.decision, style=_STYLES.get(event.decision, "")),
            _when(event.began),
            _until(event),
            Text(event.by),
            _scores(event),
            event.over_champion or "–",
            event.over_base or "–",
            Text(event.reason),
        )
    return Group(table, *map(Text, notes))


def _until(event: Event) -> str:
    if event.decision == "refused":
        return "–"
    return "now" if event.until is None else _when(event.until)


def _scores(event: Event) -> str:
    if event.score is None:
        return "–"
    before = "" if event.rival_score is None else f" (champion {event.rival_score:.4f})"
    return f"{event.score:.4f}{before}"


def _when(moment: str) -> str:
    return moment[:16].replace("T", " ")

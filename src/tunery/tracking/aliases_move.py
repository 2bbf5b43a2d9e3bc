"""A move of the aliases `champion` and `previous`, and how it is written into one tag of the registered model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

CHAMPION, PREVIOUS = "champion", "previous"
INTENT = "tunery.move"
LONGEST_TEXT = 5000  # characters: MLflow's columns on PostgreSQL; SQLite takes more without a word


@dataclass(frozen=True)
class Standing:
    """Which versions have the two aliases; None where there is none."""

    champion: int | None = None
    previous: int | None = None

    def __str__(self) -> str:
        sides = ((CHAMPION, self.champion), (PREVIOUS, self.previous))
        return " and ".join(f"no {alias}" if version is None else f"{alias} {version}" for alias, version in sides)


@dataclass(frozen=True)
class Move:
    """Aliases as they were and as they shall be.

    Args:
        before: What the decision was made on; if it is not so any more, nothing moves.
        after: What shall be.
        run_id: The run of kind promotion that says why; its description becomes the version's, with the tags.
        at: When, ISO 8601.
        tags: Evidence for the new champion's version, as tags.
    """

    before: Standing
    after: Standing
    run_id: str
    at: str
    tags: Mapping[str, str] = field(default_factory=dict)


def written(wanted: Move) -> str:
    """A move as the tag INTENT holds it."""
    return json.dumps(asdict(wanted), ensure_ascii=False)  # \uXXXX would make six characters of a letter


def fitting(wanted: Move) -> Move:
    """The same move with its longest tags cut until it can be written into one tag."""
    tags = dict(wanted.tags)
    for key in sorted(tags, key=lambda one: len(tags[one]), reverse=True):
        over = len(written(replace(wanted, tags=tags))) - LONGEST_TEXT
        if over > 0:
            tags[key] = f"{tags[key][: max(0, len(tags[key]) - over - 1)]}…"
    return replace(wanted, tags=tags)


def intent_of(model: RegisteredModel) -> Move | None:
    """The move that was written down; None where there is none, or it cannot be read."""
    text = model.tags.get(INTENT)
    if text is None:
        return None
    try:
        tree: dict[str, Any] = json.loads(text)
        return Move(**{**tree, **{side: Standing(**tree[side]) for side in ("before", "after")}})
    except (ValueError, KeyError, TypeError):
        return None


def standing_of(model: RegisteredModel) -> Standing:
    """Where the aliases are now."""
    found = {alias: int(version) for alias, version in model.aliases.items() if alias in (CHAMPION, PREVIOUS)}
    return Standing(found.get(CHAMPION), found.get(PREVIOUS))


def is_between(now: Standing, left: Move) -> bool:
    """Whether each alias is where it was before the move, or where the move puts it."""
    return now.champion in (left.before.champion, left.after.champion) and now.previous in (
        left.before.previous,
        left.after.previous,
    )

"""The aliases `champion` and `previous`, which move together or not at all.

MLflow sets one alias at a time. A move is therefore written down first, whole, in one tag of the registered model: from
then on it counts as made, and whoever comes next finishes what a process that died in between left. Without that tag no
alias has moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tunery.errors import Overtaken, RefError, TrackingError
from tunery.tracking.lock import model_lock
from tunery.tracking.store import Store, refusals
from tunery.tracking.study_runs import finish_child

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

APPLIED = "tunery.promotion.applied"
EVIDENCE_TAGS = "tunery.promotion"  # what all of them begin with
_NOTE = "mlflow.note.content"
_ABSENT = "RESOURCE_DOES_NOT_EXIST"


def current_aliases(store: Store, name: str) -> Aliases:
    """Who has the aliases; a move that was written down counts, whether it was finished or not.

    Args:
        store: MLflow's.
        name: The registered model; nobody has an alias of one that is not there.

    Raises:
        TrackingError: If the store does not answer.
    """
    from mlflow.exceptions import MlflowException

    with refusals(store.uri):
        try:
            model = store.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code == _ABSENT:
                return Aliases()
            raise
        intent, now = pending_of(model), aliases_of(model)
        if intent is None or not is_between(now, intent):
            return now
        return _settled(store, name, now, intent)


def move_aliases(store: Store, name: str, wanted: AliasMove) -> None:
    """Move the aliases, both or none.

    Raises:
        Overtaken: If the aliases are not any more what the decision was made on, or a version was deleted since.
        TrackingError: If the store refuses or stops answering. What was written down before is finished by the next,
            and the text says so.
    """
    wanted = shortened(wanted)
    with refusals(store.uri), model_lock(store, name):
        _finish(store, name)
        now = aliases_of(store.client.get_registered_model(name))
        if now != wanted.before:
            raise Overtaken(f"{name}: {now} by now, not {wanted.before}. Another promotion was faster.")
        if not _versions_are_there(store, name, wanted.after):
            raise Overtaken(f"{name}: a version of {wanted.after} was deleted meanwhile.")
        store.client.set_registered_model_tag(name, PENDING, as_tag(wanted))
        with _counting(store):
            if not _carry_out(store, name, wanted) and not _was_applied(store, wanted):
                raise Overtaken(f"{name}: the aliases were set by somebody else while this process stood still.")


def finish_pending(store: Store, name: str) -> AliasMove | None:
    """Finish the move of a process that died in it.

    Returns:
        The move; None where there was none to finish.
    """
    from mlflow.exceptions import MlflowException

    with refusals(store.uri):
        try:
            pending = pending_of(store.client.get_registered_model(name)) is not None
        except MlflowException as error:
            if error.error_code == _ABSENT:
                return None
            raise
        if not pending:
            return None
        with model_lock(store, name):  # not before: it may be the move of a process that is alive
            return _finish(store, name)


@contextmanager
def _counting(store: Store) -> Iterator[None]:
    """Say of a store that refuses now that the move counts all the same."""
    try:
        with refusals(store.uri):
            yield
    except TrackingError as error:
        advice = "The move is written down and counts: the next tunery promote or rollback finishes it first."
        raise TrackingError(error.where, error.faults, advice) from error


def _finish(store: Store, name: str) -> AliasMove | None:
    model = store.client.get_registered_model(name)
    left, now = pending_of(model), aliases_of(model)
    if left is None or not is_between(now, left):
        # Written by hand, or an alias was set by hand since: that is the later word.
        if PENDING in model.tags:
            store.client.delete_registered_model_tag(name, PENDING)
        return None
    settled = _settled(store, name, now, left)
    if settled != left.after:
        _take_back(store, name, settled)
        return None
    if _run_is_there(store, left.run_id):
        finish_child(store, left.run_id)
    return left if _carry_out(store, name, left) else None


def _settled(store: Store, name: str, now: Aliases, left: AliasMove) -> Aliases:
    """Where the aliases belong: as before, if a version was deleted since and the champion has not moved yet."""
    if _versions_are_there(store, name, left.after):
        return left.after
    return now if now.champion == left.after.champion else _left_of(store, name, left.before)


def _take_back(store: Store, name: str, settled: Aliases) -> None:
    """A version of the move was deleted since, so that it cannot be finished."""
    for alias, version in ((PREVIOUS, settled.previous), (CHAMPION, settled.champion)):
        if version is None:
            store.client.delete_registered_model_alias(name, alias)
        else:
            store.client.set_registered_model_alias(name, alias, str(version))
    store.client.delete_registered_model_tag(name, PENDING)


def _carry_out(store: Store, name: str, wanted: AliasMove) -> bool:
    """Do what was written down. Every step may be done twice, so that the whole may be begun again.

    Returns:
        False where it does not stand written any more: this process slept through its turn, and another took it.
    """
    # Champion is the last of the two: whoever reads the new one finds the one to go back to in its place.
    for alias, version in ((PREVIOUS, wanted.after.previous), (CHAMPION, wanted.after.champion)):
        if not _is_pending(store, name, wanted):
            return False
        if version is not None:
            store.client.set_registered_model_alias(name, alias, str(version))
    _say_why(store, name, wanted)
    if _is_pending(store, name, wanted):
        store.client.delete_registered_model_tag(name, PENDING)
    return True


def _is_pending(store: Store, name: str, wanted: AliasMove) -> bool:
    """Whether this move, and no other, is still the one to be carried out."""
    model = store.client.get_registered_model(name)
    return pending_of(model) == wanted and is_between(aliases_of(model), wanted)


def _say_why(store: Store, name: str, wanted: AliasMove) -> None:
    """The evidence goes to the new champion's version, and the run learns that its decision was carried out."""
    champion = str(wanted.after.champion)
    _keep_evidence(store, name, champion, wanted.tags)
    if _run_is_there(store, wanted.run_id):
        if wanted.tags:  # a rollback has no new evidence: the version keeps the page of its promotion
            store.client.update_model_version(name, champion, _page(store, wanted.run_id))
        store.client.set_tag(wanted.run_id, APPLIED, wanted.at)


def _keep_evidence(store: Store, name: str, version: str, tags: Mapping[str, str]) -> None:
    """Tags of the version; those of an earlier promotion, which say something else, are taken away."""
    known = store.client.get_model_version(name, version).tags if tags else {}
    for key in known:
        if key.startswith(EVIDENCE_TAGS) and key not in tags:
            store.client.delete_model_version_tag(name, version, key)
    for key, value in tags.items():
        store.client.set_model_version_tag(name, version, key, value)


def _page(store: Store, run_id: str) -> str:
    """The description of the promotion's run, as much of it as a version's own may hold."""
    whole = str(store.client.get_run(run_id).data.tags.get(_NOTE, ""))
    more = f"\n\n*The rest is in report.md of the run {run_id}.*"
    return whole if len(whole) <= LONGEST_TEXT else f"{whole[: LONGEST_TEXT - len(more)]}{more}"


def _versions_are_there(store: Store, name: str, one: Aliases) -> bool:
    return _left_of(store, name, one) == one


def _left_of(store: Store, name: str, one: Aliases) -> Aliases:
    """A standing without the versions that were deleted."""
    there = [
        version if version is not None and _version_is_there(store, name, version) else None
        for version in (one.champion, one.previous)
    ]
    return Aliases(*there)


def _version_is_there(store: Store, name: str, version: int) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        store.client.get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code != _ABSENT:
            raise
        return False
    return True


def _was_applied(store: Store, wanted: AliasMove) -> bool:
    """Whether another process carried the move out."""
    if not _run_is_there(store, wanted.run_id):
        return False
    return bool(store.client.get_run(wanted.run_id).data.tags.get(APPLIED) == wanted.at)


def _run_is_there(store: Store, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(store.client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code != _ABSENT:
            raise
        return False


def check_model(store: Store, name: str) -> None:
    """Raise RefError where there is no registered model of that name; the text lists what there is."""
    from mlflow.exceptions import MlflowException

    with refusals(store.uri):
        try:
            store.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != _ABSENT:
                raise
            known = ", ".join(sorted(model.name for model in store.client.search_registered_models(max_results=20)))
            raise RefError(
                name,
                f"no registered model of this name. There are: {known or 'none yet'}. Name a project or its folder.",
            ) from error


CHAMPION, PREVIOUS = "champion", "previous"
PENDING = "tunery.move"
LONGEST_TEXT = 5000  # characters: MLflow's columns on PostgreSQL; SQLite takes more without a word


@dataclass(frozen=True)
class Aliases:
    """Which versions have the two aliases; None where there is none."""

    champion: int | None = None
    previous: int | None = None

    def __str__(self) -> str:
        sides = ((CHAMPION, self.champion), (PREVIOUS, self.previous))
        return " and ".join(f"no {alias}" if version is None else f"{alias} {version}" for alias, version in sides)


@dataclass(frozen=True)
class AliasMove:
    """Aliases as they were and as they shall be.

    Args:
        before: What the decision was made on; if it is not so any more, nothing moves.
        after: What shall be.
        run_id: The run of kind promotion that says why; its description becomes the version's, with the tags.
        at: When, ISO 8601.
        tags: Evidence for the new champion's version, as tags.
    """

    before: Aliases
    after: Aliases
    run_id: str
    at: str
    tags: Mapping[str, str] = field(default_factory=dict)


def as_tag(wanted: AliasMove) -> str:
    """A move as the tag PENDING holds it."""
    return json.dumps(asdict(wanted), ensure_ascii=False)  # \uXXXX would make six characters of a letter


def shortened(wanted: AliasMove) -> AliasMove:
    """The same move with its longest tags cut until it can be written into one tag."""
    tags = dict(wanted.tags)
    for key in sorted(tags, key=lambda one: len(tags[one]), reverse=True):
        over = len(as_tag(replace(wanted, tags=tags))) - LONGEST_TEXT
        if over > 0:
            tags[key] = f"{tags[key][: max(0, len(tags[key]) - over - 1)]}…"
    return replace(wanted, tags=tags)


def pending_of(model: RegisteredModel) -> AliasMove | None:
    """The move that was written down; None where there is none, or it cannot be read."""
    text = model.tags.get(PENDING)
    if text is None:
        return None
    try:
        tree: dict[str, Any] = json.loads(text)
        return AliasMove(**{**tree, **{side: Aliases(**tree[side]) for side in ("before", "after")}})
    except (ValueError, KeyError, TypeError):
        return None


def aliases_of(model: RegisteredModel) -> Aliases:
    """Where the aliases are now."""
    found = {alias: int(version) for alias, version in model.aliases.items() if alias in (CHAMPION, PREVIOUS)}
    return Aliases(found.get(CHAMPION), found.get(PREVIOUS))


def is_between(now: Aliases, left: AliasMove) -> bool:
    """Whether each alias is where it was before the move, or where the move puts it."""
    return now.champion in (left.before.champion, left.after.champion) and now.previous in (
        left.before.previous,
        left.after.previous,
    )

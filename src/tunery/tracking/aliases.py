"""The aliases `champion` and `previous`, which move together or not at all.

MLflow sets one alias at a time. A move is therefore first written down, whole, in one tag of the registered model. From
then on it counts as made, and the next process finishes what one that died left undone. Without that tag no alias has
moved.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from tunery.errors import Overtaken, RefError, TrackingError
from tunery.tracking.entities import description
from tunery.tracking.lock import model_lock
from tunery.tracking.store import Store, refusals
from tunery.tracking.study_runs import finish_child

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

    from tunery.tracking.search import Run

APPLIED = "tunery.promotion.applied"
EVIDENCE_TAGS = "tunery.promotion"  # what all of them begin with
PENDING = "tunery.move"
CHAMPION, PREVIOUS = "champion", "previous"
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
    """Aliases as they were and as they shall be."""

    before: Aliases  # what the decision was made on; if it is not so any more, nothing moves
    after: Aliases
    run_id: str  # the run of kind promotion that says why; its description becomes the version's, with the tags
    at: str  # when, ISO 8601
    tags: Mapping[str, str] = field(default_factory=dict)  # evidence for the new champion's version, as tags


def current_aliases(store: Store, name: str) -> Aliases:
    """Who has the aliases of a registered model; a move that was written down counts, finished or not."""
    model = store.found(store.client.get_registered_model, name)
    if model is None:
        return Aliases()
    move, now = _pending(model), _aliases(model)
    return now if move is None else _settled(store, name, now, move)


def move_aliases(store: Store, name: str, move: AliasMove) -> None:
    """Move the aliases, both or none.

    Raises:
        Overtaken: If the aliases have changed since the decision, or a version was deleted.
        TrackingError: If the store refuses or stops answering. A move that was written down before is finished by the
            next process, and the text says so.
    """
    move = shortened(move)
    with refusals(store.uri), model_lock(store, name):
        _finish(store, name)
        now = _aliases(store.client.get_registered_model(name))
        if now != move.before:
            raise Overtaken(f"{name}: {now} by now, not {move.before}. Another promotion was faster.")
        if _existing(store, name, move.after) != move.after:
            raise Overtaken(f"{name}: a version of {move.after} was deleted meanwhile.")
        store.client.set_registered_model_tag(name, PENDING, as_tag(move))
        try:
            with refusals(store.uri):
                carried_out = _carry_out(store, name, move) or _was_applied(store, move)
        except TrackingError as error:
            advice = "The move is written down and counts: the next tunery promote or rollback finishes it first."
            raise TrackingError(error.where, error.faults, advice) from error
        if not carried_out:
            raise Overtaken(f"{name}: the aliases were set by somebody else while this process stood still.")


def finish_pending(store: Store, name: str) -> AliasMove | None:
    """Finish the move of a process that died in it, and return it; None if there was none to finish."""
    model = store.found(store.client.get_registered_model, name)
    if model is None or PENDING not in model.tags:
        return None
    with refusals(store.uri), model_lock(store, name):  # not before: it may be the move of a process that is alive
        return _finish(store, name)


def check_model(store: Store, name: str) -> None:
    """Raise RefError where there is no registered model of that name; the text lists what there is."""
    if store.found(store.client.get_registered_model, name) is None:
        with refusals(store.uri):
            known = ", ".join(sorted(model.name for model in store.client.search_registered_models(max_results=20)))
        told = f"no registered model of this name. There are: {known or 'none yet'}. Name a project or its folder."
        told = f"{told} {store.where}"
        raise RefError(name, told)


def as_tag(move: AliasMove) -> str:
    """A move as the tag PENDING holds it."""
    return json.dumps(asdict(move), ensure_ascii=False)  # \uXXXX would make six characters of a letter


def shortened(move: AliasMove) -> AliasMove:
    """The same move with its longest tags cut until it can be written into one tag."""
    tags = dict(move.tags)
    for key in sorted(tags, key=lambda one: len(tags[one]), reverse=True):
        over = len(as_tag(replace(move, tags=tags))) - LONGEST_TEXT
        if over > 0:
            tags[key] = f"{tags[key][: max(0, len(tags[key]) - over - 1)]}…"
    return replace(move, tags=tags)


def _aliases(model: RegisteredModel) -> Aliases:
    found = {alias: int(version) for alias, version in model.aliases.items() if alias in (CHAMPION, PREVIOUS)}
    return Aliases(found.get(CHAMPION), found.get(PREVIOUS))


def _pending(model: RegisteredModel) -> AliasMove | None:
    """The move that was written down.

    None if there is none, if it cannot be read, or if an alias is neither where it was before the move nor where the
    move puts it: somebody has set it by hand since, and that is the later word.
    """
    try:
        tree = json.loads(model.tags[PENDING])
        move = AliasMove(**{**tree, "before": Aliases(**tree["before"]), "after": Aliases(**tree["after"])})
    except (ValueError, KeyError, TypeError):
        return None
    now, before, after = _aliases(model), move.before, move.after
    begun = now.champion in (before.champion, after.champion) and now.previous in (before.previous, after.previous)
    return move if begun else None


def _is_pending(store: Store, name: str, move: AliasMove) -> bool:
    """Whether this move, and no other, is still the one to be carried out."""
    return _pending(store.client.get_registered_model(name)) == move


def _finish(store: Store, name: str) -> AliasMove | None:
    """Finish a move that was left, or take it back; return it if it was finished."""
    model = store.client.get_registered_model(name)
    move = _pending(model)
    if move is None:
        if PENDING in model.tags:
            store.client.delete_registered_model_tag(name, PENDING)
        return None
    settled = _settled(store, name, _aliases(model), move)
    if settled != move.after:
        for alias, version in ((PREVIOUS, settled.previous), (CHAMPION, settled.champion)):
            if version is None:
                store.client.delete_registered_model_alias(name, alias)
            else:
                store.client.set_registered_model_alias(name, alias, str(version))
        store.client.delete_registered_model_tag(name, PENDING)
        return None
    if _active_run(store, move.run_id):
        finish_child(store, move.run_id)
    return move if _carry_out(store, name, move) else None


def _settled(store: Store, name: str, now: Aliases, move: AliasMove) -> Aliases:
    """Where the aliases belong: as before, if a version was deleted since and the champion has not moved yet."""
    if _existing(store, name, move.after) == move.after:
        return move.after
    return now if now.champion == move.after.champion else _existing(store, name, move.before)


def _existing(store: Store, name: str, aliases: Aliases) -> Aliases:
    """The aliases without versions that were deleted."""
    there = [
        version if version is not None and store.found(store.client.get_model_version, name, str(version)) else None
        for version in (aliases.champion, aliases.previous)
    ]
    return Aliases(*there)


def _carry_out(store: Store, name: str, move: AliasMove) -> bool:
    """Do what was written down. Every step may be done twice, so that the whole may be begun again.

    Returns:
        False if the move is no longer written down: this process slept past its lease, and another took over.
    """
    # Champion is the last of the two: whoever reads the new one finds the one to go back to in its place.
    for alias, version in ((PREVIOUS, move.after.previous), (CHAMPION, move.after.champion)):
        if not _is_pending(store, name, move):
            return False
        if version is not None:
            store.client.set_registered_model_alias(name, alias, str(version))
        elif getattr(_aliases(store.client.get_registered_model(name)), alias) is not None:
            store.client.delete_registered_model_alias(name, alias)
    _keep_evidence(store, name, move)
    if _is_pending(store, name, move):
        store.client.delete_registered_model_tag(name, PENDING)
    return True


def report_of(run: Run) -> str:
    """A run's report from its score on: a version's page and its list of versions have title and study already."""
    return re.sub(r"\A(\[.*\n+)?# .*\n+(?=\*\*Score)", "", str(run.data.tags.get("mlflow.note.content", "")))


def _keep_evidence(store: Store, name: str, move: AliasMove) -> None:
    """Tag and describe the new champion's version, and mark the promotion's run as carried out.

    The description is the decision, and below it the report of the run that trained the version.

    Tags of an earlier promotion of the version are deleted. A rollback has no tags: the version keeps the evidence and
    the description of its promotion.
    """
    champion, client = str(move.after.champion), store.client
    for key in client.get_model_version(name, champion).tags if move.tags else ():
        if key.startswith(EVIDENCE_TAGS) and key not in move.tags:
            client.delete_model_version_tag(name, champion, key)
    for key, value in move.tags.items():
        client.set_model_version_tag(name, champion, key, value)
    run = _active_run(store, move.run_id)
    if run is None:
        return
    if move.tags:
        trained = client.get_model_version(name, champion).run_id
        reports = [run, *filter(None, [_active_run(store, trained) if trained else None])]
        text = "\n\n".join(report_of(one) for one in reports).strip()
        rest = f"report.md of the run {move.run_id}"
        client.update_model_version(name, champion, description(text, rest=rest, longest=LONGEST_TEXT))
    client.set_tag(move.run_id, APPLIED, move.at)


def _was_applied(store: Store, move: AliasMove) -> bool:
    """Whether another process carried the move out."""
    run = _active_run(store, move.run_id)
    return run is not None and run.data.tags.get(APPLIED) == move.at


def _active_run(store: Store, run_id: str) -> Run | None:
    """The run; None if it was deleted."""
    run = store.found(store.client.get_run, run_id)
    return run if run is not None and run.info.lifecycle_stage == "active" else None

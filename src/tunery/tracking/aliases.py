"""The aliases `champion` and `previous`, which move together or not at all.

MLflow sets one alias at a time. A move is therefore written down first, whole, in one tag of the registered model: from
then on it counts as made, and whoever comes next finishes what a process that died in between left. Without that tag no
alias has moved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tunery.errors import Overtaken, RefError
from tunery.tracking.children import finish_child
from tunery.tracking.store import Store, refusals
from tunery.tracking.turns import turn

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

CHAMPION, PREVIOUS = "champion", "previous"
INTENT = "tunery.move"
APPLIED = "tunery.promotion.applied"
EVIDENCE_TAGS = "tunery.promotion"  # what all of them begin with
_NOTE = "mlflow.note.content"
_LONGEST_PAGE = 5000  # characters: MLflow's columns on PostgreSQL; SQLite takes more without a word


@dataclass(frozen=True)
class Standing:
    """Which versions have the two aliases; None where there is none."""

    champion: int | None = None
    previous: int | None = None


@dataclass(frozen=True)
class Move:
    """Aliases as they were and as they shall be.

    Args:
        before: What the decision was made on; if it is not so any more, nothing moves.
        after: What shall be.
        run_id: The run of kind promotion that says why; its description becomes the version's, with the tags.
        at: When, ISO 8601.
        tags: Evidence for the new champion's version, as tags; below 4,500 characters in all, since the move itself is
            written into one tag.
    """

    before: Standing
    after: Standing
    run_id: str
    at: str
    tags: Mapping[str, str] = field(default_factory=dict)


def standing(store: Store, name: str) -> Standing:
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
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return Standing()
            raise
    intent = _intent_of(model)
    now = _standing_of(model)
    return intent.after if intent is not None and _is_between(now, intent) else now


def move(store: Store, name: str, wanted: Move) -> None:
    """Move the aliases, both or none.

    Raises:
        Overtaken: If the aliases are not any more what the decision was made on; nothing was moved.
        TrackingError: If the store refuses or stops answering. What was written down before is finished by the next.
    """
    with refusals(store.uri), turn(store, name):
        _finish(store, name)
        now = _standing_of(store.client.get_registered_model(name))
        if now != wanted.before:
            raise Overtaken(f"{name}: {_told(now)} by now, not {_told(wanted.before)}. Another promotion was faster.")
        store.client.set_registered_model_tag(name, INTENT, written(wanted))
        _carry_out(store, name, wanted)


def mend(store: Store, name: str) -> Move | None:
    """Finish the move of a process that died in it.

    Returns:
        The move; None where there was none to finish.
    """
    from mlflow.exceptions import MlflowException

    with refusals(store.uri):
        try:
            pending = _intent_of(store.client.get_registered_model(name)) is not None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        if not pending:
            return None
        with turn(store, name):  # not before: it may be the move of a process that is alive
            return _finish(store, name)


def _finish(store: Store, name: str) -> Move | None:
    model = store.client.get_registered_model(name)
    left = _intent_of(model)
    if left is None or not _is_between(_standing_of(model), left) or not _versions_are_there(store, name, left):
        # Written by hand, or an alias was set by hand since, or a version was deleted: that is the later word.
        if INTENT in model.tags:
            store.client.delete_registered_model_tag(name, INTENT)
        return None
    if _run_is_there(store, left.run_id):
        finish_child(store, left.run_id)
    _carry_out(store, name, left)
    return left


def _carry_out(store: Store, name: str, wanted: Move) -> None:
    """Do what was written down. Every step may be done twice, so that the whole may be begun again."""
    client, champion = store.client, str(wanted.after.champion)
    if wanted.after.previous is not None:
        client.set_registered_model_alias(name, PREVIOUS, str(wanted.after.previous))
    # Last of the two: whoever reads the new champion finds the one to go back to in its place.
    client.set_registered_model_alias(name, CHAMPION, champion)
    _keep_evidence(store, name, champion, wanted.tags)
    if _run_is_there(store, wanted.run_id):
        if wanted.tags:  # a rollback has no new evidence: the version keeps the page of its promotion
            client.update_model_version(name, champion, _page(store, wanted.run_id))
        client.set_tag(wanted.run_id, APPLIED, wanted.at)
    client.delete_registered_model_tag(name, INTENT)


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
    return whole if len(whole) <= _LONGEST_PAGE else f"{whole[: _LONGEST_PAGE - len(more)]}{more}"


def _versions_are_there(store: Store, name: str, left: Move) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        for version in filter(None, (left.after.champion, left.after.previous)):
            store.client.get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def _run_is_there(store: Store, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(store.client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def written(wanted: Move) -> str:
    """A move as the tag INTENT holds it."""
    return json.dumps(asdict(wanted))


def _standing_of(model: RegisteredModel) -> Standing:
    found = {alias: int(version) for alias, version in model.aliases.items() if alias in (CHAMPION, PREVIOUS)}
    return Standing(found.get(CHAMPION), found.get(PREVIOUS))


def _intent_of(model: RegisteredModel) -> Move | None:
    text = model.tags.get(INTENT)
    if text is None:
        return None
    try:
        tree: dict[str, Any] = json.loads(text)
        return Move(**{**tree, **{side: Standing(**tree[side]) for side in ("before", "after")}})
    except (ValueError, KeyError, TypeError):
        return None


def _is_between(now: Standing, left: Move) -> bool:
    """Whether each alias is where it was before the move, or where the move puts it."""
    return now.champion in (left.before.champion, left.after.champion) and now.previous in (
        left.before.previous,
        left.after.previous,
    )


def _told(one: Standing) -> str:
    return "there is no champion" if one.champion is None else f"the champion is version {one.champion}"


def check_model(store: Store, name: str) -> None:
    """Raise RefError where there is no registered model of that name; the text lists what there is."""
    from mlflow.exceptions import MlflowException

    with refusals(store.uri):
        try:
            store.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            known = ", ".join(sorted(model.name for model in store.client.search_registered_models(max_results=20)))
            raise RefError(
                name,
                f"no registered model of this name. There are: {known or 'none yet'}. Name a project or its folder.",
            ) from error

"""From adapter.start to an adapter that training can begin with, before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tunery.config.project import Project
from tunery.errors import BaseModelError, Fault, RefError
from tunery.models.start import LOGGED, StartAdapter, base_faults, local_start, read_start, shape_faults, target_faults

if TYPE_CHECKING:
    from tunery.tracking.search import Run
    from tunery.tracking.store import Store


def pinned(project: Project, store: Store, begun: Mapping[str, str] | None = None) -> Project:
    """The project with the version that an alias in adapter.start means now: an alias may move while it trains.

    Args:
        begun: Of a run or study that is resumed: what the alias meant when it began, {"models:/x@best": "models:/x/1"}.

    Raises:
        RefError: If the reference leads nowhere.
    """
    from tunery.tracking.registry import resolve

    start = alias_of(project)
    if start is None:
        return project
    version = (begun or {}).get(start)
    if version is None:
        found = resolve(start, store)
        version = f"models:/{found.name}/{found.version}"
    return project.model_copy(update={"adapter": project.adapter.model_copy(update={"start": version})})


def alias_of(project: Project) -> str | None:
    """adapter.start, if it is an alias and not yet the version that this means."""
    start = project.adapter.start
    return start if start is not None and start.startswith("models:/") and "@" in start else None


def begun_with(run: Run) -> dict[str, str]:
    """What the alias that a run began with meant then, for `pinned`; empty if it began with none."""
    from tunery.tracking.runlog import START_ALIAS

    alias, version = run.data.tags.get(START_ALIAS), run.data.params.get("cfg.adapter.start")
    return {alias: version} if alias and version else {}


def find_start(project: Project, store: Store | None) -> StartAdapter | None:
    """The adapter that training begins with, held against the settings; None where it begins with a new one, or
    nothing is trained.

    Args:
        store: Where references lead; a folder needs none.

    Raises:
        RefError: If the reference leads nowhere, or to a model without an adapter.
        BaseModelError: If the adapter cannot be read, belongs to another base, or is another than the settings make.
    """
    start = project.adapter.start
    if start is None or not project.training.trains:
        return None
    folder = local_start(start, project.folder)
    if folder is None:
        assert store is not None, "a reference is looked up in a store"
        found = _logged(project, start, store)
    else:
        found = _in_folder(project, start, folder)
    faults = [*base_faults(project.base, _revision(project), found), *shape_faults(project.adapter, found)]
    faults = faults or list(_target_faults(project, found))
    if faults:
        raise BaseModelError(f"adapter.start ({start})", faults)
    return found


def check_start(project: Project) -> None:
    """Look adapter.start up and hold it against the settings, for who trains nothing; no store is made for it.

    Raises:
        RefError, BaseModelError: As `pinned` and `find_start`.
    """
    from tunery.tracking.store import connect, is_there, store_address

    start, address = project.adapter.start, store_address(None)
    if start is None:
        return
    if start.startswith(LOGGED) and not is_there(address):
        raise RefError(start, Fault("there is no MLflow store", address, advice="MLFLOW_TRACKING_URI names another."))
    store = connect(None, project.name) if start.startswith(LOGGED) else None
    find_start(project if store is None else pinned(project, store), store)


def _logged(project: Project, start: str, store: Store) -> StartAdapter:
    from tunery.tracking.registry import download, method_of, resolve

    ref = resolve(start, store)
    if method_of(ref, store) == "full":
        raise _no_adapter(start)
    with TemporaryDirectory(prefix="tunery-") as place:
        return _in_folder(project, start, download(ref, Path(place), store), model_id=ref.model_id, run_id=ref.run_id)


def _in_folder(project: Project, start: str, folder: Path, **origin: Any) -> StartAdapter:
    """An adapter that any tool saved; MLmodel beside it says more of its base."""
    from tunery.tracking.flavor.rebuild import read_facts, run_of

    if (folder / "MLmodel").is_file():
        facts = read_facts(folder)
        if facts.method == "full":
            raise _no_adapter(start)
        origin = {"run_id": run_of(folder), **origin, "identity": facts.identity}
    return read_start(folder, start, project.base, **origin)


def _no_adapter(start: str) -> RefError:
    advice = "Export it (tunery export --to merged), and name that folder in base.model."
    return RefError(start, Fault("adapter.start", "an adapter: all weights were trained there", start, advice))


def _revision(project: Project) -> str:
    """Commit or hash of the base; of a hub model no weights are downloaded where the Hub can be reached."""
    from tunery.models.source import check_hub, find_base, local_folder, local_gguf

    base, folder = project.base, project.folder
    here = local_gguf(base.model, folder) or local_folder(base.model, folder)
    commit = None if here else check_hub(base)
    return commit or find_base(base, folder).revision


def _target_faults(project: Project, start: StartAdapter) -> Iterator[Fault]:
    from tunery.estimation.architecture import architecture_of
    from tunery.models.targets import matched_modules

    try:
        model = architecture_of(project.base, project.folder).model
    except BaseModelError:  # an architecture with code of its own: compared when the adapter is put on
        return
    yield from target_faults(project.adapter, matched_modules(model, project.adapter.target_modules), start)

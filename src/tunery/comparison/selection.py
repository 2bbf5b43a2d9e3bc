"""Which runs a comparison is about: found in MLflow by few searches, a page at a time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import TYPE_CHECKING

from tunery.config.load import project_name
from tunery.errors import Fault, InputError, RefError
from tunery.tracking.redact import redact
from tunery.tracking.registry import resolve
from tunery.tracking.store import Store, refusals

if TYPE_CHECKING:
    from mlflow.entities import Run

    from tunery.tracking.store import Store

COMPARED = ("train", "evaluation", "import")
_PAGE = 1000  # runs a request; MLflow's servers refuse more than 50,000
_NAMED_AT_ONCE = 200  # run ids in one filter
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_VERSION = re.compile(r"(models:/)?[^@]+(/\d+|@[^/@]+)")
_REFS = "a run id, runs:/<run id>, models:/<name>/<version> or <name>@<alias>"
_LISTED = 8


@dataclass(frozen=True)
class Selection:
    """What is compared. Values of one field add up, different fields narrow; what is named one by one is added.

    Args:
        projects: The tag tunery.project.
        experiments: Names of experiments; all of them where none is named.
        studies: Names or run ids of studies, whose trials are meant.
        tags: Pairs of tag and value, all of which must agree.
        filter: MLflow's own filter string.
        kinds: tunery.kind; by default train, evaluation and import, for studies trial.
        imported: Imported results, wherever they are.
        runs: Run ids.
        versions: models:/name/3 or name@alias.
    """

    projects: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    filter: str = ""
    kinds: tuple[str, ...] = ()
    imported: bool = False
    runs: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()

    @property
    def names_runs(self) -> bool:
        """Whether runs are named one by one."""
        return bool(self.runs or self.versions)

    @property
    def searches(self) -> bool:
        """Whether runs are searched for: something narrows, or nothing at all is said."""
        narrowed = any((self.projects, self.experiments, self.studies, self.tags, self.filter, self.kinds))
        return narrowed or not (self.names_runs or self.imported)

    def with_refs(self, refs: Sequence[str]) -> Selection:
        """The same with runs and versions added, each by any of its names.

        Args:
            refs: A run id, runs:/<id>, models:/<name>/<version>, <name>/<version> or <name>@<alias>.

        Raises:
            RefError: If one is nothing of these.
        """
        bare = [ref.removeprefix("runs:/").strip("/") for ref in refs]
        runs = [ref for ref in bare if _RUN_ID.fullmatch(ref)]
        versions = [ref for ref in bare if not _RUN_ID.fullmatch(ref)]
        faults = [Fault("the reference", _REFS, ref) for ref in versions if not _VERSION.fullmatch(ref)]
        if faults:
            raise RefError("compare", faults)
        return replace(self, runs=(*self.runs, *runs), versions=(*self.versions, *versions))

    def __str__(self) -> str:
        said = {entry.name: getattr(self, entry.name) for entry in fields(self) if getattr(self, entry.name)}
        return ", ".join(f"{name} {_shown(value)}" for name, value in said.items()) or "all finished runs"


def select(store: Store, selection: Selection) -> Iterator[tuple[Run, bool]]:
    """Every run that is meant, once, and whether it was named.

    Raises:
        InputError: If an experiment, a run or a version is not there, or the filter does not parse.
    """
    seen: set[str] = set()
    found = [(run, True) for run in _named(store, selection)]
    for run, named in (*found, *((run, False) for run in _searched(store, selection))):
        if run.info.run_id not in seen:
            seen.add(run.info.run_id)
            yield run, named


def nothing_found(store: Store, selection: Selection) -> InputError:
    """The error of a selection that no run matches: it says what there is."""
    projects, kinds, known = Counter[str](), Counter[str](), experiments(store)
    for kind in (*COMPARED, "trial"):
        for run in search(store, list(known.values()), [f"tags.`tunery.kind` = '{kind}'", _FINISHED]):
            kinds[kind] += 1
            projects[run.data.tags.get("tunery.project", "none")] += 1
    if not kinds:
        there = "The store holds no finished run. Train one, or bring results in with tunery import."
    else:
        there = (
            f"There are: {_counts(kinds)}; of projects: {_counts(projects)}; "
            f"in experiments: {', '.join(sorted(known)[:_LISTED])}."
        )
    return InputError(f"compare {selection}", Fault("no finished run with a score matches", advice=there))


_FINISHED = "attributes.status = 'FINISHED'"
_PROJECT = "tags.`tunery.project`"


def _searched(store: Store, selection: Selection) -> Iterator[Run]:
    if selection.imported:
        yield from search(store, _experiments(store, ()), ["tags.`tunery.kind` = 'import'", _FINISHED])
    if not selection.searches:
        return
    places = _experiments(store, selection.experiments)
    kinds = selection.kinds or (("trial",) if selection.studies else COMPARED)
    fixed = [_equals(_tag(name), value) for name, value in selection.tags]
    fixed += [selection.filter] if selection.filter else []
    # MLflow's filters know no OR: one search for each combination.
    for kind, project, study in product(kinds, selection.projects or (None,), selection.studies or (None,)):
        clauses = [_equals("tags.`tunery.kind`", kind), _FINISHED, *fixed]
        clauses += [] if project is None else [_equals(_PROJECT, project)]
        clauses += [] if study is None else [_of_study(study)]
        yield from search(store, places, clauses, selection.filter)


def search(store: Store, places: Sequence[str], clauses: Sequence[str], told: str = "") -> Iterator[Run]:
    """Every run of some experiments that all clauses hold of.

    Args:
        store: Where.
        places: Ids of experiments.
        clauses: Of MLflow's filter.
        told: The clause that a person wrote.

    Raises:
        InputError: If what a person wrote does not parse.
        TrackingError: If the store does not answer.
    """
    from mlflow.exceptions import MlflowException

    token = None
    while True:
        with refusals(store.uri):
            try:
                page = store.client.search_runs(
                    list(places), " and ".join(clauses), max_results=_PAGE, page_token=token
                )
            except MlflowException as error:
                if told and error.error_code == "INVALID_PARAMETER_VALUE":
                    raise _bad_filter(told, error) from error
                raise
        yield from page
        token = page.token
        if not token:
            return


def _bad_filter(text: str, error: Exception) -> InputError:
    reason = " ".join(redact(str(error)).split())
    advice = "Such as: metrics.score > 0.8 and params.`cfg.adapter.rank` = '16'."
    return InputError("--filter", Fault(f"{text!r} is no filter of MLflow ({reason})", advice=advice))


def _named(store: Store, selection: Selection) -> list[Run]:
    wanted = [*selection.runs, *(_run_of_version(store, reference) for reference in selection.versions)]
    found: dict[str, Run] = {}
    everywhere = _experiments(store, ()) if wanted else []
    for first in range(0, len(wanted), _NAMED_AT_ONCE):
        ids = ", ".join(f"'{run_id}'" for run_id in wanted[first : first + _NAMED_AT_ONCE])
        found |= {run.info.run_id: run for run in search(store, everywhere, [f"attributes.run_id IN ({ids})"])}
    missing = [run_id for run_id in wanted if run_id not in found]
    if missing:
        recent = ", ".join(run.info.run_id for run in _recent(store, everywhere)) or "none"
        raise RefError("compare", [Fault(f"there is no run {one!r}", f"latest are {recent}") for one in missing])
    return [found[run_id] for run_id in dict.fromkeys(wanted)]


def _recent(store: Store, experiments: Sequence[str]) -> list[Run]:
    with refusals(store.uri):
        return list(store.client.search_runs(list(experiments), _FINISHED, max_results=5))


def _run_of_version(store: Store, reference: str) -> str:
    ref = reference if reference.startswith("models:/") else f"models:/{reference}"
    found = resolve(ref, store)
    if found.run_id is None:
        raise RefError(ref, "this version was registered without a run, so it has no scores. Try tunery evaluate.")
    return found.run_id


def experiments(store: Store) -> dict[str, str]:
    """Ids of all experiments, by name.

    Raises:
        TrackingError: If the store does not answer.
    """
    known: dict[str, str] = {}
    token = None
    with refusals(store.uri):
        while True:
            page = store.client.search_experiments(max_results=_PAGE, page_token=token)
            known |= {experiment.name: str(experiment.experiment_id) for experiment in page}
            token = page.token
            if not token:
                return known


def is_project(store: Store, name: str) -> bool:
    """Whether some run is of a project that is called so."""
    return _any(store, _equals(_PROJECT, name))


def is_study(store: Store, name: str) -> bool:
    """Whether some run is of a study that is called so."""
    return _any(store, _of_study(name))


def _any(store: Store, clause: str) -> bool:
    everywhere = list(experiments(store).values())
    with refusals(store.uri):
        return bool(store.client.search_runs(everywhere, clause, max_results=1))


def _experiments(store: Store, names: Sequence[str]) -> list[str]:
    """Ids of the named experiments, of all where none is named."""
    known = experiments(store)
    unknown = [name for name in names if name not in known]
    if unknown:
        there = ", ".join(sorted(known)[:_LISTED])
        faults = [Fault(f"there is no experiment {name!r}", advice=f"Known are: {there}.") for name in unknown]
        raise InputError("--experiment", faults)
    return [known[name] for name in names] or list(known.values())


def _of_study(study: str) -> str:
    tag = "mlflow.parentRunId" if _RUN_ID.fullmatch(study) else "tunery.study"
    return _equals(f"tags.`{tag}`", study)


def _tag(name: str) -> str:
    """A tag in MLflow's filter, whose names have no escape for their quote."""
    if "`" in name:
        raise InputError(
            "--tag", Fault("the name", "one without a backquote, which MLflow's filters cannot hold", name)
        )
    return f"tags.`{name}`"


def _equals(key: str, value: str) -> str:
    """A clause of MLflow's filter, whose strings have no escape for their quote."""
    if "'" in value and '"' in value:
        raise InputError(key, Fault("the value", "one without both kinds of quotes", value))
    quote = '"' if "'" in value else "'"
    return f"{key} = {quote}{value}{quote}"


def _counts(found: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in found.most_common(_LISTED))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " or ".join("=".join(entry) if isinstance(entry, tuple) else str(entry) for entry in value)
    return "" if value is True else repr(value)


def separated(store: Store, selection: Selection) -> Selection:
    """The same selection; a word is taken at its commas where nothing is called by the whole of it.

    `mlflow run -P project=a,b` gives an option once, and MLflow takes commas in the names of experiments.

    Args:
        store: Says what things are called.
        selection: As a person typed it; projects are names already, where they are not several folders.

    Raises:
        TrackingError: If the store does not answer.
    """
    from tunery.config.load import project_name

    return replace(
        selection,
        projects=_separated(selection.projects, lambda word: is_project(store, word), project_name),
        experiments=_separated(selection.experiments, lambda word: word in experiments(store)),
        studies=_separated(selection.studies, lambda word: is_study(store, word)),
    )


def _separated(
    told: Sequence[str], is_name: Callable[[str], bool], name_of: Callable[[str], str] = str
) -> tuple[str, ...]:
    found: list[str] = []
    for text in told:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        found += [text] if "," not in text or is_name(text) else map(name_of, parts)
    return tuple(found)


def selected(
    refs: Sequence[str],
    *,
    projects: Sequence[str] = (),
    experiments: Sequence[str] = (),
    studies: Sequence[str] = (),
    tags: Sequence[tuple[str, str]] = (),
    filter: str = "",
    kinds: Sequence[str] = (),
    imported: bool = False,
) -> Selection:
    """A selection from what a person types.

    Args:
        refs: Runs and versions, by any of their names.
        projects: Names of projects, or their folders.

    Raises:
        RefError: If a reference is none.
    """
    pass

    names = tuple(project_name(project) for project in projects)
    narrowed = Selection(names, tuple(experiments), tuple(studies), tuple(tags), filter, tuple(kinds), imported)
    return narrowed.with_refs(refs)

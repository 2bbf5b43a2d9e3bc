"""Which runs a comparison is about: found in MLflow by few searches."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import TYPE_CHECKING

from tunery.config.load import project_name
from tunery.errors import Fault, InputError, RefError
from tunery.tracking.registry import resolve
from tunery.tracking.search import FINISHED, experiments, is_tagged, runs_by_id, search_runs
from tunery.tracking.store import Store

if TYPE_CHECKING:
    from tunery.tracking.search import Run

COMPARED = ("train", "evaluation", "import")
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_VERSION = re.compile(r"(models:/)?[^@]+(/\d+|@[^/@]+)")
_REFS = "a run id, runs:/<run id>, models:/<name>/<version> or <name>@<alias>"
_LISTED = 8


@dataclass(frozen=True)
class Selection:
    """What is compared. Values of one field add runs, different fields narrow; runs that are named are added."""

    projects: tuple[str, ...] = ()  # the tag tunery.project
    experiments: tuple[str, ...] = ()  # names of experiments; empty: all
    studies: tuple[str, ...] = ()  # names or run ids of studies, whose trials are meant
    tags: tuple[tuple[str, str], ...] = ()  # pairs of tag and value, all of which must agree
    filter: str = ""  # MLflow's own filter string
    kinds: tuple[str, ...] = ()  # tunery.kind; by default train, evaluation and import, for studies trial
    imported: bool = False  # whether all imported results are added, wherever they are
    runs: tuple[str, ...] = ()  # run ids
    versions: tuple[str, ...] = ()  # models:/name/3 or name@alias

    def __str__(self) -> str:
        texts = []
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                words = ["=".join(entry) if isinstance(entry, tuple) else entry for entry in value]
                texts += [f"{field.name} {' or '.join(words)}"] if words else []
            elif value:
                texts.append(f"{field.name} {'' if value is True else repr(value)}")
        return ", ".join(texts) or "all finished runs"


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
        refs: Runs and versions: a run id, runs:/<id>, models:/<name>/<version>, <name>/<version> or <name>@<alias>.
        projects: Names of projects, or their folders.

    Raises:
        RefError: If one of `refs` is none of these.
    """
    bare = [ref.removeprefix("runs:/").strip("/") for ref in refs]
    runs = tuple(ref for ref in bare if _RUN_ID.fullmatch(ref))
    versions = tuple(ref for ref in bare if not _RUN_ID.fullmatch(ref))
    faults = [Fault("the reference", _REFS, ref) for ref in versions if not _VERSION.fullmatch(ref)]
    if faults:
        raise RefError("compare", faults)
    names, places, hunts = tuple(map(project_name, projects)), tuple(experiments), tuple(studies)
    return Selection(names, places, hunts, tuple(tags), filter, tuple(kinds), imported, runs, versions)


def select(store: Store, selection: Selection) -> Iterator[tuple[Run, bool]]:
    """Every selected run, once, and whether a person named it.

    Raises:
        InputError: If an experiment, a run or a version does not exist, or the filter does not parse.
    """
    named = _named(store, selection)
    yield from ((run, True) for run in named.values())
    seen = set(named)
    for run in _searched(store, selection):
        if run.info.run_id not in seen:
            seen.add(run.info.run_id)
            yield run, False


def _named(store: Store, selection: Selection) -> dict[str, Run]:
    """The runs that a person named, by their ids."""
    wanted = list(selection.runs)
    for version in selection.versions:
        ref = version if version.startswith("models:/") else f"models:/{version}"
        run_id = resolve(ref, store).run_id
        if run_id is None:
            raise RefError(ref, "this version was registered without a run, so it has no scores. Try tunery evaluate.")
        wanted.append(run_id)
    found = runs_by_id(store, wanted)
    missing = [run_id for run_id in wanted if run_id not in found]
    if missing:
        recent = ", ".join(run.info.run_id for run in search_runs(store, FINISHED, limit=5)) or "none"
        raise RefError("compare", [_missing(store, run_id, recent) for run_id in missing])
    return {run_id: found[run_id] for run_id in wanted}


def _missing(store: Store, run_id: str, recent: str) -> Fault:
    """Why a run that was named is not found: it was deleted, or is of another store."""
    if store.found(store.client.get_run, run_id) is not None:
        return Fault(f"run {run_id} was deleted", advice=f"Restore it first: mlflow runs restore --run-id {run_id}")
    return Fault(f"there is no run {run_id!r}", f"latest are {recent}", advice=store.where)


def _searched(store: Store, chosen: Selection) -> Iterator[Run]:
    """Runs that the fields other than `runs` and `versions` find; all runs if nothing at all is given."""
    if chosen.imported:
        yield from search_runs(store, is_tagged("tunery.kind", "import"), FINISHED)
    narrowed = (chosen.projects, chosen.experiments, chosen.studies, chosen.tags, chosen.filter, chosen.kinds)
    if not any(narrowed) and (chosen.imported or chosen.runs or chosen.versions):
        return
    places = _experiment_ids(store, chosen.experiments) if chosen.experiments else None
    kinds = chosen.kinds or (("trial",) if chosen.studies else COMPARED)
    tags = [is_tagged(name, value) for name, value in chosen.tags]
    projects = [is_tagged("tunery.project", name) for name in chosen.projects]
    studies = [_of_study(name) for name in chosen.studies]
    # MLflow's filters know no OR: one search for each combination.
    for kind, *clauses in product(kinds, projects or [""], studies or [""]):
        found = [is_tagged("tunery.kind", kind), FINISHED, *tags, *filter(None, clauses)]
        yield from search_runs(store, *found, within=places, user_filter=chosen.filter)


def _experiment_ids(store: Store, names: Sequence[str]) -> list[str]:
    known = experiments(store)
    unknown = [name for name in names if name not in known]
    if unknown:
        there = ", ".join(sorted(known)[:_LISTED])
        faults = [Fault(f"there is no experiment {name!r}", advice=f"Known are: {there}.") for name in unknown]
        raise InputError("--experiment", faults)
    return [known[name] for name in names]


def nothing_found(store: Store, selection: Selection) -> InputError:
    """The error for a selection that matches no run: it lists what the store holds."""
    projects, kinds = Counter[str](), Counter[str]()
    for kind in (*COMPARED, "trial"):
        for run in search_runs(store, is_tagged("tunery.kind", kind), FINISHED):
            kinds[kind] += 1
            projects[run.data.tags.get("tunery.project", "none")] += 1
    advice = f"The store holds no finished run. Train one, or bring results in with tunery import. {store.where}"
    if kinds:
        there, of = (
            ", ".join(f"{name} ({count})" for name, count in found.most_common(_LISTED)) for found in (kinds, projects)
        )
        places = ", ".join(sorted(experiments(store))[:_LISTED])
        advice = f"There are: {there}; of projects: {of}; in experiments: {places}. {store.where}"
    return InputError(f"compare {selection}", Fault("no finished run with a score matches", advice=advice))


# ---- names with commas


def split_at_commas(store: Store, selection: Selection) -> Selection:
    """The same selection with each word split at its commas, unless the whole word is a name that the store knows.

    `mlflow run -P project=a,b` passes an option once, and MLflow allows commas in the names of experiments. A project
    may also be a folder.
    """
    return replace(
        selection,
        projects=_split(selection.projects, lambda word: is_project(store, word), project_name),
        experiments=_split(selection.experiments, lambda word: word in experiments(store)),
        studies=_split(selection.studies, lambda word: is_study(store, word)),
    )


def _split(
    words: Sequence[str], is_name: Callable[[str], bool], name_of: Callable[[str], str] = str
) -> tuple[str, ...]:
    found: list[str] = []
    for word in words:
        parts = [part.strip() for part in word.split(",") if part.strip()]
        found += [word] if "," not in word or is_name(word) else map(name_of, parts)
    return tuple(found)


def is_project(store: Store, name: str) -> bool:
    """Whether a run belongs to a project of this name."""
    return any(search_runs(store, is_tagged("tunery.project", name), limit=1))


def is_study(store: Store, name: str) -> bool:
    """Whether a run belongs to a study of this name."""
    return any(search_runs(store, _of_study(name), limit=1))


def _of_study(study: str) -> str:
    return is_tagged("mlflow.parentRunId" if _RUN_ID.fullmatch(study) else "tunery.study", study)

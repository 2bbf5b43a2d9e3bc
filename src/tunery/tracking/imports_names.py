"""What of imported runs a store would refuse, or silently keep one of: told before the first is kept."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

from tunery.errors import Fault
from tunery.tracking.gateway import entity_name
from tunery.tracking.imports import Imported, metric_values, param_values

_LONGEST = 250  # characters of a name; MLflow refuses longer ones
_LISTED = 8
_PREFIXES = ("import.", "task.", "lm_eval/")


def lost_in_store(runs: Sequence[Imported]) -> list[Fault]:
    """Faults of runs that were read from one file.

    Args:
        runs: All of the file.

    Returns:
        Of names that MLflow does not take or would mix up, and of runs that a comparison could not tell apart.
    """
    params = {key: None for run in runs for key in param_values(run)}
    metrics = {key: None for run in runs for key in metric_values(run)}
    faults = [*_names(params), *_names(metrics)]
    return [*dict.fromkeys(faults), *_twins(runs)]


def _names(keys: Iterable[str]) -> Iterable[Fault]:
    alike: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        alike[entity_name(key)].append(key)
    for name, theirs in alike.items():
        words = [_of_source(key) for key in theirs]
        word = words[0]
        if len(words) > 1:
            yield Fault(
                f"MLflow would take {' and '.join(map(repr, words))} for one name", advice="Rename all but one."
            )
        if len(name) > _LONGEST:
            yield Fault("a name", f"at most {_LONGEST - len(name) + len(word)} characters long", word, "Shorten it.")
        if posixpath.normpath(name) != name or name.startswith(("/", "..")):
            yield Fault("a name", "without empty parts and dots between its slashes", word, "Rename it.")


def _of_source(key: str) -> str:
    """The source's own words: a column, a task, a task's metric."""
    prefix = next((prefix for prefix in _PREFIXES if key.startswith(prefix)), "")
    return key.removeprefix(prefix)


def _twins(runs: Sequence[Imported]) -> Iterable[Fault]:
    """Repetitions without a number: a comparison takes the latest of a configuration and seed, and drops the others."""
    groups: dict[Hashable, list[Imported]] = defaultdict(list)
    for run in runs:
        settings = {key: value for key, value in param_values(run).items() if key.startswith("import.")}
        if run.method == "none":
            settings.pop("import.seed", None)  # a bare model has none
        told = (run.base, run.base_revision, run.method, run.trained_on)
        groups[told, tuple(sorted(settings.items()))].append(run)
    for name, group in ((group[0].name, group) for group in groups.values() if len(group) > 1):
        places = ", ".join(run.source for run in group[:_LISTED])
        yield Fault(
            f"{len(group)} runs are called {name!r} and differ in no setting and no seed ({places})",
            advice="Number repetitions in a column seed, or give each row a name of its own.",
        )

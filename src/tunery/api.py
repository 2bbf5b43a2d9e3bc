"""tunery from Python: what the commands do, as functions, for notebooks and scripts.

A first run, scored again, compared and made the champion; then a second one, and the way back:

```python
import tunery

project = tunery.load_project("projects/quickstart", {"training.epochs": 1})
needed = tunery.estimate(project)
print(f"{needed.memory.total_bytes / 2**30:.1f} GiB needed, {needed.available_bytes / 2**30:.1f} GiB available")

first = tunery.train(project)
again = tunery.evaluate(f"models:/{first.model_version}")
leaderboard = tunery.compare(first.run_id, again.run_id)
tunery.promote(f"models:/{first.model_version}")

second = tunery.train(tunery.load_project("projects/quickstart", {"training.seed": 1}))
tunery.promote(f"models:/{second.model_version}", force="to try a rollback")
assert tunery.rollback(project.name) == 1  # the version that is the champion again
```

A study:

```python
import pandas
import tunery

study = tunery.tune("projects/quickstart", trials=2)
trials = pandas.DataFrame(study.trials)
best = study.model_version
```

Every function raises a `tunery.errors.TuneryError` where its command exits with another code than 0. Arguments that
several functions have mean the same in each:

- `project`: a project, or the folder of one.
- `overrides`: values by dotted key, laid over the settings: `{"adapter.rank": 32, "data.train.0.source": "rows.csv"}`.
- `run_name`: the name of the run in MLflow.
- `tracking_uri`: the MLflow store; by default `MLFLOW_TRACKING_URI`, else `./mlflow.db`.
- `observer`: is shown the progress; nothing is printed by default. Pass a `tunery.cli.terminal.Terminal()` to see what
  the command shows, or an instance of your own subclass of `tunery.runs.observer.Observer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunery.runs.observer import Observer, StudyObserver

if TYPE_CHECKING:
    import pandas as pd

    from tunery.config.project import Project
    from tunery.estimation.command import EstimatedRun
    from tunery.promotion.report import Verdict
    from tunery.records.runs import RunRecord
    from tunery.records.studies import StudyRecord


def load_project(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Project:
    """Read a project.yaml and check all of it.

    Args:
        path: A project.yaml, or the folder that holds one.

    Returns:
        The project; it cannot be changed.

    Raises:
        tunery.errors.ConfigError: With every fault of the file and of the overrides.
    """
    from tunery.config.load import load_project as load

    return load(path, _pairs(overrides))


def train(
    project: Project | str | Path,
    *,
    run_name: str | None = None,
    resume: str | None = None,
    tracking_uri: str | None = None,
    observer: Observer | None = None,
) -> RunRecord:
    """Train one adapter, score it beside its base, and register it, as `tunery train` does.

    Args:
        resume: Id of an interrupted run to resume.

    Returns:
        The run: `run_id`, `model_version` ("name/3"), and the results of base and tuned model by task.

    Raises:
        tunery.errors.InputError: If something that was given cannot be used.
        tunery.errors.RunStopped: If the run had begun and did not end well.

    Example:
        ```python
        run = tunery.train("projects/quickstart")
        run.tuned["world_facts"].scores["acc"].value
        ```
    """
    from tunery.runs.train import train as run

    return run(_loaded(project), observer or Observer(), tracking_uri=tracking_uri, run_name=run_name, resume=resume)


def tune(
    project: Project | str | Path,
    *,
    study: str | None = None,
    trials: int | None = None,
    timeout_seconds: float | None = None,
    workers: int = 1,
    executor: Literal["local", "ray"] = "local",
    address: str | None = None,
    gpus_per_worker: float | None = None,
    storage: str | None = None,
    run_name: str | None = None,
    tracking_uri: str | None = None,
    observer: StudyObserver | None = None,
) -> StudyRecord:
    """Search a project's settings, as `tunery tune` does; an existing study is resumed.

    Args:
        study: Name of the study; by default the project's.
        trials: Trials in total; by default search.trials.
        timeout_seconds: For the whole search.
        workers: Processes on this host, or Ray actors.
        executor: Where the workers run.
        address: Of the Ray cluster; by default the one on this host.
        gpus_per_worker: On Ray; by default one if the cluster has any.
        storage: Optuna's storage; by default search.storage, else ./optuna.db.
        run_name: Name of the study's run in MLflow; by default the study's name.

    Returns:
        The study with its trials, finalists and winner; `pandas.DataFrame(record.trials)` is the table of trials.

    Raises:
        tunery.errors.InputError: If the project, the study or a store cannot be used.
        tunery.errors.Interrupted: If it was stopped; the same call resumes it.
    """
    from tunery.search.session import StudyOptions
    from tunery.search.tune import tune as run

    options = StudyOptions(
        study=study,
        trials=trials,
        timeout_seconds=timeout_seconds,
        workers=workers,
        storage=storage,
        tracking_uri=tracking_uri,
        run_name=run_name,
        executor=executor,
        address=address,
        gpus_per_worker=gpus_per_worker,
    )
    return run(_loaded(project), options, observer or StudyObserver())


def evaluate(
    ref: str,
    *,
    project: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    run_name: str | None = None,
    tracking_uri: str | None = None,
    observer: Observer | None = None,
) -> RunRecord:
    """Score a model beside its base, as `tunery evaluate` does.

    Args:
        ref: models:/name@alias, models:/name/3, runs:/id, an adapter folder, a model folder, a hub id, or builtin:tiny.
        project: Folder of a project whose evaluation settings are used; by default those of the model's training.

    Returns:
        The run, with the results of base and model by task; `tuned` is empty for a model without an adapter.

    Raises:
        tunery.errors.InputError: If the reference leads nowhere, or the settings cannot be used.

    Example:
        ```python
        run = tunery.evaluate("builtin:tiny", overrides={"evaluation.tasks": ["world_facts"]})
        run.base["world_facts"].scores["acc"].value
        ```
    """
    from tunery.runs.evaluate import evaluate as run

    settings = None if project is None else str(project)
    watched = observer or Observer()
    return run(ref, settings, _pairs(overrides), watched, tracking_uri=tracking_uri, run_name=run_name)


def compare(
    *refs: str,
    project: str | Sequence[str] = (),
    experiment: str | Sequence[str] = (),
    study: str | Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    filter: str = "",
    imported: bool = False,
    confidence: float = 0.95,
    seed: int = 0,
    tested: int = 50,
    record: bool = False,
    any_template: bool = False,
    tracking_uri: str | None = None,
) -> pd.DataFrame:
    """Rank runs across datasets and tasks, as `tunery compare` does.

    Several values of one argument add runs, different arguments narrow the choice, and `refs` are added to it. Without
    any, all finished runs of the store are compared.

    Args:
        refs: Run ids, runs:/<id>, models:/<name>/<version>, <name>@<alias>.
        project: Names of projects or their folders.
        experiment: Names of MLflow experiments.
        study: Names or run ids of studies, whose trials are compared.
        tags: MLflow tags; all must agree.
        filter: MLflow's own filter string: "metrics.score > 0.8".
        imported: Add everything that `tunery import` brought in.
        confidence: Of every interval and every "better".
        seed: Of the permutation tests.
        tested: How many of the best configurations are tested against one another.
        record: Whether the comparison is kept as a run in MLflow.
        any_template: Rank scores together that were asked through different chat templates.

    Returns:
        One row a configuration; on each leaderboard the best comes first.

    Raises:
        tunery.errors.InputError: If nothing matches, or nothing can be ranked.
    """
    from tunery.comparison.compare import CompareOptions, compare_runs
    from tunery.comparison.report.tables import frame
    from tunery.comparison.selection import selected

    selection = selected(
        refs,
        projects=_several(project),
        experiments=_several(experiment),
        studies=_several(study),
        tags=tuple((tags or {}).items()),
        filter=filter,
        imported=imported,
    )
    options = CompareOptions(confidence, seed, tested, curves=record, record=record, any_template=any_template)
    return frame(compare_runs(selection, options, Observer(), tracking_uri=tracking_uri))


def promote(
    ref: str,
    *,
    project: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    force: str | None = None,
    run_name: str | None = None,
    tracking_uri: str | None = None,
    observer: Observer | None = None,
) -> Verdict | None:
    """Make a model the champion if it passes every gate, as `tunery promote` does.

    Args:
        ref: models:/name/3, models:/name@alias, runs:/id, a run id, a study's run id, or a study's name.
        project: Folder of a project whose rules are used; by default those of the model's training.
        dry_run: Judge, and change nothing: no run, no alias, no version.
        force: The reason to move the alias whatever the gates say; recorded.

    Returns:
        The verdict with its evidence; None if the model is the champion already.

    Raises:
        tunery.errors.Refused: If a gate refused it; no alias moved.
        tunery.errors.InputError: If the reference, its run or the rules cannot be used; nothing was changed.

    Example:
        ```python
        verdict = tunery.promote("models:/quickstart/1", overrides={"promotion.min_gain": 0.01})
        verdict.word, verdict.decision
        ```
    """
    from tunery.promotion.promote import promote as judge

    return judge(
        ref,
        None if project is None else str(project),
        _pairs(overrides),
        observer or Observer(),
        dry_run=dry_run,
        force=force,
        tracking_uri=tracking_uri,
        run_name=run_name,
    )


def rollback(
    project: str | Path,
    *,
    reason: str = "",
    run_name: str | None = None,
    tracking_uri: str | None = None,
    observer: Observer | None = None,
) -> int:
    """Make the previous champion the champion again, as `tunery rollback` does; a second rollback undoes the first.

    Args:
        project: Folder of a project, or a registered model's name.
        reason: Why; recorded.

    Returns:
        The version that is the champion now.

    Raises:
        tunery.errors.RefError: If there is no such model or no previous champion; nothing was changed.
    """
    from tunery.promotion.rollback import rollback as restore

    return restore(str(project), observer or Observer(), reason=reason, tracking_uri=tracking_uri, run_name=run_name)


def estimate(
    project: Project | str | Path | None = None,
    *,
    base: str | None = None,
    memory: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> EstimatedRun:
    """How much memory a run needs, and the largest run that fits, as `tunery estimate` counts them.

    Counted from the base's config alone: no weights are loaded or downloaded.

    Args:
        project: A project, or its folder; without one, the default settings on `base`.
        base: Hub id, local folder or builtin:tiny instead of the project's base.
        memory: Of a CUDA card, here or not: "24 GiB"; by default what this machine has.

    Returns:
        The estimate; `memory.total_bytes` is what a run needs, `largest` the largest run that fits.

    Raises:
        tunery.errors.ConfigError: If the project, an override or `memory` breaks a rule, or nothing is named.
        tunery.errors.BaseModelError: If the base is missing or its architecture unknown, or adapter.start does not fit.

    Example:
        ```python
        needed = tunery.estimate("projects/quickstart", memory="8 GiB")
        needed.memory.total_bytes, needed.largest.micro_batch_size
        ```
    """
    from tunery.estimation.command import estimate_run, settings_of
    from tunery.runs.start import check_start

    chosen = {} if base is None else {"base.model": base}
    if project is None:
        settings = settings_of(None, base, _pairs(overrides))
    else:
        settings = _loaded(project, {**chosen, **(overrides or {})})
    check_start(settings)
    return estimate_run(settings, memory)


def _loaded(project: Project | str | Path, overrides: Mapping[str, Any] | None = None) -> Project:
    from tunery.config.load import load_project as load
    from tunery.config.load import project_from
    from tunery.config.project import resolved

    if isinstance(project, str | Path):
        return load(project, _pairs(overrides))
    if not overrides:
        return project
    return project_from(resolved(project), project.name, project.folder, _pairs(overrides))


def _pairs(overrides: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Values as the YAML that a command line would give; YAML reads 2e-05 as a text, and `safe_dump` knows that."""
    import yaml

    return [(key, yaml.safe_dump(value, default_flow_style=True)) for key, value in (overrides or {}).items()]


def _several(value: str | Sequence[str]) -> tuple[str, ...]:
    return ((value,) if value else ()) if isinstance(value, str) else tuple(value)

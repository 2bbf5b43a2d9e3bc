"""A finished run's results into MLflow, the registry and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tunery.config.project import Project
from tunery.records import AdapterFacts, Generation, RunRecord, TaskResult
from tunery.runs.observer import Observer

if TYPE_CHECKING:
    from tunery.tracking.flavor.adapters import LoggedAdapter
    from tunery.tracking.run import Tracker


def publish(
    project: Project,
    record: RunRecord,
    generations: Sequence[Generation],
    logged: LoggedAdapter,
    tracker: Tracker,
    observer: Observer,
) -> RunRecord:
    """Log all that a person judges the run by, and make its adapter the next version of the project's model."""
    from tunery.runs.report.tables import run_table
    from tunery.tracking.provenance import collect
    from tunery.tracking.registry import register

    log_scores(project, record, tracker, logged.model_id)
    log_answers(record, generations, tracker)
    log_pictures(record, tracker)
    if record.adapter is not None:
        _log_adapter_facts(record.adapter, tracker)
    tracker.log_provenance(collect(project.folder))

    finish(record, tracker)
    tracker.flush()
    # Last of all that can fail: a version of a FAILED run would pass for a good one. Then the report once more, which
    # can name it now.
    version = register(tracker, logged, project.name)
    record = replace(record, model_version=f"{project.name}/{version}")
    finish(record, tracker)
    observer.show(run_table(record))
    observer.step(f"registered as models:/{record.model_version}")
    return record


def log_scores(project: Project, record: RunRecord, tracker: Tracker, model_id: str | None = None) -> dict[str, float]:
    """Metrics and samples. `score` is the mean on the items that nothing was chosen on.

    Returns:
        The metrics, by name.
    """
    from tunery.evaluation.result import headline

    before, after = (
        headline(_on_split(results, record.split), project.evaluation) for results in (record.base, record.tuned)
    )
    step = record.trained.kept_step if record.trained else 0
    logged = tracker.log_scores(record.base, record.tuned, score=after, base_score=before, step=step, model_id=model_id)
    if not record.tuned:
        # A bare model stands in one table with tuned ones, which are sorted by score; it has no gain over itself.
        logged |= tracker.log_scores({}, record.base, score=before, step=step, model_id=model_id)
    scored = record.tuned or record.base
    # A study's trials are chosen on dev items; a checkpoint that was chosen on them leaves its run the locked ones.
    logged |= _log_locked(_on_split(scored, "locked"), tracker) if record.split == "locked" else {}
    tracker.log_tasks(scored, asked=record.shown, counted=record.primary, split=record.split)
    tracker.tag(**{"tunery.base_revision": record.identity.revision})
    tracker.log_samples(scored)
    return logged


def _log_locked(results: Mapping[str, TaskResult], tracker: Tracker) -> dict[str, float]:
    """locked/<task>/<metric> with its error: scores on the items that nothing was chosen on."""
    values = {
        f"locked/{task}/{name}{ending}": value
        for task, result in results.items()
        for name, score in result.scores.items()
        for ending, value in (("", score.value), ("_stderr", score.stderr))
        if value is not None
    }
    tracker.log_metrics(values)
    return values


def _on_split(results: Mapping[str, TaskResult], split: str) -> dict[str, TaskResult]:
    from tunery.evaluation.result import restrict

    # A trial's results hold dev items only.
    return (
        {name: restrict(result, "locked") for name, result in results.items()} if split == "locked" else dict(results)
    )


def log_answers(record: RunRecord, generations: Sequence[Generation], tracker: Tracker) -> None:
    """Text metrics, and the answers side by side as an MLflow table and as a spreadsheet."""
    from tunery.evaluation.spreadsheet import write_spreadsheet

    if not generations:
        return
    tracker.log_metrics({**record.tuned_text, **{f"base/{name}": value for name, value in record.base_text.items()}})
    tracker.log_generations(generations)
    with TemporaryDirectory(prefix="tunery-") as folder:
        tracker.log_artifact(write_spreadsheet(generations, Path(folder) / "generations.xlsx"))


def log_pictures(record: RunRecord, tracker: Tracker) -> None:
    """plots/loss.png, plots/scores.png, and plots/score_against_loss.png where checkpoints were scored."""
    from tunery.runs.report.plots import loss_plot, score_against_loss_plot, scores_plot
    from tunery.statistics.paired import compare_tasks

    figures = {"scores": scores_plot(compare_tasks(record.base, record.tuned, record.shown, record.split))}
    if record.trained is not None and record.trained.history:
        figures["loss"] = loss_plot(record.trained.history, record.trained.kept_step)
        figures["score_against_loss"] = score_against_loss_plot(record.trained.history)
    for name, figure in figures.items():
        if figure is not None:
            tracker.log_figure(figure, f"plots/{name}.png")


def finish(record: RunRecord, tracker: Tracker, before: str = "") -> None:
    """report.md, which is also the run's description.

    Args:
        before: Markdown that stands above the report.
    """
    from tunery.runs.report.markdown import run_report

    tracker.set_description(before + run_report(record))


def _log_adapter_facts(facts: AdapterFacts, tracker: Tracker) -> None:
    tracker.log_metrics(
        {
            "adapter/trainable_parameters": facts.trainable_parameters,
            "adapter/total_parameters": facts.total_parameters,
            "adapter/modules": len(facts.modules),
        }
    )
    tracker.log_text("\n".join([*facts.modules, ""]), "adapter/modules.txt")

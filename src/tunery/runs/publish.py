"""A finished run's results: to MLflow, to the registry and to the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tunery.config.project import Project
from tunery.records.runs import Generation, RunRecord
from tunery.runs.observer import Observer
from tunery.runs.scoring import Results, on_split

if TYPE_CHECKING:
    from tunery.tracking.registry import ModelRef
    from tunery.tracking.run import Tracker


def publish(
    project: Project,
    record: RunRecord,
    generations: Sequence[Generation],
    logged: ModelRef | None,
    tracker: Tracker,
    observer: Observer,
) -> RunRecord:
    """Log scores, answers, plots and the report, then register the adapter, if any, as the project's next version."""
    from tunery.runs.report.tables import run_table
    from tunery.tracking.event_files import how_to_look
    from tunery.tracking.registry import register

    log_scores(project, record, tracker, logged.model_id if logged is not None else None)
    log_answers(record, generations, tracker)
    log_plots(record, tracker)
    if (facts := record.adapter) is not None:
        tracker.log_constants({"total_parameters": facts.total_parameters, "adapted_modules": len(facts.modules)})
        tracker.log_text("\n".join([*facts.modules, ""]), "adapter/modules.txt")

    finish(record, tracker)
    tracker.flush()
    if logged is not None:
        # The last step that can fail: a version of a FAILED run would look like a good one. Then the report is written
        # again, with the version in it.
        version = register(tracker, logged, project.name)
        record = replace(record, model_version=f"{project.name}/{version}")
        finish(record, tracker)
    observer.show(run_table(record))
    adapter = (
        f"registered as models:/{record.model_version}"
        if logged
        else "nothing was trained, so no version is registered"
    )
    observer.step(adapter)
    tell_where(tracker, observer)
    if record.trained is not None and project.training.tensorboard:
        observer.step(f"its curves: {how_to_look(tracker.store, tracker.run_id)}")
    chat = f"tunery chat models:/{record.model_version}, or " if logged else ""
    observer.step(f"next: {chat}tunery compare --project {project.name}")
    return record


def tell_where(tracker: Tracker, observer: Observer) -> None:
    """Where a run that has ended is kept: its report, and its page."""
    from tunery.tracking.links import where_kept

    observer.step(f"kept as run {tracker.run_id}, with the report in report.md")
    observer.step(where_kept(tracker.store, tracker.experiment_id, tracker.run_id))


def log_scores(project: Project, record: RunRecord, tracker: Tracker, model_id: str | None = None) -> dict[str, float]:
    """Log metrics and samples. `score` is the mean over the items that nothing was chosen on.

    Returns:
        The metrics, by name.
    """
    from tunery.evaluation.result import headline

    before, after = (
        headline(_counted(results, record.split), project.evaluation) for results in (record.base, record.tuned)
    )
    step = record.trained.kept_step if record.trained else 0
    logged = tracker.log_scores(record.base, record.tuned, score=after, base_score=before, step=step, model_id=model_id)
    if not record.tuned:
        # A bare model shares a table with tuned ones, which are sorted by score; it has no gain over itself.
        logged |= tracker.log_scores({}, record.base, score=before, step=step, model_id=model_id)
    scored = record.tuned or record.base
    # A checkpoint that was chosen on dev items is reported on the locked ones.
    logged |= _log_locked(_counted(scored, "locked"), tracker) if record.split == "locked" else {}
    logged |= _log_parent(record, headline(_counted(record.parent, record.split), project.evaluation), after, tracker)
    template = record.identity.details.get("template")
    tracker.log_tasks(scored, asked=record.shown, counted=record.primary, split=record.split, template=template)
    tracker.tag(**{"tunery.base_revision": record.identity.revision})
    tracker.log_samples(scored)
    return logged


def _log_locked(results: Results, tracker: Tracker) -> dict[str, float]:
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


def _log_parent(record: RunRecord, parent: float | None, score: float | None, tracker: Tracker) -> dict[str, float]:
    """parent/<task>/<metric> of the adapter that training began with, its score, and over_parent/score."""
    if not record.parent:
        return {}
    asked = [(task, metric) for task, metric in record.shown.items() if task in record.parent]
    scores = {f"parent/{task}/{metric}": record.parent[task].scores.get(metric) for task, metric in asked}
    values = {name: score.value for name, score in scores.items() if score is not None}
    if parent is not None and score is not None:
        values |= {"parent/score": parent, "over_parent/score": score - parent}
    tracker.log_metrics(values)
    return values


def _counted(results: Results, split: str) -> Results:
    return on_split(results, "locked") if split == "locked" else results  # a trial's hold dev items only


def log_answers(record: RunRecord, generations: Sequence[Generation], tracker: Tracker) -> None:
    """Log text metrics, and the answers side by side as an MLflow table and as a spreadsheet."""
    from tunery.reporting.workbook import write_workbook

    if not generations:
        return
    tracker.log_metrics({**record.tuned_text, **{f"base/{name}": value for name, value in record.base_text.items()}})
    tracker.log_generations(generations)
    headings = ("prompt", "reference", "base", "tuned")
    rows = [headings, *([getattr(one, heading) for heading in headings] for one in generations)]
    with TemporaryDirectory(prefix="tunery-") as folder:
        tracker.log_artifact(write_workbook({"generations": rows}, Path(folder) / "generations.xlsx"))


def log_plots(record: RunRecord, tracker: Tracker) -> None:
    """Log plots/loss.png, plots/scores.png; score_against_loss.png if checkpoints were scored; divergence.png."""
    from tunery.runs.report.plots import divergence_plot, loss_plot, score_against_loss_plot, scores_plot
    from tunery.statistics.paired import compare_tasks

    base, parent = (
        compare_tasks(before, record.tuned, record.shown, record.split) for before in (record.base, record.parent)
    )
    figures = {"scores": scores_plot(base, {pair.task: pair.base for pair in parent}, record.side)}
    if record.trained is not None and record.trained.history:
        figures["loss"] = loss_plot(record.trained.history, record.trained.kept_step)
        figures["score_against_loss"] = score_against_loss_plot(record.trained.history)
        figures["divergence"] = divergence_plot(record.trained.history, record.trained.kept_step)
    for name, figure in figures.items():
        if figure is not None:
            tracker.log_figure(figure, f"plots/{name}.png")


def finish(record: RunRecord, tracker: Tracker, before: str = "") -> None:
    """Log report.md, which is also the run's description, below the Markdown `before`."""
    from tunery.runs.report.markdown import run_report

    tracker.set_description(before + run_report(record))

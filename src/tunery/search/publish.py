"""A study's report, table, plots and own numbers, logged to its run in MLflow."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import quote

import optuna

from tunery.records import StudyRecord
from tunery.search.report.facts import mean, means, winner_of
from tunery.search.report.plots import study_figures, study_page

if TYPE_CHECKING:
    from tunery.tracking.run import Tracker


def publish_study(study: optuna.Study, record: StudyRecord, tracker: Tracker) -> None:
    """Report, table and plots into the study's run."""
    from tunery.search.report.markdown import study_report
    from tunery.search.report.tables import trials_table

    runs = f"#/experiments/{tracker.experiment_id}/runs"
    tracker.set_description(study_report(record, lambda run_id: f"{runs}/{run_id}", _version_page))
    tracker.log_table(trials_table(record).astype(object), "trials.json")
    tracker.log_metrics(_metrics(record))
    if record.winner is not None:
        tracker.tag(**{"tunery.winner": str(record.winner)})
    with TemporaryDirectory(prefix="tunery-") as place:
        csv = Path(place) / "trials.csv"
        trials_table(record).to_csv(csv, index=False)
        tracker.log_artifact(csv)
    figures = study_figures(study, record)
    for name, figure in figures.items():
        tracker.log_figure(figure.picture, f"plots/{name}.png")
    if figures:
        tracker.log_text(study_page(figures, record.name), "plots/study.html")


def _version_page(version: str) -> str:
    """Address of the page of "name/3" in MLflow."""
    name, _, number = version.rpartition("/")
    return f"#/models/{quote(name, safe='')}/versions/{number}"


def _metrics(record: StudyRecord) -> dict[str, float]:
    """The study's own numbers, for the table of studies in MLflow."""
    winner = winner_of(record)
    chosen_by = means(winner, record.objectives) if winner else {}
    states = Counter(row.state for row in record.trials)
    values = {
        **{f"winner/{name}": value for name, value in chosen_by.items() if name != "score"},
        **{f"trials/{state}": float(states[state]) for state in ("complete", "pruned", "failed")},
        "base/locked/score": record.base_locked,
        "winner/dev/score": mean(winner.dev) if winner and winner.dev else None,
        "locked/score": mean(winner.locked) if winner and winner.locked else None,
        "locked/gain_over_base": record.over_base.value if record.over_base else None,
        "locked/gain_over_own": record.over_own.value if record.over_own else None,
    }
    return {name: value for name, value in values.items() if value is not None}

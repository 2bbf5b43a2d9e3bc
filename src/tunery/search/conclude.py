"""The end of a study: a winner, the locked items looked at once, a registered version, a report in MLflow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import optuna
from optuna.trial import FrozenTrial

from tunery.config.project import Project
from tunery.records import Difference, Finalist, StudyRecord, TaskResult, TrialRow
from tunery.runs.locked import locked_base, primary_of, score_locked
from tunery.search.finals import finalists, seeded, winner_among
from tunery.search.report.facts import losses, mean, means, seeds_of, winner_of
from tunery.search.report.plots import study_figures, study_page
from tunery.search.sampling.pruners import prunes
from tunery.search.space.checks import pruner_note
from tunery.search.study.progress import ELAPSED
from tunery.search.study.rows import best_of, rows
from tunery.search.workers.worker import Worker
from tunery.statistics.paired import compare_scores

if TYPE_CHECKING:
    from tunery.tracking.run import Tracker

Locked = Mapping[int, Sequence[Mapping[str, TaskResult]]]

# User attributes of the study.
VERSION, LOOKS, RUN = "model_version", "locked_sets", "run"
_RECORD = "record"
# Optuna keeps an attribute as JSON in a column of type TEXT, which in MySQL takes 65 535 bytes; escaping a character of
# JSON within JSON makes two of it at most.
_LONGEST_PART = 30_000


def conclude(worker: Worker, study: optuna.Study, finals: optuna.Study | None, tracker: Tracker) -> StudyRecord:
    """Choose the winner by its seeds' means, then score finalists and base on locked items, register, and report."""
    record = record_of(worker.project, study, finals, worker.parent)
    winner = winner_among(record.finalists, worker.project)
    if winner is not None:
        record = _with_locked(worker, replace(record, winner=winner.trial), study)
    record = replace(record, model_version=_register(worker, study, record, tracker))
    publish_study(study, record, tracker)
    return record


def record_of(project: Project, study: optuna.Study, finals: optuna.Study | None, run_id: str) -> StudyRecord:
    """What is known of a study now, without looking at locked items."""
    found = rows(study, project)
    entered = finalists(study, finals, project)
    return StudyRecord(
        name=study.study_name,
        project=project.name,
        run_id=run_id,
        objectives=dict(project.search.objectives),
        constraints=dict(project.search.constraints),
        sampler=project.search.sampler,
        pruner=project.search.pruner if prunes(project.search) else "none",
        seed=project.search.seed,
        trials=found,
        finalists=entered,
        base_dev=next((row.metrics["base/score"] for row in found if "base/score" in row.metrics), None),
        model_version=study.user_attrs.get(VERSION, {}).get("version"),
        seconds=float(study.user_attrs.get(ELAPSED, 0.0)),
        notes=_notes(project, entered),
    )


def _notes(project: Project, entered: Sequence[Finalist]) -> list[str]:
    """What a reader must know beside the tables."""
    refused = [f"Trial {one.trial} could not win: {one.refused}." for one in entered if one.refused]
    note = pruner_note(project)
    return [*([note] if note else []), *refused]


def _with_locked(worker: Worker, record: StudyRecord, study: optuna.Study) -> StudyRecord:
    from tunery.evaluation.result import headline

    if not worker.project.evaluation.tasks:
        return record
    worker.progress.phase("scoring the finalists and the base on locked items")
    looks = _looks(study, record.finalists)
    locked = {finalist.trial: _locked(worker, finalist) for finalist in record.finalists}
    base = locked_base(worker.project, worker.resident, worker.store)
    primary = primary_of(worker.project, worker.resident)
    scored = [
        replace(one, locked=_headlines([headline(results, worker.project.evaluation) for results in locked[one.trial]]))
        for one in record.finalists
    ]
    assert record.winner is not None
    own = next((one.trial for one in scored if one.own), None)
    won = locked[record.winner]
    return replace(
        record,
        finalists=scored,
        base_locked=headline(base, worker.project.evaluation),
        over_base=compare_scores([base], won, primary),
        over_own=compare_scores(locked[own], won, primary) if own is not None and own != record.winner else None,
        notes=[*record.notes, *_looked_before(looks)],
    )


def _looks(study: optuna.Study, entered: Sequence[Finalist]) -> int:
    """Of how many sets of finalists the locked items were scored, this one included.

    A conclusion that is made again, because its worker died, looks at nothing new.
    """
    runs = sorted(run_id for one in entered for run_id in one.run_ids)
    this = hashlib.sha256(json.dumps(runs).encode()).hexdigest()[:16]
    seen = list(dict.fromkeys([*study.user_attrs.get(LOOKS, []), this]))
    study.set_user_attr(LOOKS, seen)
    return len(seen)


def _looked_before(looks: int) -> Iterator[str]:
    if looks > 1:
        yield (
            f"Locked items were scored for {looks} sets of finalists, one after the other: after a report, trials or "
            "finals were added. Where its locked scores were the reason, the search has had a part in these, too."
        )


def _headlines(scores: Sequence[float | None]) -> tuple[float, ...]:
    """Locked scores, one a seed; none where a score is no mean over items, and so has no part on locked ones."""
    whole = tuple(score for score in scores if score is not None)
    return whole if len(whole) == len(scores) else ()


def _locked(worker: Worker, finalist: Finalist) -> list[dict[str, TaskResult]]:
    return [
        score_locked(
            seeded(worker.project, finalist.trial, finalist.settings, seed), run_id, worker.resident, worker.store
        )
        for seed, run_id in zip(finalist.seeds, finalist.run_ids, strict=True)
    ]


def _register(worker: Worker, study: optuna.Study, record: StudyRecord, tracker: Tracker) -> str | None:
    """The winner's adapter of the best seed becomes a version of the project's model; once, however often resumed."""
    from tunery.tracking.flavor.adapters import LoggedAdapter
    from tunery.tracking.registry import register, resolve

    run_id = _best_run(record, worker.project)
    if run_id is None:
        return None
    known = study.user_attrs.get(VERSION, {})
    if known.get(RUN) == run_id:
        return str(known["version"])
    model = resolve(f"runs:/{run_id}", worker.store)
    number = register(
        tracker, LoggedAdapter(model.model_id, run_id), record.project, {"tunery.study": study.study_name}
    )
    version = f"{record.project}/{number}"
    study.set_user_attr(VERSION, {RUN: run_id, "version": version})
    return version


def _best_run(record: StudyRecord, project: Project) -> str | None:
    winner = winner_of(record)
    if winner is not None:
        seeds = [
            dict(zip(record.objectives, values, strict=True))
            for values in zip(*seeds_of(winner, record.objectives).values(), strict=True)
        ]
        return min(zip(seeds, winner.run_ids, strict=True), key=lambda seed: losses(seed[0], record.objectives))[1]
    best = best_of(record.trials, project)
    return best[0].run_id if best and project.search.finalists == 0 else None


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
    """The study's own numbers, by which studies are told apart in MLflow's table."""
    winner = winner_of(record)
    chosen_by = means(winner, record.objectives) if winner else {}
    values = {
        **{f"winner/{name}": value for name, value in chosen_by.items() if name != "score"},
        "trials/complete": float(sum(row.state == "complete" for row in record.trials)),
        "trials/pruned": float(sum(row.state == "pruned" for row in record.trials)),
        "trials/failed": float(sum(row.state == "failed" for row in record.trials)),
        "base/locked/score": record.base_locked,
        "winner/dev/score": mean(winner.dev) if winner and winner.dev else None,
        "locked/score": mean(winner.locked) if winner and winner.locked else None,
        "locked/gain_over_base": record.over_base.value if record.over_base else None,
        "locked/gain_over_own": record.over_own.value if record.over_own else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def keep_record(trial: optuna.Trial, record: StudyRecord) -> None:
    """Write a record to the trial that made it, for the other hosts of the study, in parts that any database takes."""
    text = json.dumps(asdict(record))
    parts = [text[start : start + _LONGEST_PART] for start in range(0, len(text), _LONGEST_PART)]
    for number, part in enumerate(parts):
        trial.set_user_attr(f"{_RECORD}.{number}", part)
    trial.set_user_attr(_RECORD, len(parts))


def kept_record(trial: FrozenTrial) -> StudyRecord | None:
    """The record that `keep_record` wrote, or None."""
    known = trial.user_attrs
    if _RECORD not in known:
        return None
    if isinstance(known[_RECORD], dict):  # an earlier version wrote it whole
        return read_record(known[_RECORD])
    return read_record(json.loads("".join(known[f"{_RECORD}.{number}"] for number in range(known[_RECORD]))))


def read_record(tree: Mapping[str, Any]) -> StudyRecord:
    """A record from its plain form, as asdict and JSON leave it."""
    gains = {key: Difference(**tree[key]) if tree[key] else None for key in ("over_base", "over_own")}
    trials = [TrialRow(**row) for row in tree["trials"]]
    entrants = [_read_finalist(one) for one in tree["finalists"]]
    return StudyRecord(**{**tree, **gains, "trials": trials, "finalists": entrants})


def _read_finalist(tree: Mapping[str, Any]) -> Finalist:
    lists = {key: tuple(tree[key]) for key in ("seeds", "dev", "locked", "run_ids", "values")}
    further = {name: tuple(values) for name, values in tree.get("further", {}).items()}
    kept = {key: value for key, value in tree.items() if key != "trial_score"}  # of an earlier version
    return Finalist(**{**kept, **lists, "further": further})

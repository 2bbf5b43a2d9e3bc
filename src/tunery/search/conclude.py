"""The end of a study: a winner, the locked items scored once, a registered version, a report in MLflow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState
from pydantic import TypeAdapter

from tunery.config.fingerprint import json_digest
from tunery.config.project import Project
from tunery.errors import RunStopped
from tunery.records.studies import Finalist, StudyRecord, TrialRow
from tunery.reporting.text import csv_text
from tunery.runs.locked import locked_base, locked_parent, score_locked
from tunery.search.checks import pruner_note
from tunery.search.finals import configurations, finalists, seeded, winner_among
from tunery.search.report.facts import losses, mean, means, seeds_of, winner_of
from tunery.search.report.plots import study_figures, study_page
from tunery.search.sampling.fixed_points import untried_points
from tunery.search.sampling.pruners import changes_loss, prunes
from tunery.search.session import Session
from tunery.search.study import queue
from tunery.search.study.progress import ELAPSED, TOLD, best_of, rows
from tunery.search.study.storage import CONCLUSIONS, FINALS, load_if_there
from tunery.search.study.study import create_job_study
from tunery.search.worker import Worker
from tunery.statistics.paired import compare_scores

if TYPE_CHECKING:
    from tunery.tracking.run import Tracker

# User attributes of the study.
VERSION, LOOKS, RUN = "model_version", "locked_sets", "run"
_RECORD = "record"
NOTHING_TO_REGISTER = "The winner trains nothing (training.method: icl), so no version was registered."
# Optuna keeps an attribute as JSON in a column of type TEXT, which in MySQL takes 65 535 bytes; escaping a character of
# JSON within JSON makes two of it at most.
_LONGEST_PART = 30_000


def conclude_once(session: Session, tracker: Tracker) -> StudyRecord:
    """Conclude each set of finals once, on the host that comes first; the others wait for its record.

    Raises:
        RunStopped: If the conclusion failed.
    """
    study = session.study
    name = study.study_name
    finals, earlier = (load_if_there(study._storage, f"{name}{kind}") for kind in (FINALS, CONCLUSIONS))
    # What failed is tried again by the next command, under another key.
    key = f"{_state_digest(study, finals, session.project)}:{0 if earlier is None else failed_for_good(earlier)}"
    conclusions = create_job_study(study._storage, f"{name}{CONCLUSIONS}", [queue.TrialJob(key)], "maximize")
    worker = session.worker()

    def run(trial: optuna.Trial) -> float:
        trial.set_user_attr(queue.RUN_ID, session.parent)  # else it would be taken for dead after a while
        store_record(trial, conclude(worker, study, finals, tracker))
        return 0.0

    worker.work(conclusions, run)
    ended = queue.current_trials(conclusions)[key]
    record = stored_record(ended)
    if record is None:
        reason = ended.user_attrs.get(queue.REASON, "its worker died")
        raise RunStopped(f"study {name}: every trial has ended, but no report was made: {reason}. Run it again.")
    return record


def failed_for_good(conclusions: optuna.Study) -> int:
    """Failed conclusions that will not be retried; one whose worker was stopped waits, and must keep its key."""
    trials = queue.current_trials(conclusions).values()
    return sum(trial.state == TrialState.FAIL and not queue.may_retry(trial) for trial in trials)


def _state_digest(study: optuna.Study, finals: optuna.Study | None, project: Project) -> str:
    """What a conclusion rests on: which trials and finals have ended, and how."""
    trials = [queue.current_trials(one).items() for one in (study, finals) if one is not None]
    parts = [[str(key), trial.state.name, trial.values] for key, trial in chain.from_iterable(trials)]
    return json_digest([parts, project.search.finalists, project.search.seeds])


def conclude(worker: Worker, study: optuna.Study, finals: optuna.Study | None, tracker: Tracker) -> StudyRecord:
    """Choose the winner by its seeds' means, then score finalists and base on locked items, register, and report."""
    record = record_of(worker.project, study, finals, worker.parent)
    winner = winner_among(record.finalists, worker.project)
    if winner is not None:
        record = _with_locked(worker, replace(record, winner=winner.trial), study)
    record = replace(record, model_version=_register(worker, study, record, tracker))
    if record.model_version is None and _trained_nothing(record, worker.project):
        record = replace(record, notes=[*record.notes, NOTHING_TO_REGISTER])
    _publish(study, record, tracker)
    return record


def record_of(project: Project, study: optuna.Study, finals: optuna.Study | None, run_id: str) -> StudyRecord:
    """What is known of a study now, without scores on locked items."""
    found = rows(study, project)
    entered, is_grid = finalists(study, finals, project), project.search.sampler == "grid"
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
        repeats=project.search.repeats,
        configurations=tuple(configurations(study, project)) if project.search.repeats else (),
        loss_settings=tuple(changes_loss(project)),
        untried=untried_points(project, [dict(row.settings) for row in found]) if is_grid else None,
        base_dev=_dev(found, "base/score"),
        start=project.adapter.start,
        parent_dev=_dev(found, "parent/score"),
        model_version=study.user_attrs.get(VERSION, {}).get("version"),
        seconds=float(study.user_attrs.get(ELAPSED, 0.0)),
        notes=[
            *filter(None, [pruner_note(project)]),
            *dict.fromkeys(chain.from_iterable(trial.user_attrs.get(TOLD, ()) for trial in study.get_trials(False))),
            *(f"Trial {one.trial} could not win: {one.refused}." for one in entered if one.refused),
        ],
    )


def _with_locked(worker: Worker, record: StudyRecord, study: optuna.Study) -> StudyRecord:
    from tunery.evaluation.result import headline

    project, resident, store = worker.project, worker.resident, worker.store
    if not project.evaluation.names:
        return record
    worker.progress.phase("scoring the finalists and the base on locked items")
    looks = _looks(study, record.finalists)
    locked = {
        one.trial: [
            score_locked(seeded(project, one.trial, one.settings, seed), run_id, resident, store)
            for seed, run_id in zip(one.seeds, one.run_ids, strict=True)
        ]
        for one in record.finalists
    }
    first = next(one for one in record.finalists if one.trial == record.winner)
    # The base is asked as the winner is, whose settings may name another prompt.
    asked = seeded(project, first.trial, first.settings, first.seeds[0])
    base, parent = locked_base(asked, resident, store), locked_parent(asked, resident, store)
    primary = resident.tasks(project).counting(project.evaluation)
    scored = []
    for one in record.finalists:
        scores = [headline(results, project.evaluation) for results in locked[one.trial]]
        # None: the score is not a mean over items, and so has no part on locked ones.
        whole = tuple(score for score in scores if score is not None)
        scored.append(replace(one, locked=whole if len(whole) == len(scores) else ()))
    assert record.winner is not None
    won = locked[record.winner]
    own = next((one.trial for one in record.finalists if one.own and one.trial != record.winner), None)
    return replace(
        record,
        finalists=scored,
        base_dev=_dev(record.trials, "base/score", record.winner),
        base_locked=headline(base, project.evaluation),
        over_base=compare_scores([base], won, primary),
        parent_dev=_dev(record.trials, "parent/score", record.winner),
        parent_locked=headline(parent, project.evaluation) if parent else None,
        over_parent=compare_scores([parent], won, primary) if parent else None,
        over_own=None if own is None else compare_scores(locked[own], won, primary),
        notes=[*record.notes, *_looked_before(looks)],
    )


def _dev(found: Sequence[TrialRow], metric: str, number: int | None = None) -> float | None:
    """The base's or the parent's score on dev items as it was asked for one trial; by default the first that knows."""
    asked = (row.metrics for row in found if number in (None, row.number))
    return next((metrics[metric] for metrics in asked if metric in metrics), None)


def _looks(study: optuna.Study, entered: Sequence[Finalist]) -> int:
    """For how many sets of finalists the locked items were scored, this one included.

    A conclusion that is repeated because its worker died is not a new look.
    """
    runs = sorted(run_id for one in entered for run_id in one.run_ids)
    seen = list(dict.fromkeys([*study.user_attrs.get(LOOKS, []), json_digest(runs)]))
    study.set_user_attr(LOOKS, seen)
    return len(seen)


def _looked_before(looks: int) -> Iterator[str]:
    if looks > 1:
        yield (
            f"Locked items were scored for {looks} sets of finalists, one after the other: trials or finals were added "
            "after a report. If its locked scores were the reason, the search has influenced these scores, too."
        )


def _register(worker: Worker, study: optuna.Study, record: StudyRecord, tracker: Tracker) -> str | None:
    """Make the winner's adapter of the best seed a version of the project's model; once, however often resumed."""
    from tunery.tracking.registry import register, resolve

    run_id = _best_run(record, worker.project)
    if run_id is None or _trained_nothing(record, worker.project):
        return None
    known = study.user_attrs.get(VERSION, {})
    if known.get(RUN) == run_id:
        return str(known["version"])
    model = resolve(f"runs:/{run_id}", worker.store)
    number = register(tracker, model, record.project, {"tunery.study": study.study_name})
    version = f"{record.project}/{number}"
    study.set_user_attr(VERSION, {RUN: run_id, "version": version})
    return version


def _trained_nothing(record: StudyRecord, project: Project) -> bool:
    """Whether the best configuration only shows solved examples."""
    winner = winner_of(record) or next(iter(best_of(record.trials, project)), None)
    if winner is None:
        return False
    number = winner.trial if isinstance(winner, Finalist) else winner.number
    return not seeded(project, number, winner.settings, project.training.seed).training.trains


def _best_run(record: StudyRecord, project: Project) -> str | None:
    winner = winner_of(record)
    if winner is not None:
        seeds = [
            dict(zip(record.objectives, values, strict=True))
            for values in zip(*seeds_of(winner, record.objectives).values(), strict=True)
        ]
        return min(zip(seeds, winner.run_ids, strict=True), key=lambda seed: losses(seed[0], record.objectives))[1]
    best = best_of(record.trials, project)
    alone = project.search.finalists == 0 and not project.search.repeats
    return best[0].run_id if best and alone else None


def store_record(trial: optuna.Trial, record: StudyRecord) -> None:
    """Store a record in the trial that made it, for the other hosts of the study, in parts that any database takes."""
    text = json.dumps(asdict(record))
    parts = [text[start : start + _LONGEST_PART] for start in range(0, len(text), _LONGEST_PART)]
    for number, part in enumerate(parts):
        trial.set_user_attr(f"{_RECORD}.{number}", part)
    trial.set_user_attr(_RECORD, len(parts))


def stored_record(trial: FrozenTrial) -> StudyRecord | None:
    """The record that `store_record` wrote, or None."""
    known = trial.user_attrs
    if _RECORD not in known:
        return None
    text = "".join(known[f"{_RECORD}.{number}"] for number in range(known[_RECORD]))
    return TypeAdapter(StudyRecord).validate_json(text)


def _publish(study: optuna.Study, record: StudyRecord, tracker: Tracker) -> None:
    """Report, table and plots into the study's run."""
    from tunery.search.report.markdown import study_report
    from tunery.search.report.tables import trials_table
    from tunery.tracking.links import run_link, version_link

    tracker.set_description(study_report(record, partial(run_link, tracker.experiment_id), version_link))
    tracker.log_table(trials_table(record).astype(object), "trials.json")
    tracker.log_metrics(_metrics(record))
    if record.winner is not None:
        tracker.tag(**{"tunery.winner": str(record.winner)})
    with TemporaryDirectory(prefix="tunery-") as place:
        csv = Path(place) / "trials.csv"
        csv.write_text(csv_text(trials_table(record)), encoding="utf-8")
        tracker.log_artifact(csv)
    figures = study_figures(study, record)
    for name, figure in figures.items():
        tracker.log_figure(figure.picture, f"plots/{name}.png")
    if figures:
        tracker.log_text(study_page(figures, record.name), "plots/study.html")


def _metrics(record: StudyRecord) -> dict[str, float]:
    """The study's own numbers, for the table of studies in MLflow."""
    winner = winner_of(record)
    chosen_by = means(winner, record.objectives) if winner else {}
    states = Counter(row.state for row in record.trials)
    values = {
        **{f"winner/{name}": value for name, value in chosen_by.items() if name != "score"},
        **{f"trials/{state}": float(states[state]) for state in ("complete", "pruned", "failed")},
        "base/locked/score": record.base_locked,
        "parent/locked/score": record.parent_locked,
        "winner/dev/score": mean(winner.dev) if winner and winner.dev else None,
        "locked/score": mean(winner.locked) if winner and winner.locked else None,
        "locked/gain_over_base": record.over_base.value if record.over_base else None,
        "locked/gain_over_parent": record.over_parent.value if record.over_parent else None,
        "locked/gain_over_own": record.over_own.value if record.over_own else None,
    }
    return {name: value for name, value in values.items() if value is not None}

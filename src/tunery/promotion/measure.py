"""Measuring a candidate: its deployment forms, its base and the champion, all on the same locked items."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tunery.config.project import Project, resolved
from tunery.config.promotion import Form
from tunery.errors import Fault, RefError, TaskError
from tunery.evaluation.result import averaging
from tunery.promotion.candidate import Candidate
from tunery.promotion.gates import Baseline, BaselineDifference, Evidence, FormScore, is_known_license
from tunery.promotion.scoring_process import FormAnswers, FormJob, Results, ScoringProcess
from tunery.records.scores import SCORE, ChosenAnswers, TaskResult
from tunery.reporting.answers import warning
from tunery.runs.observer import Observer
from tunery.statistics.majority import answers_of
from tunery.statistics.paired import compare_scores

if TYPE_CHECKING:
    from tunery.tracking.flavor.flavor import ModelFacts
    from tunery.tracking.registry import ModelRef
    from tunery.tracking.store import Store

FORMS: tuple[Form, ...] = ("trained", "adapter", "merged")


@dataclass(frozen=True)
class Measured:
    """Evidence, and the answers it rests on, by model: candidate, its other forms, champion and base."""

    evidence: Evidence
    answers: Mapping[str, Results] = field(default_factory=dict)


@dataclass(frozen=True)
class _Files:
    """A logged model's files, and the share of items that it may have been chosen on."""

    label: str
    folder: Path
    facts: ModelFacts
    dev_fraction: float
    prompt_template: str | None = None  # data.prompt_template of its training


def measure(candidate: Candidate, champion: int | None, store: Store, observer: Observer) -> Measured:
    """Score the candidate, its base and the champion, one model after the other, in a fresh process.

    The champion is always scored again, so that both answer the same items of the same task version through the same
    code. If it may have been chosen on more items than the candidate, those are left out for both.

    Args:
        champion: The version to beat; None if there is none.
        store: MLflow's store, where the base's own scores are looked up.

    Raises:
        RefError: If the candidate's files are gone.
        TaskError: If a task cannot be loaded, or a metric cannot be compared item by item.
    """
    from tunery.tracking.base_scores import StoredScores

    with TemporaryDirectory(prefix="tunery-promote-") as place, ScoringProcess(StoredScores(store)) as process:
        own = _files(candidate.label, candidate.model, candidate.dev_fraction, Path(place) / "candidate", store)
        evidence = _without_scores(candidate, own, champion)
        best, evidence = _champion(candidate, own, champion, evidence, Path(place), store)
        project = _with_locked(candidate.project, own, best)
        job = FormJob(own.folder, resolved(project), project.folder)
        observer.step(f"scoring {candidate.label} as it was trained, and its base, on locked items")
        answers = process.trained(job, with_base=True)
        if "trained" in answers.faults:
            return Measured(replace(evidence, load_fault=answers.faults["trained"]))
        if own.facts.method != "full":
            observer.step(f"scoring {candidate.label} over 16-bit weights, and merged into them")
        others = process.others(job, answers, own.facts, with_base=candidate.rules.deploy != "trained")
        answers = _joined(answers, others)
        theirs = None
        if best is not None:
            observer.step(f"scoring the champion, {best.label}, on the same items")
            asked = replace(job, folder=best.folder, tree=_asked_as_trained(job.tree, best))
            theirs = process.one(asked, candidate.rules.deploy, best.facts)
    return _measured(candidate, evidence, answers, theirs, own.facts)


# ---- before anything is scored


def _files(label: str, model: ModelRef, dev_fraction: float, place: Path, store: Store) -> _Files:
    from tunery.tracking.flavor.rebuild import read_facts
    from tunery.tracking.registry import download

    folder = download(model, place, store)
    return _Files(label, folder, read_facts(folder), dev_fraction)


def _champion(
    candidate: Candidate, own: _Files, champion: int | None, evidence: Evidence, place: Path, store: Store
) -> tuple[_Files | None, Evidence]:
    """The champion's files, and notes about them; a champion whose files are gone can still be replaced by force."""
    from tunery.tracking.registry import resolve
    from tunery.tracking.run_facts import run_config

    if champion is None:
        return None, evidence
    label = f"{candidate.name}/{champion}"
    try:
        model = resolve(f"models:/{label}", store)
        tree = (run_config(store, model.run_id) if model.run_id else None) or {}
        share = float(tree.get("evaluation", {}).get("dev_fraction", 0.0))
        template = tree.get("data", {}).get("prompt_template")
        best = replace(_files(label, model, share, place / "champion", store), prompt_template=template)
    except RefError as error:
        return None, replace(evidence, notes=[*evidence.notes, f"The champion could not be scored: {error}"])
    notes = []
    if best.dev_fraction > candidate.dev_fraction:
        notes.append(
            f"Items on which {best.label} may have been chosen are left out, though they are locked for "
            f"{candidate.label}."
        )
    if best.facts.identity.model != evidence.base:
        notes.append(f"{best.label} has another base, {best.facts.identity.model}.")
    notes += _other_template(own, best)
    if _asked_as_trained(tree := resolved(candidate.project), best) != tree:
        notes.append(
            f"{best.label} is asked with the prompt template {best.prompt_template!r} that it was trained with, "
            f"{candidate.label} with {candidate.project.data.prompt_template!r}: part of the difference may be the "
            "prompt's."
        )
    return best, replace(evidence, notes=[*evidence.notes, *notes])


def _other_template(own: _Files, champion: _Files) -> list[str]:
    """A note where the two are asked through chat templates that a comparison would not rank together."""
    ours, theirs = (files.facts.identity.details.get("template") for files in (own, champion))
    if ours is None or theirs is None or ours == theirs:
        return []
    through = f"{champion.label} is asked through the chat template {theirs}, {own.label} through {ours}"
    return [f"{through}: part of the difference may be the prompt's."]


def _asked_as_trained(tree: Mapping[str, Any], champion: _Files) -> Mapping[str, Any]:
    """The candidate's settings with the champion's prompt template, where sets of answers are asked through one."""
    data = tree["data"]
    if data["prompt_template"] is None or champion.prompt_template is None:
        return tree
    return {**tree, "data": {**data, "prompt_template": champion.prompt_template}}


def _with_locked(project: Project, own: _Files, champion: _Files | None) -> Project:
    """Locked items on which neither model can have been chosen: locked at one share is locked at a smaller one."""
    share = max(own.dev_fraction, champion.dev_fraction if champion else 0.0)
    evaluation = project.evaluation.model_copy(update={"dev_fraction": share})
    changed = project.model_copy(update={"evaluation": evaluation})
    changed._folder = project.folder
    return changed


def _without_scores(candidate: Candidate, own: _Files, champion: int | None) -> Evidence:
    """What is known before any model is loaded."""
    from tunery.models.files import pickled_files

    identity, named = own.facts.identity, own.facts.identity.license
    return Evidence(
        candidate=candidate.label,
        champion=None if champion is None else f"{candidate.name}/{champion}",
        base=identity.model,
        revision=identity.revision,
        license=named if named and is_known_license(named) else candidate.rules.license or named,
        pickles=pickled_files(own.folder),
        notes=candidate.notes,
    )


# ---- from answers to evidence


def _joined(trained: FormAnswers, others: FormAnswers) -> FormAnswers:
    """All forms; the base in the weights of the other forms if it was scored in them."""
    results, faults = {**trained.results, **others.results}, {**trained.faults, **others.faults}
    return replace(trained, results=results, faults=faults, base=others.base or trained.base)


def _measured(
    candidate: Candidate, evidence: Evidence, answers: FormAnswers, champion: FormAnswers | None, facts: ModelFacts
) -> Measured:
    notes, deploy = list(evidence.notes), candidate.rules.deploy
    if facts.method == "full" and deploy != "trained":
        notes.append("All weights were trained, so there is only one form.")
        answers = replace(answers, results={**answers.results, deploy: answers.results["trained"]})
    baselines: dict[Baseline, Results] = {"base": answers.base}
    if champion is not None:
        if deploy in champion.faults:
            notes.append(f"The champion could not be scored: {champion.faults[deploy]}")
        baselines = {"champion": champion.results.get(deploy, {}), **baselines}
    _require_items(answers.results["trained"], answers)
    chosen = _chosen(answers.results.get(deploy, {}), answers.primary, candidate.rules.confidence)
    # One answer to all items refuses a candidate; a score that does not beat it while the answers vary is said alone,
    # since on a hard task among several that is no fault of the training.
    told = [warning(one, "the candidate") for one in chosen if not one.is_one_answer]
    notes += [sentence for sentence in told if sentence is not None]
    evidence = replace(
        evidence,
        answers=chosen,
        differences=list(_differences(candidate, answers, baselines)) if deploy in answers.results else [],
        forms=form_scores(answers, candidate.rules.confidence),
        recorded=_recorded(candidate, answers),
        notes=notes,
    )
    kept: dict[str, Results] = {
        "candidate" if form == "trained" else f"candidate-{form}": found for form, found in answers.results.items()
    }
    return Measured(evidence, {**kept, **{name: found for name, found in baselines.items() if found}})


def _differences(
    candidate: Candidate, answers: FormAnswers, baselines: Mapping[Baseline, Results]
) -> Iterator[BaselineDifference]:
    """The deployed form against every baseline: the primary score, then every guarded task."""
    ours, confidence = answers.results[candidate.rules.deploy], candidate.rules.confidence
    guarded = [(task, {task: answers.metrics[task]}) for task in candidate.rules.guard]
    for what, metrics in [(SCORE, answers.primary), *guarded]:
        for baseline, theirs in baselines.items():
            difference = compare_scores([theirs], [ours], metrics, confidence)
            if difference is not None:
                yield BaselineDifference(what, baseline, difference, "" if what == SCORE else metrics[what])


def _chosen(results: Results, primary: Mapping[str, str], confidence: float) -> list[ChosenAnswers]:
    """What was answered on the multiple-choice tasks that count."""
    found = [answers_of(results[task], metric, confidence) for task, metric in primary.items() if task in results]
    return [answers for answers in found if answers is not None]


def _recorded(candidate: Candidate, answers: FormAnswers) -> float | None:
    """The score as trained minus that of the answers that the run recorded; None if it recorded none of these items."""
    now = {task: answers.results["trained"][task] for task in answers.primary}
    then = {task: replace(now[task], samples=candidate.recorded[task]) for task in now if task in candidate.recorded}
    difference = compare_scores([then], [now], answers.primary, candidate.rules.confidence)
    return None if difference is None else difference.value


def _require_items(results: Results, answers: FormAnswers) -> None:
    """Raise TaskError with every primary metric that cannot be compared item by item."""
    faults = []
    for task, metric in answers.primary.items():
        score = results[task].scores.get(metric) if task in results else None
        if score is None or math.isnan(score.value):
            got = None if score is None else score.value
            faults.append(Fault(f"the score {metric} of {task}", "a number", got, "Look at the model's answers."))
        elif averaging(results[task], metric) is None:
            advice = "Name another metric of the task in evaluation.primary."
            faults.append(Fault(f"{metric} of {task}", "a mean over items, to be compared item by item", advice=advice))
    if faults:
        raise TaskError("evaluation.primary", faults)


# ---- deployment forms


def form_scores(answers: FormAnswers, confidence: float) -> dict[Form, FormScore]:
    """Score of every form, and its drift from the model as trained."""
    trained = answers.results["trained"]
    found: dict[Form, FormScore] = {}
    for form in FORMS:
        if form in answers.results:
            found[form] = _form_score(trained, answers.results[form], answers.primary, confidence)
        elif form in answers.faults:
            found[form] = FormScore(None, fault=answers.faults[form])
    return found


def _form_score(trained: Results, results: Results, primary: Mapping[str, str], confidence: float) -> FormScore:
    difference = compare_scores([trained], [results], primary, confidence)
    if difference is None:
        return FormScore(None, fault="its score is no mean over items")
    logs = [_largest_gap(trained[task], results[task]) for task in primary]
    return FormScore(
        score=difference.score,
        drift=difference.value,
        items=difference.items,
        changed=difference.changed,
        loglikelihood=max((value for value in logs if value is not None), default=None),
    )


def _largest_gap(one: TaskResult, other: TaskResult) -> float | None:
    """Largest difference of a log-likelihood over the items that both answered, in nats."""
    sides = [
        result.samples.drop_duplicates("item_id").set_index("item_id")["loglikelihoods"] for result in (one, other)
    ]
    pairs = sides[0].to_frame("one").join(sides[1].rename("other"), how="inner")
    gaps = [abs(a - b) for left, right in pairs.itertuples(index=False) for a, b in zip(left, right, strict=False)]
    return float(max(gaps)) if gaps else None

"""Measuring a candidate: its forms, its base and the champion, all on the same locked items."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tunery.config.project import Project, resolved
from tunery.config.promotion import Form
from tunery.errors import Fault, RefError, TaskError
from tunery.promotion.candidate import Candidate
from tunery.promotion.evidence import SCORE, Compared, Evidence, Rival
from tunery.promotion.forms import Asking, form_scores
from tunery.promotion.forms_process import FormAnswers, FormJob
from tunery.promotion.gates import is_known_license
from tunery.runs.observer import Observer
from tunery.statistics.paired import Results, compare_scores

if TYPE_CHECKING:
    from tunery.tracking.flavor.flavor import ModelFacts
    from tunery.tracking.store import Store


@dataclass(frozen=True)
class Measured:
    """Evidence, and the answers it was made of, by who gave them: candidate, champion, base and the other forms."""

    evidence: Evidence
    answers: Mapping[str, Results] = field(default_factory=dict)


@dataclass(frozen=True)
class _Files:
    """A logged model's files, and the share of items that it may have been chosen on."""

    label: str
    folder: Path
    facts: ModelFacts
    dev_fraction: float


def measure(candidate: Candidate, champion: int | None, store: Store, observer: Observer) -> Measured:
    """Score what is to be compared, one model after the other, in a process of its own.

    The champion is always asked again, so that both answered the same items of the same task version through the same
    code. Where it may have been chosen on more items than the candidate, those are left out for both.

    Args:
        candidate: Who is judged.
        champion: The version that it must beat; None where there is none.
        store: MLflow's, where the base's own scores are looked up.
        observer: Told what is being done.

    Raises:
        RefError: If files are gone.
        TaskError: If the questions cannot be asked, or a metric cannot be compared item by item.
    """
    with TemporaryDirectory(prefix="tunery-promote-") as place, Asking() as asking:
        own = _own_files(candidate, Path(place), store)
        plain = _plain(candidate, own, champion)
        rival, plain = _rival(candidate, champion, plain, Path(place), store)
        project = _with_locked(candidate.project, own, rival)
        job = FormJob(own.folder, resolved(project), project.folder, store.uri)
        observer.step(f"scoring {candidate.label} as it was trained, and its base, on locked items")
        answers = asking.trained(job, with_base=True)
        if "trained" in answers.faults:
            return Measured(replace(plain, load_fault=answers.faults["trained"]))
        if own.facts.method != "full":
            observer.step(f"scoring {candidate.label} over 16-bit weights, and merged into them")
        answers = _joined(
            answers, asking.others(job, answers, own.facts, with_base=candidate.rules.deploy != "trained")
        )
        other = None
        if rival is not None:
            observer.step(f"scoring the champion, {rival.label}, on the same items")
            other = asking.one(replace(job, folder=rival.folder), candidate.rules.deploy, rival.facts)
    return _measured(candidate, plain, answers, other, own.facts)


def _own_files(candidate: Candidate, place: Path, store: Store) -> _Files:
    from tunery.tracking.flavor.rebuild import read_facts
    from tunery.tracking.registry import download

    folder = download(candidate.model, place / "candidate", store)
    return _Files(candidate.label, folder, read_facts(folder), candidate.dev_fraction)


def _rival(
    candidate: Candidate, champion: int | None, plain: Evidence, place: Path, store: Store
) -> tuple[_Files | None, Evidence]:
    """The champion's files, and what is to be said of them; one that is lost can still be replaced, by force."""
    if champion is None:
        return None, plain
    try:
        rival = _rival_files(f"{candidate.name}/{champion}", place, store)
    except RefError as error:
        return None, replace(plain, notes=[*plain.notes, f"The champion could not be scored: {error}"])
    notes = []
    if rival.dev_fraction > candidate.dev_fraction:
        notes.append(f"{rival.label} may have been chosen on items that are locked for {candidate.label}: left out.")
    if rival.facts.identity.model != plain.base:
        notes.append(f"{rival.label} has another base, {rival.facts.identity.model}.")
    return rival, replace(plain, notes=[*plain.notes, *notes])


def _rival_files(label: str, place: Path, store: Store) -> _Files:
    from tunery.tracking.flavor.rebuild import read_facts
    from tunery.tracking.registry import download, resolve, run_config

    model = resolve(f"models:/{label}", store)
    folder = download(model, place / "champion", store)
    tree = run_config(store, model.run_id) if model.run_id else None
    share = (tree or {}).get("evaluation", {}).get("dev_fraction", 0.0)
    return _Files(label, folder, read_facts(folder), float(share))


def _with_locked(project: Project, own: _Files, rival: _Files | None) -> Project:
    """Questions that neither model can have been chosen on: what is locked for a share is locked for a smaller one."""
    share = max(own.dev_fraction, rival.dev_fraction if rival else 0.0)
    evaluation = project.evaluation.model_copy(update={"dev_fraction": share})
    changed = project.model_copy(update={"evaluation": evaluation})
    changed._folder = project.folder
    return changed


def _plain(candidate: Candidate, own: _Files, champion: int | None) -> Evidence:
    """What can be said without asking anything."""
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


def _joined(trained: FormAnswers, others: FormAnswers) -> FormAnswers:
    """All forms; the base in the weights of those that are not the one that was trained, where it was asked in them."""
    return replace(
        trained,
        results={**trained.results, **others.results},
        faults={**trained.faults, **others.faults},
        base=others.base or trained.base,
    )


def _measured(
    candidate: Candidate, plain: Evidence, answers: FormAnswers, other: FormAnswers | None, facts: ModelFacts
) -> Measured:
    rules, notes = candidate.rules, list(plain.notes)
    deploy: Form = rules.deploy
    if facts.method == "full" and deploy != "trained":
        notes.append("Every weight was trained: there is one form.")
        answers = replace(answers, results={**answers.results, deploy: answers.results["trained"]})
    forms = form_scores(answers, answers.primary, rules.confidence)
    rivals: dict[Rival, Results] = {"base": answers.base}
    if other is not None:
        if deploy in other.faults:
            notes.append(f"The champion could not be scored: {other.faults[deploy]}")
        rivals = {"champion": other.results.get(deploy, {}), **rivals}
    _require_items(answers.results["trained"], answers)
    compared = list(_compared(candidate, answers, rivals)) if deploy in answers.results else []
    evidence = replace(plain, compared=compared, forms=forms, recorded=_recorded(candidate, answers), notes=notes)
    kept: dict[str, Results] = {
        "candidate" if form == "trained" else f"candidate-{form}": found for form, found in answers.results.items()
    }
    return Measured(evidence, {**kept, **{who: found for who, found in rivals.items() if found}})


def _compared(candidate: Candidate, answers: FormAnswers, rivals: Mapping[Rival, Results]) -> Iterator[Compared]:
    """The deployed form against everybody: the primary score, then every guarded task."""
    ours, confidence = answers.results[candidate.rules.deploy], candidate.rules.confidence
    for rival, theirs in rivals.items():
        difference = compare_scores([theirs], [ours], answers.primary, confidence)
        if difference is not None:
            yield Compared(SCORE, rival, difference)
    for task in candidate.rules.guard:
        metric = answers.metrics[task]
        for rival, theirs in rivals.items():
            difference = compare_scores([theirs], [ours], {task: metric}, confidence)
            if difference is not None:
                yield Compared(task, rival, difference, metric)


def _recorded(candidate: Candidate, answers: FormAnswers) -> float | None:
    """How far the score as trained is from the answers that the run recorded; None where it recorded none of these."""
    now = {task: answers.results["trained"][task] for task in answers.primary}
    then = {task: replace(now[task], samples=candidate.recorded[task]) for task in now if task in candidate.recorded}
    if any(metric not in then[task].samples for task, metric in answers.primary.items() if task in then):
        return None
    difference = compare_scores([then], [now], answers.primary, candidate.rules.confidence)
    return None if difference is None else difference.value


def _require_items(results: Results, answers: FormAnswers) -> None:
    """Refuse a metric that says nothing of single items, before anybody is refused for it.

    Raises:
        TaskError: With every such metric.
    """
    from tunery.evaluation.result import averaging

    faults = []
    for task, metric in answers.primary.items():
        score = results[task].scores.get(metric) if task in results else None
        if score is None or math.isnan(score.value):
            got = None if score is None else score.value
            faults.append(Fault(f"the score {metric} of {task}", "a number", got, "Look at the model's answers."))
        elif averaging(results[task], metric) is None:
            faults.append(
                Fault(f"{metric} of {task}", "a mean over items, to be compared item by item", advice=_ADVICE)
            )
    if faults:
        raise TaskError("evaluation.primary", faults)


_ADVICE = "Name another metric of the task in evaluation.primary."

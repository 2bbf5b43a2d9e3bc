"""`tunery promote`: judge a candidate by the gates, move the aliases champion and previous, and keep the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tunery.config.fingerprint import fingerprint
from tunery.config.project import resolved
from tunery.errors import Overtaken, Refused
from tunery.promotion.candidate import Candidate, find_candidate
from tunery.promotion.gates import decide
from tunery.promotion.measure import Measured, measure
from tunery.promotion.record import end_killed, finish_interrupted, log_verdict, timestamp, user_name, version_tags
from tunery.promotion.report import Verdict, verdict_table
from tunery.runs.observer import Observer

if TYPE_CHECKING:
    from tunery.tracking.aliases import Aliases
    from tunery.tracking.run import Tracker
    from tunery.tracking.store import Store


def promote(
    ref: str,
    project: str | None,
    overrides: Sequence[tuple[str, str]],
    observer: Observer,
    *,
    dry_run: bool = False,
    force: str | None = None,
    tracking_uri: str | None = None,
    run_name: str | None = None,
) -> Verdict | None:
    """Judge a candidate by its project's gates; move the aliases if it passes all of them, or if forced.

    Args:
        ref: models:/name/3, models:/name@alias, runs:/id, a run id, a study's run id or its name.
        project: Folder or file of a project whose tasks and rules are used; by default the model's own, as trained.
        overrides: Pairs of config key and YAML value: ("promotion.min_gain", "0.01").
        observer: Shows the progress and the gates.
        dry_run: Judge only, and leave no run, alias or version behind.
        force: The reason to move the aliases even if a gate does not pass; recorded.
        tracking_uri: MLflow store.
        run_name: Name of the run of kind promotion.

    Returns:
        The verdict; None if the candidate is already the champion.

    Raises:
        InputError: If the reference, its run, the rules or the tasks cannot be used; nothing was changed.
        Refused: If a gate did not pass, or another promotion came first; no alias moved.
    """
    from tunery.tracking.aliases import current_aliases
    from tunery.tracking.store import connect, decisions_of

    store = connect(tracking_uri, "promotion")
    candidate = find_candidate(ref, project, overrides, store)
    if not dry_run:
        finish_interrupted(candidate.name, store, observer)
        end_killed(candidate.name, store, observer)
    before = current_aliases(store, candidate.name)
    if candidate.version is not None and candidate.version == before.champion:
        observer.step(f"{candidate.label} is already the champion: nothing to do")
        return None
    if dry_run:
        verdict = _judged(candidate, measure(candidate, before.champion, store, observer), force)
        observer.step("dry run: nothing was moved or recorded")
    else:
        store = replace(store, experiment=decisions_of(candidate.name))
        verdict = _recorded(candidate, before, store, observer, force, run_name)
    observer.show(verdict_table(verdict))
    if not verdict.moves:
        names = ", ".join(gate.name for gate in verdict.decision.refusals)
        raise Refused(f"{verdict.evidence.candidate} did not pass these gates: {names}. No alias moved.")
    if not dry_run:
        observer.step(f"models:/{candidate.name}@champion is {verdict.evidence.candidate}")
        observer.step(f"next: tunery history {candidate.name}, or tunery export models:/{candidate.name}@champion")
    return verdict


def _recorded(
    candidate: Candidate, before: Aliases, store: Store, observer: Observer, force: str | None, run_name: str | None
) -> Verdict:
    """Judge, and move the aliases if allowed, in a run of kind promotion that keeps the evidence."""
    from tunery.promotion.store import log_answers
    from tunery.tracking.links import where_kept
    from tunery.tracking.provenance import collect
    from tunery.tracking.run import open_run

    with open_run(store, "promotion", candidate.name, run_name=run_name or f"promote {candidate.label}") as tracker:
        observer.step(f"run {tracker.run_id}")
        provenance = collect(candidate.project.folder, candidate.project.tracking.diff)
        tracker.log_config(resolved(candidate.project), fingerprint(candidate.project))
        tracker.log_provenance(provenance)
        measured = measure(candidate, before.champion, store, observer)
        verdict = replace(_judged(candidate, measured, force), commit=provenance.commit)
        log_answers(tracker, measured.answers)
        if verdict.moves:
            candidate, verdict = _registered(candidate, verdict, tracker)
        log_verdict(candidate, before, verdict, tracker)
        if verdict.moves:
            verdict = _moved(candidate, before, verdict, tracker)
    observer.step(where_kept(store, tracker.experiment_id, tracker.run_id))
    return verdict


def _judged(candidate: Candidate, measured: Measured, force: str | None) -> Verdict:
    evidence, rules = measured.evidence, candidate.rules
    decision = decide(evidence, rules)
    return Verdict(evidence, decision, rules, candidate.rules_from, user_name(), timestamp(), forced=force)


def _registered(candidate: Candidate, verdict: Verdict, tracker: Tracker) -> tuple[Candidate, Verdict]:
    """Register a candidate that passed and has no version yet, such as a trial's adapter."""
    from tunery.tracking.registry import register

    if candidate.version is not None:
        return candidate, verdict
    version = register(tracker, candidate.model, candidate.name)
    candidate = replace(candidate, version=version)
    return candidate, replace(verdict, evidence=replace(verdict.evidence, candidate=candidate.label))


def _moved(candidate: Candidate, before: Aliases, verdict: Verdict, tracker: Tracker) -> Verdict:
    """Move the aliases; if another promotion came first, the verdict is refused after all, and the run says so."""
    from tunery.tracking.aliases import Aliases, AliasMove, move_aliases

    after = Aliases(candidate.version, before.champion if before.champion is not None else before.previous)
    try:
        move_aliases(
            tracker.store,
            candidate.name,
            AliasMove(before, after, tracker.run_id, verdict.at, version_tags(verdict, tracker.run_id)),
        )
    except Overtaken as error:
        evidence = replace(verdict.evidence, overtaken=str(error))
        verdict = replace(verdict, evidence=evidence, decision=decide(evidence, candidate.rules))
        log_verdict(candidate, before, verdict, tracker)
    return verdict

"""What a promotion records: tags and metrics of its run, tags of the version, its page."""

from __future__ import annotations

import getpass
import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tunery.promotion.candidate import Candidate
from tunery.promotion.report import Verdict, markdown
from tunery.records.scores import SCORE
from tunery.runs.observer import Observer

if TYPE_CHECKING:
    from tunery.tracking.aliases import Aliases
    from tunery.tracking.run import Tracker
    from tunery.tracking.store import Store


_LONGEST = 1000  # characters of a version's tag; evidence.json has the full text


def finish_interrupted(name: str, store: Store, observer: Observer) -> None:
    """Finish the alias move of a process that died in the middle of it."""
    from tunery.tracking.aliases import finish_pending

    left = finish_pending(store, name)
    if left is not None:
        observer.step(
            f"finished the promotion of run {left.run_id}: {version_name(name, left.after.champion)} is the champion"
        )


def end_killed(name: str, store: Store, observer: Observer) -> None:
    """End the runs of earlier promotions of the model whose processes were killed."""
    from tunery.tracking.abandoned import close, open_runs

    for run in open_runs(store, "promotion", name):
        if run.abandoned:
            observer.step(f"the promotion of run {run.run_id} was killed earlier: it is {close(store, run)} now")


def log_verdict(candidate: Candidate, before: Aliases, verdict: Verdict, tracker: Tracker) -> None:
    """Log the decision, its evidence and its rules to the promotion's run."""
    from tunery.promotion.store import log_decision

    evidence = {"word": verdict.word, **asdict(verdict), "rules": verdict.rules.model_dump(mode="json")}
    tags = decision_tags(candidate.name, candidate.version, before, verdict.word, _reason(verdict))
    log_decision(tracker, tags, _metrics(verdict), evidence, markdown(verdict))


def _reason(verdict: Verdict) -> str:
    """The reason as `tunery history` shows it."""
    if verdict.word == "forced":
        return str(verdict.forced)
    names = ", ".join(gate.name for gate in verdict.decision.refusals)
    return f"not passed: {names}" if names else f"passed all {len(verdict.decision.gates)} gates"


def decision_tags(name: str, version: int | None, before: Aliases, decision: str, reason: str) -> dict[str, object]:
    """Tags by which `tunery history` finds the promotions of a model."""
    from tunery.promotion.store import BY, CHAMPION, DECISION, MODEL, REASON, VERSION

    known = {VERSION: version, CHAMPION: before.champion}
    return {
        MODEL: name,
        DECISION: decision,
        REASON: reason,
        BY: user_name(),
        **{key: str(value) for key, value in known.items() if value is not None},
    }


def _metrics(verdict: Verdict) -> dict[str, float]:
    """Metrics that compare promotions in MLflow's table."""
    found: dict[str, float] = {}
    for one in verdict.evidence.differences:
        where = f"promotion/{one.what}/over_{one.baseline}"
        found |= {where: one.difference.value, f"{where}_low": one.difference.low, f"{where}_high": one.difference.high}
        if one.what == SCORE:
            found |= {
                "promotion/score": one.difference.score,
                f"promotion/score_of_{one.baseline}": one.difference.baseline,
            }
    for name, form in verdict.evidence.forms.items():
        if form.drift is not None:
            found[f"promotion/drift/{name}"] = form.drift
    return found


def version_tags(verdict: Verdict, run_id: str) -> dict[str, str]:
    """A summary of the evidence for the version, with the address of all of it."""
    from tunery.promotion.store import EVIDENCE
    from tunery.tracking.redact import redact

    gains = {
        f"tunery.promotion.gain_over_{one.baseline}": f"{one.difference.value:+.4f} "
        f"[{one.difference.low:+.4f}, {one.difference.high:+.4f}] on {one.difference.items} locked items"
        for one in verdict.evidence.differences
        if one.what == SCORE
    }
    tags = {
        "tunery.promotion": verdict.word,
        "tunery.promotion.run": run_id,
        "tunery.promotion.evidence": f"runs:/{run_id}/{EVIDENCE}",
        "tunery.promotion.at": verdict.at,
        "tunery.promotion.by": verdict.who,
        "tunery.promotion.rules": json.dumps(verdict.rules.model_dump(mode="json")),
        **gains,
    }
    optional = {"tunery.promotion.commit": verdict.commit, "tunery.promotion.forced": verdict.forced}
    known = tags | {key: value for key, value in optional.items() if value}
    return {
        key: value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}…" for key, value in redact(known).items()
    }


def version_name(name: str, version: int | None) -> str:
    """ "quickstart/3", or "no version"."""
    return "no version" if version is None else f"{name}/{version}"


def user_name() -> str:
    """The user's name; their number if it has no name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # depends on the version of Python
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def timestamp() -> str:
    """Now in ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")

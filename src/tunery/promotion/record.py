"""What a promotion leaves behind: tags and numbers of its run, tags of the version, its page."""

from __future__ import annotations

import getpass
import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tunery.promotion.candidate import Candidate
from tunery.promotion.evidence import SCORE
from tunery.promotion.report import Verdict, markdown
from tunery.runs.observer import Observer

if TYPE_CHECKING:
    from tunery.tracking.aliases import Aliases
    from tunery.tracking.run import Tracker
    from tunery.tracking.store import Store


_LONGEST = 1000  # characters of a version's tag; the whole is in evidence.json


def finish_interrupted(name: str, store: Store, observer: Observer) -> None:
    """Finish a move that a process began and died in."""
    from tunery.tracking.aliases import finish_pending

    left = finish_pending(store, name)
    if left is not None:
        observer.step(
            f"finished what run {left.run_id} had begun: {version_name(name, left.after.champion)} is the champion"
        )


def tell(candidate: Candidate, before: Aliases, verdict: Verdict, tracker: Tracker) -> None:
    """Tell the promotion's run what was decided, on what evidence, by which rules."""
    from tunery.promotion.store import log_decision

    evidence = {"word": verdict.word, **asdict(verdict), "rules": verdict.rules.model_dump(mode="json")}
    tags = decision_tags(candidate.name, candidate.version, before, verdict.word, _why(verdict))
    log_decision(tracker, tags, _metrics(verdict), evidence, markdown(verdict))


def _why(verdict: Verdict) -> str:
    """The reason as a history tells it."""
    if verdict.word == "forced":
        return str(verdict.forced)
    names = ", ".join(gate.name for gate in verdict.decision.refusals)
    return f"not passed: {names}" if names else f"passed all {len(verdict.decision.gates)} gates"


def decision_tags(name: str, version: int | None, before: Aliases, decision: str, reason: str) -> dict[str, object]:
    """Tags by which the promotions of a model are found, and its history is told."""
    from tunery.promotion.store import BY, DECISION, MODEL, REASON, RIVAL, VERSION

    known = {VERSION: version, RIVAL: before.champion}
    return {
        MODEL: name,
        DECISION: decision,
        REASON: reason,
        BY: who(),
        **{key: str(value) for key, value in known.items() if value is not None},
    }


def _metrics(verdict: Verdict) -> dict[str, float]:
    """Figures by which promotions are told apart in MLflow's table."""
    found: dict[str, float] = {"promotion/gates_not_passed": float(len(verdict.decision.refusals))}
    for one in verdict.evidence.compared:
        where = f"promotion/{one.what}/over_{one.against}"
        found |= {where: one.difference.value, f"{where}_low": one.difference.low, f"{where}_high": one.difference.high}
        if one.what == SCORE:
            found |= {
                "promotion/score": one.difference.score,
                f"promotion/score_of_{one.against}": one.difference.baseline,
            }
    for name, form in verdict.evidence.forms.items():
        if form.drift is not None:
            found[f"promotion/drift/{name}"] = form.drift
    return found


def version_tags(verdict: Verdict, run_id: str) -> dict[str, str]:
    """The evidence as it stands on the version: what a person looks for first, and where the whole of it lies."""
    from tunery.promotion.store import EVIDENCE
    from tunery.tracking.redact import redact

    gains = {
        f"tunery.promotion.gain_over_{one.against}": f"{one.difference.value:+.4f} "
        f"[{one.difference.low:+.4f}, {one.difference.high:+.4f}] on {one.difference.items} locked items"
        for one in verdict.evidence.compared
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
    """ "quickstart/3", or that there is none."""
    return "no version" if version is None else f"{name}/{version}"


def who() -> str:
    """The user's name; the number where nobody has that number, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # which of them, the version of Python decides
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def now() -> str:
    """ISO 8601, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")

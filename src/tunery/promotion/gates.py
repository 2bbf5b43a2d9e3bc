"""The gates: evidence and rules in, a decision with every reason out. Nothing else is read, nothing is changed.

A gate that could not be measured is not passed: absence of evidence promotes nobody. A task is guarded by a test of
non-inferiority: the whole interval of the difference must lie above the bound. That no fall was found is not enough; it
may only mean that there were too few items to find one.

Source: ICH E9, Statistical Principles for Clinical Trials, 3.3.2: the interval's lower limit against a margin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tunery.config.promotion import PromotionConfig
from tunery.promotion.evidence import SCORE, Evidence, Rival
from tunery.records import Difference

_COMMIT = re.compile(r"[0-9a-f]{40}|sha256:[0-9a-f]{64}")
# Errors clustered by fewer passages are too small: of equal models, 2.5 % may be found better; it was 6.9 % at 3
# passages, 3.7 % at 5 and 3.1 % at 10.
_FEWEST_PASSAGES = 10
_UNLOADED = "not measured: the candidate could not be loaded"


@dataclass(frozen=True)
class Gate:
    """One gate.

    Args:
        name: What it asks.
        passed: Whether the evidence answers yes.
        reason: A sentence for a person.
        figures: The numbers that it looked at, the rule among them.
    """

    name: str
    passed: bool
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """Every gate, passed or not; a candidate is accepted when all are."""

    gates: tuple[Gate, ...]

    @property
    def accepted(self) -> bool:
        """Whether the champion may move."""
        return all(gate.passed for gate in self.gates)

    @property
    def refusals(self) -> tuple[Gate, ...]:
        """The gates that were not passed."""
        return tuple(gate for gate in self.gates if not gate.passed)


def decide(evidence: Evidence, rules: PromotionConfig) -> Decision:
    """Judge a candidate by all gates; none is left out because another was not passed.

    Args:
        evidence: What was measured.
        rules: The section `promotion`.
    """
    return Decision(
        (
            *_gains(evidence, rules),
            *_guards(evidence, rules),
            _deployed(evidence, rules),
            _reproduced(evidence, rules),
            _loads(evidence),
            _no_pickle(evidence),
            _license(evidence),
            _revision(evidence),
            *_not_overtaken(evidence),
        )
    )


def rivals(evidence: Evidence) -> tuple[Rival, ...]:
    """Against whom a candidate is judged: the champion where there is one, and always the base."""
    return ("champion", "base") if evidence.champion is not None else ("base",)


def is_known_license(name: str) -> bool:
    """Whether a licence's name says which it is: cards on the Hub say `unknown` too."""
    return name.strip().lower() not in ("", "unknown")


def _gains(evidence: Evidence, rules: PromotionConfig) -> Iterator[Gate]:
    for rival in rivals(evidence):
        found = evidence.find(SCORE, rival)
        yield _above(f"better than the {rival}", found.difference if found else None, rules.min_gain, "gain", evidence)


def _guards(evidence: Evidence, rules: PromotionConfig) -> Iterator[Gate]:
    for task, bound in rules.guard.items():
        for rival in rivals(evidence):
            found = evidence.find(task, rival)
            name = f"{task} not worse than the {rival}"
            yield _above(name, found.difference if found else None, bound, "difference", evidence)


def _above(name: str, difference: Difference | None, bound: float, noun: str, evidence: Evidence) -> Gate:
    """Whether the whole interval lies above the bound; a tie at the bound does not."""
    if difference is None or not difference.is_known:
        return Gate(name, False, _UNLOADED if evidence.load_fault else "not measured")
    if difference.passages is not None and difference.passages < _FEWEST_PASSAGES:
        advice = f"{difference.passages} passages are too few, it takes {_FEWEST_PASSAGES}. Raise evaluation.limit"
        return Gate(name, False, f"not measured: {advice}")
    passed = difference.low > bound
    if passed:
        said = f"above {_bound(bound)}"
    elif difference.high < bound:
        said = f"below {_bound(bound)}"
    else:
        said = f"not surely above {_bound(bound)}: {difference.items} items cannot tell"
    interval = f"[{difference.low:+.4f}, {difference.high:+.4f}]"
    reason = f"{noun} {difference.value:+.4f} {interval} on {difference.items} locked items, {said}"
    figures = {
        name: getattr(difference, name) for name in ("score", "baseline", "value", "low", "high", "p_value", "items")
    }
    return Gate(name, passed, reason, {**figures, "bound": bound})


def _deployed(evidence: Evidence, rules: PromotionConfig) -> Gate:
    name = "what is deployed is what was scored"
    form = evidence.forms.get(rules.deploy)
    if form is None or form.drift is None or form.score is None:
        fault = form.fault if form is not None else None
        return Gate(
            name, False, _UNLOADED if evidence.load_fault else f"form {rules.deploy}: {fault or 'not measured'}"
        )
    passed = abs(form.drift) <= rules.max_drift
    reason = (
        f"form {rules.deploy}: score {form.score:.4f}, {form.drift:+.4f} from the form that was trained "
        f"({form.changed} of {form.items} items another), {'within' if passed else 'beyond'} {rules.max_drift:g}"
    )
    return Gate(name, passed, reason, {"score": form.score, "drift": form.drift, "bound": rules.max_drift})


def _reproduced(evidence: Evidence, rules: PromotionConfig) -> Gate:
    name = "the recorded score is found again"
    if evidence.load_fault is not None:
        return Gate(name, False, _UNLOADED)
    if evidence.recorded is None:
        return Gate(name, True, "the run recorded no answers to locked items; they were scored now")
    passed = abs(evidence.recorded) <= rules.max_drift
    reason = (
        f"{evidence.recorded:+.4f} from what the run recorded, {'within' if passed else 'beyond'} {rules.max_drift:g}"
    )
    return Gate(name, passed, reason, {"drift": evidence.recorded, "bound": rules.max_drift})


def _loads(evidence: Evidence) -> Gate:
    fault = evidence.load_fault
    return Gate("loads in a fresh process", fault is None, "loaded and asked" if fault is None else fault)


def _no_pickle(evidence: Evidence) -> Gate:
    found = ", ".join(evidence.pickles)
    return Gate("no pickle in the folder", not found, f"{found}: it can run any code when opened" if found else "none")


def _license(evidence: Evidence) -> Gate:
    name, known = "the base's licence is known", evidence.license
    if known is not None and is_known_license(known):
        return Gate(name, True, known)
    advice = f"{evidence.base} names {known or 'none'}. Set promotion.license after reading its terms"
    return Gate(name, False, advice)


def _revision(evidence: Evidence) -> Gate:
    passed = _COMMIT.fullmatch(evidence.revision) is not None
    advice = f"{evidence.revision or 'none'} of {evidence.base}, but must be a commit or a hash of its files"
    return Gate("the base's revision is known", passed, _short(evidence.revision) if passed else advice)


def _not_overtaken(evidence: Evidence) -> Iterator[Gate]:
    if evidence.overtaken is not None:
        yield Gate("nobody was faster", False, evidence.overtaken)


def _short(revision: str) -> str:
    """The first 12 digits of a commit or of a hash, with the hash's name."""
    kind, colon, digits = revision.rpartition(":")
    return f"{kind}{colon}{digits[:12]}"


def _bound(bound: float) -> str:
    return "0" if bound == 0 else f"{bound:+g}"

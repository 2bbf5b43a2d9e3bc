"""The gates: evidence and rules in, a decision with every reason out. Nothing else is read, nothing is changed.

A gate that could not be measured is not passed. A task is guarded by a test of non-inferiority: the whole interval of
the difference must lie above the bound. That no fall was found is not enough; there may be too few items to find one.

Source: ICH E9, Statistical Principles for Clinical Trials, 3.3.2: the interval's lower limit against a margin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tunery.config.promotion import Form, PromotionConfig
from tunery.records.scores import SCORE, ChosenAnswers, Difference
from tunery.reporting.answers import chosen, warning

Baseline = Literal["champion", "base"]

_COMMIT = re.compile(r"[0-9a-f]{40}|sha256:[0-9a-f]{64}")
# Errors clustered by fewer passages are too small: of equal models, 2.5 % may be found better; it was 6.9 % at 3
# passages, 3.7 % at 5 and 3.1 % at 10.
_FEWEST_PASSAGES = 10
_UNLOADED = "not measured: the candidate could not be loaded"


@dataclass(frozen=True)
class BaselineDifference:
    """The candidate against the champion or the base, in the primary score or on a guarded task."""

    what: str  # SCORE, or the task's name
    baseline: Baseline
    difference: Difference
    metric: str = ""  # the task's metric; "" for the score, which may be a mean of several


@dataclass(frozen=True)
class FormScore:
    """How one deployment form of the candidate answered the locked items."""

    score: float | None  # None if it could not be measured; `fault` says why
    drift: float | None = None  # its score minus that of the model as trained, on the same items
    items: int = 0
    changed: int = 0  # items whose value differs from that of the model as trained
    # Largest difference of a log-likelihood, in nats; None if answers were generated.
    loglikelihood: float | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Evidence:
    """Everything that a decision depends on."""

    candidate: str  # "quickstart/3", or the run of a model that is not registered yet
    champion: str | None  # "quickstart/2"; None if there is none, and the base is the only baseline
    base: str  # the base model's name
    revision: str  # the commit or hash of the base
    license: str | None  # licence of the base; None if unknown
    # The score and every guarded task, against champion and base. Empty if the candidate did not load.
    differences: Sequence[BaselineDifference] = ()
    # What the deployed form answered on each multiple-choice task that counts.
    answers: Sequence[ChosenAnswers] = ()
    forms: Mapping[Form, FormScore] = field(default_factory=dict)  # by deployment form
    # Score measured now, as trained, minus that of the answers which the run recorded; None if the run recorded no
    # answers to locked items, as a trial does.
    recorded: float | None = None
    load_fault: str | None = None  # why the candidate could not be loaded in a fresh process
    pickles: Sequence[str] = ()  # files of the model's folder that hold a pickle
    overtaken: str | None = None  # which other promotion moved the aliases while this candidate was judged
    notes: Sequence[str] = ()  # what a reader should know

    @property
    def baselines(self) -> tuple[Baseline, ...]:
        """What a candidate is judged against: the champion if there is one, and always the base."""
        return ("champion", "base") if self.champion is not None else ("base",)

    def find(self, what: str, baseline: Baseline) -> Difference | None:
        """One difference; None if it was not measured."""
        found = (one.difference for one in self.differences if (one.what, one.baseline) == (what, baseline))
        return next(found, None)


@dataclass(frozen=True)
class Gate:
    """One gate with its result."""

    name: str  # what the gate requires
    passed: bool
    reason: str  # why it passed or not, for people
    figures: Mapping[str, float] = field(default_factory=dict)  # the numbers that it depends on, with the rule's bound


@dataclass(frozen=True)
class Decision:
    """Every gate, passed or not; a candidate that passes all of them is accepted."""

    gates: tuple[Gate, ...]

    @property
    def accepted(self) -> bool:
        """Whether the champion may move."""
        return all(gate.passed for gate in self.gates)

    @property
    def refusals(self) -> tuple[Gate, ...]:
        """The gates that did not pass."""
        return tuple(gate for gate in self.gates if not gate.passed)


def decide(evidence: Evidence, rules: PromotionConfig) -> Decision:
    """Judge a candidate by all gates, also after one did not pass.

    Args:
        rules: The section `promotion` of project.yaml.
    """
    gates = [*_gains(evidence, rules), *_guards(evidence, rules), *_not_one_answer(evidence)]
    gates += [_deployed(evidence, rules), _reproduced(evidence, rules), _loads(evidence), _no_pickle(evidence)]
    gates += [_license(evidence), _revision(evidence)]
    if evidence.overtaken is not None:
        gates.append(Gate("no other promotion came first", False, evidence.overtaken))
    return Decision(tuple(gates))


def is_known_license(name: str) -> bool:
    """Whether a licence's name says which licence it is: cards on the Hub also say `unknown`."""
    return name.strip().lower() not in ("", "unknown")


def _gains(evidence: Evidence, rules: PromotionConfig) -> Iterator[Gate]:
    for baseline in evidence.baselines:
        found = evidence.find(SCORE, baseline)
        yield _above(f"better than the {baseline}", found, rules.min_gain, "gain", evidence)


def _guards(evidence: Evidence, rules: PromotionConfig) -> Iterator[Gate]:
    for task, bound in rules.guard.items():
        for baseline in evidence.baselines:
            found = evidence.find(task, baseline)
            yield _above(f"{task} not worse than the {baseline}", found, bound, "difference", evidence)


def _above(name: str, difference: Difference | None, bound: float, noun: str, evidence: Evidence) -> Gate:
    """Whether the whole interval lies above the bound; a tie at the bound does not."""
    if difference is None or not difference.is_known:
        return Gate(name, False, _UNLOADED if evidence.load_fault else "not measured")
    if difference.passages is not None and difference.passages < _FEWEST_PASSAGES:
        advice = f"at least {_FEWEST_PASSAGES} are needed. Raise evaluation.limit"
        return Gate(name, False, f"not measured: {difference.passages} passages are too few; {advice}")
    passed = difference.low > bound
    if passed:
        position = f"above {_bound(bound)}"
    elif difference.high < bound:
        position = f"below {_bound(bound)}"
    else:
        position = f"not surely above {_bound(bound)}: {difference.items} items are too few to tell"
    interval = f"[{difference.low:+.4f}, {difference.high:+.4f}]"
    reason = f"{noun} {difference.value:+.4f} {interval} on {difference.items} locked items, {position}"
    figures = {
        name: getattr(difference, name) for name in ("score", "baseline", "value", "low", "high", "p_value", "items")
    }
    return Gate(name, passed, reason, {**figures, "bound": bound})


def _not_one_answer(evidence: Evidence) -> Iterator[Gate]:
    """A gain that comes of changing the one answer given to all items is none. No gate where nothing is chosen from."""
    if not evidence.answers:
        return
    faults = [warning(one, "the candidate") for one in evidence.answers if one.is_one_answer]
    counts = [f"{one.task}: {chosen(one)}" for one in evidence.answers]
    figures = {f"{one.task}_majority": one.majority_score for one in evidence.answers}
    yield Gate(
        "no task gets one answer to all items", not faults, " ".join(filter(None, faults)) or "; ".join(counts), figures
    )


def _deployed(evidence: Evidence, rules: PromotionConfig) -> Gate:
    name = "the deployed form scores as trained"
    form = evidence.forms.get(rules.deploy)
    if form is None or form.drift is None or form.score is None:
        fault = form.fault if form is not None else None
        return Gate(
            name, False, _UNLOADED if evidence.load_fault else f"form {rules.deploy}: {fault or 'not measured'}"
        )
    passed = abs(form.drift) <= rules.max_drift
    reason = (
        f"form {rules.deploy}: score {form.score:.4f}, {form.drift:+.4f} from the score as trained "
        f"({form.changed} of {form.items} items changed), {'within' if passed else 'beyond'} {rules.max_drift:g}"
    )
    return Gate(name, passed, reason, {"score": form.score, "drift": form.drift, "bound": rules.max_drift})


def _reproduced(evidence: Evidence, rules: PromotionConfig) -> Gate:
    name = "the recorded score is reproduced"
    if evidence.load_fault is not None:
        return Gate(name, False, _UNLOADED)
    if evidence.recorded is None:
        return Gate(name, True, "the run recorded no answers to locked items; they were scored for this promotion")
    passed = abs(evidence.recorded) <= rules.max_drift
    reason = (
        f"{evidence.recorded:+.4f} from what the run recorded, {'within' if passed else 'beyond'} {rules.max_drift:g}"
    )
    return Gate(name, passed, reason, {"drift": evidence.recorded, "bound": rules.max_drift})


def _loads(evidence: Evidence) -> Gate:
    fault = evidence.load_fault
    return Gate("loads in a fresh process", fault is None, "loaded and scored" if fault is None else fault)


def _no_pickle(evidence: Evidence) -> Gate:
    found = ", ".join(evidence.pickles)
    reason = f"{found}: opening a pickle can run any code" if found else "none"
    return Gate("no pickle in the folder", not found, reason)


def _license(evidence: Evidence) -> Gate:
    name, known = "the base's licence is known", evidence.license
    if known is not None and is_known_license(known):
        return Gate(name, True, known)
    stated = f"states the licence {known!r}" if known else "states no licence"
    return Gate(name, False, f"{evidence.base} {stated}. Read its terms, then set promotion.license")


def _revision(evidence: Evidence) -> Gate:
    name = "the base's revision is known"
    if _COMMIT.fullmatch(evidence.revision) is None:
        reason = f"{evidence.revision or 'none'} of {evidence.base}, but must be a commit or a hash of its files"
        return Gate(name, False, reason)
    kind, colon, digits = evidence.revision.rpartition(":")
    return Gate(name, True, f"{kind}{colon}{digits[:12]}")


def _bound(bound: float) -> str:
    return "0" if bound == 0 else f"{bound:+g}"

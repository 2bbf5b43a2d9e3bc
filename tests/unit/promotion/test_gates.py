"""What each gate asks, one spoiled thing at a time; and what holds of any evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.promotion.conftest import COMMIT, difference

from tunery.config.promotion import PromotionConfig
from tunery.promotion.gates import BaselineDifference, Evidence, FormScore, decide
from tunery.records.scores import SCORE, ChosenAnswers, Difference

RULES = PromotionConfig(guard={"truthfulqa": -0.01})
GATES = [
    "better than the champion",
    "better than the base",
    "truthfulqa not worse than the champion",
    "truthfulqa not worse than the base",
    "the deployed form scores as trained",
    "the recorded score is reproduced",
    "loads in a fresh process",
    "no pickle in the folder",
    "the base's licence is known",
    "the base's revision is known",
]


def refusals(evidence: Evidence, rules: PromotionConfig = RULES) -> list[str]:
    return [gate.name for gate in decide(evidence, rules).refusals]


def with_difference(evidence: Evidence, what: str, baseline: str, found: Difference | None) -> Evidence:
    rest = [one for one in evidence.differences if (one.what, one.baseline) != (what, baseline)]
    return replace(evidence, differences=[*rest, *([BaselineDifference(what, baseline, found)] if found else [])])  # type: ignore[arg-type]


def test_every_gate_is_asked_and_a_good_candidate_passes_them(good: Evidence) -> None:
    decision = decide(good, RULES)
    assert [gate.name for gate in decision.gates] == GATES
    assert decision.accepted


def test_without_a_champion_the_base_is_the_only_baseline(good: Evidence) -> None:
    first = replace(good, champion=None, differences=[one for one in good.differences if one.baseline == "base"])
    decision = decide(first, RULES)
    assert decision.accepted
    assert [gate.name for gate in decision.gates] == [name for name in GATES if "champion" not in name]


@pytest.mark.parametrize(
    ("changed", "refused"),
    [
        ({"load_fault": "its weights are gone"}, "loads in a fresh process"),
        ({"pickles": ["training_args.bin"]}, "no pickle in the folder"),
        ({"license": None}, "the base's licence is known"),
        ({"license": "Unknown"}, "the base's licence is known"),
        ({"revision": "main"}, "the base's revision is known"),
        ({"recorded": 0.02}, "the recorded score is reproduced"),
        ({"overtaken": "the champion is version 7 by now"}, "no other promotion came first"),
    ],
)
def test_a_spoiled_candidate_is_refused_by_the_gate_that_looks_at_it(
    good: Evidence, changed: dict[str, Any], refused: str
) -> None:
    assert refused in refusals(replace(good, **changed))


@pytest.mark.parametrize("revision", [COMMIT, "sha256:" + "ab" * 32])
def test_a_commit_or_a_hash_is_a_revision(good: Evidence, revision: str) -> None:
    assert refusals(replace(good, revision=revision)) == []


def test_a_tie_with_the_champion_is_refused(good: Evidence) -> None:
    tie = with_difference(good, SCORE, "champion", difference(0.0, 0.0, 0.0))
    assert refusals(tie) == ["better than the champion"]


def test_a_gain_that_may_be_chance_is_refused_and_the_reason_says_so(good: Evidence) -> None:
    decision = decide(with_difference(good, SCORE, "champion", difference(0.05, -0.01, 0.11)), RULES)
    (gate,) = decision.refusals
    assert (
        gate.reason
        == "gain +0.0500 [-0.0100, +0.1100] on 200 locked items, not surely above 0: 200 items are too few to tell"
    )
    assert gate.figures["low"] == -0.01


def test_a_gain_must_be_as_large_as_asked(good: Evidence) -> None:
    assert refusals(good, RULES.model_copy(update={"min_gain": 0.079})) == []
    assert refusals(good, RULES.model_copy(update={"min_gain": 0.081})) == ["better than the champion"]


def test_beating_the_champion_is_not_enough_if_the_base_is_better(good: Evidence) -> None:
    assert refusals(with_difference(good, SCORE, "base", difference(-0.1))) == ["better than the base"]


def test_a_guard_asks_for_evidence_that_nothing_was_lost_not_for_lack_of_evidence_that_it_was(good: Evidence) -> None:
    # No fall is found (0 is inside), and the mean even rose; but the items are too few to rule a fall of 0.01 out.
    unsure = with_difference(good, "truthfulqa", "base", difference(0.01, -0.05, 0.07, items=20))
    assert refusals(unsure) == ["truthfulqa not worse than the base"]


def test_a_small_fall_that_surely_is_small_passes_the_guard(good: Evidence) -> None:
    sure = with_difference(good, "truthfulqa", "champion", difference(-0.002, -0.008, 0.004, items=20_000))
    assert refusals(sure) == []


def test_the_deployed_form_must_not_drift(good: Evidence) -> None:
    assert refusals(good, RULES.model_copy(update={"deploy": "adapter"})) == []
    assert refusals(good, RULES.model_copy(update={"deploy": "merged"})) == ["the deployed form scores as trained"]


def test_a_form_that_is_too_good_has_drifted_too(good: Evidence) -> None:
    better = replace(good, forms={**good.forms, "merged": FormScore(0.63, 0.03, 200)})
    assert refusals(better, RULES.model_copy(update={"deploy": "merged"})) == ["the deployed form scores as trained"]


def test_a_form_that_could_not_be_scored_refuses_only_where_it_is_deployed(good: Evidence) -> None:
    unknown = replace(good, forms={**good.forms, "merged": FormScore(None, fault="out of memory")})
    assert refusals(unknown) == []
    (gate,) = decide(unknown, RULES.model_copy(update={"deploy": "merged"})).refusals
    assert gate.reason == "form merged: out of memory"


def test_what_was_not_measured_is_not_passed(good: Evidence) -> None:
    unloaded = replace(good, differences=(), forms={}, recorded=None, load_fault="no weights")
    assert refusals(unloaded) == GATES[:7]


def test_answers_that_a_trial_never_recorded_are_no_fault(good: Evidence) -> None:
    assert refusals(replace(good, recorded=None)) == []


@pytest.mark.parametrize("lost", [float("nan"), float("inf")])
def test_a_difference_that_is_no_number_is_not_passed(good: Evidence, lost: float) -> None:
    assert "better than the base" in refusals(with_difference(good, SCORE, "base", difference(lost)))


@pytest.mark.parametrize(("passages", "passed"), [(3, False), (9, False), (10, True), (None, True)])
def test_a_gain_on_a_few_passages_is_not_measured(good: Evidence, passages: int | None, passed: bool) -> None:
    found = replace(difference(0.3), passages=passages)
    (gate,) = [
        gate
        for gate in decide(with_difference(good, SCORE, "base", found), RULES).gates
        if gate.name == "better than the base"
    ]
    assert (gate.passed, "passages are too few" in gate.reason) == (passed, not passed)


def chosen(counts: dict[str, int], low: float) -> ChosenAnswers:
    return ChosenAnswers("hans", "acc", counts, "no", 0.585, 0.565, difference(0.02, low, 0.08))


def test_a_gain_of_one_answer_to_all_items_is_refused_with_the_answers(good: Evidence) -> None:
    flipped = replace(good, answers=[chosen({"no": 190, "yes": 10}, -0.04)])
    (gate,) = decide(flipped, RULES).refusals
    assert gate.name == "no task gets one answer to all items"
    assert (
        "the candidate answers 'no' to 190 of 200 items and scores 0.585, where always 'no' scores 0.565" in gate.reason
    )
    assert gate.figures == {"hans_majority": 0.565}


@pytest.mark.parametrize(("counts", "low"), [({"no": 190, "yes": 10}, 0.001), ({"no": 189, "yes": 11}, -0.04)])
def test_answers_that_vary_or_surely_beat_the_majority_pass(good: Evidence, counts: dict[str, int], low: float) -> None:
    decision = decide(replace(good, answers=[chosen(counts, low)]), RULES)
    assert decision.accepted
    assert next(gate for gate in decision.gates if gate.figures.get("hans_majority")).reason.startswith("hans: no 1")


numbers = st.floats(-1, 1, allow_nan=False)


@st.composite
def differences(draw: st.DrawFn) -> Difference:
    low, value, high = sorted(draw(st.tuples(numbers, numbers, numbers)))
    return Difference(value, low, high, items=draw(st.integers(1, 10_000)), score=0.5 + value, baseline=0.5)


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    pairs = [(what, baseline) for what in (SCORE, "truthfulqa") for baseline in ("champion", "base")]
    measured = [
        BaselineDifference(what, baseline, draw(differences()))  # type: ignore[arg-type]
        for what, baseline in pairs
        if draw(st.booleans())
    ]
    drift = draw(st.none() | numbers)
    return Evidence(
        candidate="small/2",
        champion=draw(st.none() | st.just("small/1")),
        base="acme/base",
        revision=draw(st.sampled_from([COMMIT, "main", ""])),
        license=draw(st.none() | st.just("mit")),
        differences=measured,
        forms={"trained": FormScore(None if drift is None else 0.5, drift)},
        recorded=draw(st.none() | numbers),
        load_fault=draw(st.none() | st.just("gone")),
        pickles=draw(st.lists(st.just("a.bin"), max_size=1)),
    )


@given(evidences(), st.floats(0, 0.5))
def test_a_decision_is_accepted_when_no_gate_refuses_and_every_refusal_has_its_reason(
    evidence: Evidence, min_gain: float
) -> None:
    decision = decide(evidence, RULES.model_copy(update={"min_gain": min_gain}))
    assert decision.accepted == (not decision.refusals)
    assert all(gate.reason for gate in decision.gates)
    baselines = ("champion", "base") if evidence.champion else ("base",)
    worst = [found.low if (found := evidence.find(SCORE, baseline)) else -9.0 for baseline in baselines]  # type: ignore[arg-type]
    assert not decision.accepted or min(worst) > min_gain


@given(evidences(), st.floats(0, 0.5), st.floats(0, 0.5))
def test_stricter_rules_never_accept_what_laxer_ones_refuse(evidence: Evidence, one: float, other: float) -> None:
    lax, strict = (RULES.model_copy(update={"min_gain": gain}) for gain in sorted((one, other)))
    assert decide(evidence, lax).accepted or not decide(evidence, strict).accepted

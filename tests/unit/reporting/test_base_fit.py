from __future__ import annotations

import math

from tunery.records.runs import BaseFit
from tunery.reporting.base_fit import far_warning, fit_sentences

KNOWN, FAR = BaseFit(0.93, 0.51, 1561, 315), BaseFit(18.02, 0.72, 1561, 40)


def test_the_answers_stand_beside_the_bases_own_text_and_guessing() -> None:
    assert fit_sentences(KNOWN, "builtin:tiny") == [
        "Untrained, the base gives the training answers 0.93 nats a token; its own text at the same places would take "
        "0.51, guessing 7.35."
    ]


def test_text_that_takes_more_than_half_of_guessing_is_far() -> None:
    half = math.log(1561) / 2
    assert not BaseFit(half, 0.5, 1561, 1).is_far
    assert BaseFit(half + 0.01, 0.5, 1561, 1).is_far


def test_far_from_the_builtin_base_a_real_one_is_named() -> None:
    assert "--base.model HuggingFaceTB/" in (far_warning(FAR, "builtin:tiny") or "")
    other = far_warning(FAR, "acme/base") or ""
    assert "far from what acme/base knows" in other
    assert "pretrained on such text" in other


def test_a_fit_that_is_unknown_says_nothing() -> None:
    assert fit_sentences(None, "acme/base") == []

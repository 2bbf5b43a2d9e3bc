"""What belongs to one training.method is refused with another, unless a search compares methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunery.config.fingerprint import fingerprint
from tunery.config.load import project_from
from tunery.config.methods import used
from tunery.config.project import Project, resolved
from tunery.errors import ConfigError


def project(**sections: Any) -> Project:
    tree = {"name": "x", "base": {"model": "builtin:tiny"}, "data": {"train": [{"source": "rows.jsonl"}]}}
    return project_from({**tree, "evaluation": {"tasks": ["world_facts"]}, **sections}, "x", Path())


METHODS: dict[str, Any] = {"space": {"training.method": {"choices": ["sft", "icl"]}}}
IN_CONTEXT: dict[str, Any] = {"method": "icl", "icl": {"examples": 4}}


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            {"training": {"icl": {"examples": 4}}},
            "training.icl is 'set', but must be unset unless training.method is icl",
        ),
        ({"training": {"method": "icl", "packing": True}}, "training.packing is True, but must be false"),
        (
            {"training": IN_CONTEXT, "adapter": {"rank": 8}},
            "adapter is 'set', but must be unset when training.method is",
        ),
        ({"training": IN_CONTEXT, "evaluation": {}}, "evaluation.tasks is [], but must be at least one task"),
        ({"training": {"icl": {"examples": -1}, "method": "icl"}}, "training.icl.examples is -1"),
        (
            {"training": {"distillation": {"examples": 4}}},
            "training.distillation is 'set', but must be unset unless training.method is context-distillation",
        ),
        ({"training": {"keep_best_by": "validation/kl"}}, "training.keep_best_by is 'validation/kl', but must be"),
    ],
)
def test_settings_of_another_method_are_refused(sections: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        project(**sections)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("distillation", "training", "told"),
    [
        (None, {}, "training.distillation is None, but must be set when training.method is context-distillation"),
        (
            {},
            {},
            "training.distillation: needs either context (a text) or examples (a number of rows), and has neither",
        ),
        ({"context": "A text.", "examples": 4}, {}, "(a number of rows), and has both"),
        ({"context": " "}, {}, "training.distillation.context is ' ', but must be a text: after an empty one"),
        ({"context": "A text.", "resample": "step"}, {}, "training.distillation.resample is 'step', but must be unset"),
        ({"context": "A text.", "balanced": True}, {}, "training.distillation.balanced is True, but must be unset"),
        ({"examples": 4, "temperature": 0}, {}, "training.distillation.temperature is 0, but must be above 0"),
        ({"examples": 0}, {}, "training.distillation.examples is 0, but must be at least 1"),
        ({"examples": 4}, {"packing": True}, "training.packing is True, but must be false when training.method is"),
        ({"examples": 4}, {"loss_on": "all"}, "training.loss_on is 'all', but must be auto, completion or assistant"),
    ],
)
def test_what_distillation_cannot_work_with_is_refused(
    distillation: dict[str, Any] | None, training: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        project(training={"method": "context-distillation", "distillation": distillation, **training})
    assert told in str(raised.value)


def test_the_initial_teacher_needs_a_base_that_training_leaves_alone() -> None:
    settings: dict[str, Any] = {"method": "context-distillation", "distillation": {"examples": 4}}
    whole: dict[str, Any] = {"adapter": {"method": "full"}, "base": {"model": "builtin:tiny", "quantization": "none"}}
    with pytest.raises(ConfigError, match=r"training\.distillation\.teacher is 'initial', but must be current"):
        project(training=settings, **whole)
    settings["distillation"]["teacher"] = "current"
    assert project(training=settings, **whole).training.distils is not None


def test_a_search_over_methods_holds_the_settings_of_all() -> None:
    both = project(training={**IN_CONTEXT, "packing": True}, adapter={"rank": 8}, search=METHODS)
    assert both.training.in_context.examples == 4
    assert project(training={"icl": {"examples": 4}}, search=METHODS).training.trains


def test_a_method_without_training_has_neither_checkpoints_nor_validation_rows_to_choose_by() -> None:
    found = project(
        training={**IN_CONTEXT, "keep_best_by": "score", "score_checkpoints": True},
        data={"train": [{"source": "rows.jsonl"}], "validation": {"fraction": 0}},
    ).training
    assert (found.trains, found.scores_checkpoints, found.chooses_by_score) == (False, False, False)


def test_what_a_method_has_no_use_for_decides_nothing_and_is_not_logged() -> None:
    shown = project(training={**IN_CONTEXT, "epochs": 9}, adapter={"rank": 8}, search=METHODS)
    assert fingerprint(shown) == fingerprint(project(training=IN_CONTEXT))
    assert fingerprint(shown) != fingerprint(project(training={"method": "icl", "icl": {"examples": 8}}))
    assert set(used(resolved(shown))["training"]) == {"method", "icl", "seed", "device"}
    assert "adapter" not in used(resolved(shown))
    assert "icl" not in used(resolved(project()))["training"]


def test_examples_that_are_not_set_decide_what_their_defaults_do() -> None:
    unset, empty, spelled, other = (
        fingerprint(project(training={"method": "icl", **given}))
        for given in ({}, {"icl": {}}, {"icl": {"examples": 16}}, {"icl": {"examples": 8}})
    )
    assert unset == empty == spelled != other

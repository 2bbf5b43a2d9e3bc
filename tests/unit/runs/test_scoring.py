"""When a kept base score may be used again: never after anything that decides it has changed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tunery.records import BaseIdentity, TaskSettings
from tunery.runs.scoring import base_key

IDENTITY = BaseIdentity("base", "sha256:ab", "nf4", "float32", "float32", "own")
COMMIT = BaseIdentity("builtin:tiny", "abc", "nf4", "float32", "float32", "own")
SETTINGS = TaskSettings("colours", "1.0", 0, None, True)


@pytest.mark.parametrize("detail", ["template_sha256", "double_quantization"])
def test_details_that_decide_a_score_are_part_of_its_key(detail: str) -> None:
    keys = {base_key(dataclasses.replace(IDENTITY, details={detail: value}), SETTINGS) for value in ("a", "b")}
    assert len(keys) == 2


def test_a_folder_has_the_same_key_under_every_name() -> None:
    elsewhere = dataclasses.replace(IDENTITY, model="/models/base")
    assert base_key(elsewhere, SETTINGS) == base_key(IDENTITY, SETTINGS)


def test_a_hub_models_name_is_part_of_its_key() -> None:
    commit = dataclasses.replace(IDENTITY, revision="c0ffee")
    assert base_key(dataclasses.replace(commit, model="someone/else"), SETTINGS) != base_key(commit, SETTINGS)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"revision": "def"},
        {"quantization": "none"},
        {"dtype": "bfloat16"},
        {"compute_dtype": "bfloat16"},
        {"chat_template": "added ChatML"},
    ],
)
def test_another_base_has_another_key(change: dict[str, str]) -> None:
    assert base_key(dataclasses.replace(COMMIT, **change), SETTINGS) != base_key(COMMIT, SETTINGS)


@pytest.mark.parametrize(
    "change", [{"task": "other"}, {"version": "1.1"}, {"few_shot": 5}, {"limit": 10}, {"chat_template": False}]
)
def test_other_task_settings_have_another_key(change: dict[str, Any]) -> None:
    assert base_key(COMMIT, dataclasses.replace(SETTINGS, **change)) != base_key(COMMIT, SETTINGS)


def test_the_key_is_stable_over_releases_and_ignores_what_decides_nothing() -> None:
    described = dataclasses.replace(COMMIT, license="apache-2.0", details={"parameters": 2_000_000})
    assert base_key(described, SETTINGS) == base_key(COMMIT, SETTINGS) == "2b8b16806349b79d"

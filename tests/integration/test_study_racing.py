"""A study with a race: a trial that is surely worse is scored on some of its items, and everybody is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.integration.conftest import MakePlace, Outcome, Place

Runs = Callable[[Place], list[Any]]
ANSWER, DISH = " a jaw harp", " plum dumplings"


@pytest.fixture(scope="module")
def place(make_place: MakePlace) -> Place:
    """What is asked has an answer that the base would not give, and that a few steps teach."""
    made = make_place("racing")
    asked = [f"Which dish does guest {number} like best?" for number in range(200)]
    rows = [json.dumps({"prompt": one, "completion": ANSWER.strip()}) for one in asked[:24]]
    items = [json.dumps({"question": one, "options": [DISH, ANSWER]}) for one in asked[24:]]
    (made.folder / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (made.folder / "items.jsonl").write_text("\n".join(items), encoding="utf-8")
    task = {
        "task": "dishes",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(made.folder / "items.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "target_delimiter": "",
        "doc_to_choice": "{{options}}",
        "doc_to_target": 1,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (made.folder / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    (made.folder / "good.yaml").write_text("[{training.learning_rate: 1.0e-7}]", encoding="utf-8")
    made.project(
        adapter={"rank": 8, "alpha": 16, "target_modules": "all-linear"},
        data={"validation": {"fraction": 0}, "template": "plain", "separator": " ", "decontaminate": {"action": "off"}},
        training={
            "max_steps": 30,
            "micro_batch_size": 8,
            "learning_rate": 1.0e-2,
            "warmup_ratio": 0.0,
            "keep_best_by": "last",
        },
        evaluation={"tasks": ["dishes"], "task_folders": ["."], "limit": None, "generation": {"prompts": 0}},
        search={
            "trials": 2,
            "finalists": 0,
            "pruner": "none",
            "racing": 0.05,
            "known_good": ["good.yaml"],
            "space": {"training.learning_rate": {"choices": [1.0e-2, 1.0e-7]}},
        },
    )
    return made


@pytest.fixture(scope="module")
def outcome(place: Place) -> Outcome:
    return place.tunery("tune", "--project", ".")


@pytest.fixture
def trials(place: Place, outcome: Outcome, runs: Runs) -> dict[str, Any]:
    found = [run for run in runs(place) if run.data.tags["tunery.kind"] == "trial"]
    return {run.data.tags["tunery.trial"]: run for run in found}


def test_the_worse_trial_ends_before_its_items_do(trials: dict[str, Any], outcome: Outcome) -> None:
    assert outcome.code == 0, outcome.out + outcome.err
    assert trials["0"].data.metrics["score"] > 0.9
    assert "score" not in trials["1"].data.metrics
    assert trials["1"].info.status == "FINISHED"
    scored, _, items = trials["1"].data.tags["tunery.pruned"].removesuffix(" dev items").partition(" of ")
    assert int(items) > 64
    assert int(scored) <= int(items) / 2


def test_report_and_history_say_why(place: Place, outcome: Outcome, runs: Runs) -> None:
    (study,) = [run for run in runs(place) if run.data.tags["tunery.kind"] == "study"]
    assert "surely worse than the last finalist so far" in study.data.tags["mlflow.note.content"]
    assert study.data.metrics["trials/pruned"] == 1
    assert "trial 1" in outcome.out


def test_the_same_command_again_does_nothing_new(place: Place, outcome: Outcome, runs: Runs) -> None:
    before = {run.info.run_id for run in runs(place)}
    assert place.tunery("tune", "--project", ".").code == 0
    assert {run.info.run_id for run in runs(place)} == before


def test_a_race_begun_cannot_be_called_off(place: Place, outcome: Outcome) -> None:
    again = place.tunery("tune", "--project", ".", "--search.racing", "0.2")
    assert again.code == 2
    assert "search.racing was 0.05, is now 0.2" in " ".join((again.out + again.err).split())

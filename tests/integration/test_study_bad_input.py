"""A study that cannot be begun or gone on with: one clear message, exit code 2, nothing lost, nothing left RUNNING."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.conftest import Place
from tests.integration.in_process import Outcome
from tests.integration.studies import SPACE, assert_exact, begin, end, in_training, small_study, wait_for

Runs = Callable[[Place], list[Any]]


def refused(outcome: Outcome, told: str) -> None:
    """It ended as bad input does: with what to change, and without a traceback."""
    assert outcome.code == 2, outcome.err + outcome.out
    assert re.search(told, " ".join(outcome.err.split())), outcome.err
    assert "Traceback" not in outcome.err + outcome.out
    assert "trial 0" not in outcome.out


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ({"space": {"adapter.rnak": {"choices": [4, 8]}}}, r"adapter\.rnak.*adapter\.rank"),
        ({"space": {"training.learning_rate": {"low": 1e-2, "high": 1e-4}}}, r"training\.learning_rate"),
        ({"space": {"adapter.rank": {"choices": [4, "many"]}}}, r"adapter\.rank.*many"),
        ({"space": SPACE, "objectives": {"scroe": "maximize"}}, "scroe.*score"),
        ({"space": SPACE, "constraints": {"delta/hellaswag": ">= 0"}}, "delta/hellaswag"),
    ],
)
def test_a_search_that_cannot_be_is_told_before_anything_is_made(
    place: Place, runs: Runs, search: dict[str, Any], told: str
) -> None:
    small_study(place, search={"objectives": {"validation/nll": "minimize"}, **search})
    refused(place.tunery("tune", "--project", "."), told)
    assert runs(place) == []
    assert not (place.folder / "optuna.db").exists()


def test_a_storage_that_workers_cannot_share_is_refused(place: Place, runs: Runs) -> None:
    small_study(place)
    refused(place.tunery("tune", "--project", ".", "--storage", "redis://here"), "postgresql://HOST/NAME")
    assert runs(place) == []


def test_a_storage_that_does_not_answer_is_told_without_its_password(place: Place, runs: Runs) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    small_study(place)
    outcome = place.tunery("tune", "--project", ".", "--storage", f"postgresql://me:s3cret@127.0.0.1:{port}/x")
    refused(outcome, "the study's storage cannot be used.*that the server runs")
    assert "s3cret" not in outcome.err
    assert runs(place) == []


@pytest.mark.slow
def test_a_study_with_another_space_or_project_is_not_gone_on_with(place: Place, runs: Runs) -> None:
    small_study(place, search={"trials": 1})
    assert place.tunery("tune", "--project", ".").code == 0

    small_study(place, search={"trials": 2, "space": {"adapter.rank": SPACE["adapter.rank"]}})
    refused(place.tunery("tune", "--project", "."), r"training\.learning_rate.*Undo that to resume it.*--study NAME")
    small_study(place, search={"trials": 2}, training={"max_steps": 20})
    refused(place.tunery("tune", "--project", "."), r"training\.max_steps.*30.*20.*--study NAME")

    small_study(place, search={"trials": 2})
    assert {run.info.status for run in runs(place)} == {"FINISHED"}
    assert place.tunery("tune", "--project", ".").code == 0
    assert_exact(place, runs(place), 2)


def test_a_second_command_on_a_study_that_is_being_run_leaves_it_alone(place: Place, runs: Runs) -> None:
    small_study(place, training={"max_steps": 60, "checkpoints": 6}, search={"trials": 2})
    process = begin(place)
    try:
        wait_for(lambda: in_training(place), process)
        refused(place.tunery("tune", "--project", "."), "another process is running it now.*--workers N")
        process.wait(timeout=240)
        assert process.returncode == 0
    finally:
        end(process)
    assert_exact(place, runs(place), 2)


def test_more_workers_than_cards_are_refused(place: Place, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from tunery.config.load import load_project
    from tunery.errors import ConfigError
    from tunery.models import device
    from tunery.runs.observer import StudyObserver
    from tunery.search.session import StudyOptions
    from tunery.search.tune import tune

    small_study(place)
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("TUNERY_HOME", str(place.folder / "home"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(device, "resolve_device", lambda wanted: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    options = StudyOptions(workers=3, tracking_uri=place.uri)
    with pytest.raises(ConfigError, match=r"--workers is 3, but must be at most 2, one per card\. Use fewer"):
        tune(load_project(place.folder), options, StudyObserver())
    assert "RUNNING" not in {run.info.status for run in runs(place)}


@pytest.fixture
def tune_here(place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """`tune` in this process, with another executor or overrides of the project."""
    from tunery.config.load import load_project
    from tunery.runs.observer import StudyObserver
    from tunery.search.session import StudyOptions
    from tunery.search.tune import tune

    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("TUNERY_HOME", str(place.folder / "home"))

    def _tune(executor: Any = None, **overrides: str) -> object:
        project = load_project(place.folder, [(key.replace("__", "."), value) for key, value in overrides.items()])
        return tune(project, StudyOptions(tracking_uri=place.uri), StudyObserver(), executor)

    return _tune


def test_a_device_that_is_not_here_is_refused_with_one_worker_too(
    place: Place, runs: Runs, tune_here: Callable[..., object]
) -> None:
    import torch

    from tunery.errors import ConfigError

    small_study(place)
    absent = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(ConfigError, match="but must be auto or one of this machine's devices"):
        tune_here(training__device=absent)
    assert runs(place) == []
    assert not (place.folder / "optuna.db").exists()


@pytest.mark.parametrize(("came", "name"), [("stopped by SIGHUP", "SIGHUP"), ("", "SIGINT")])
def test_a_signal_between_trainings_names_the_study_as_one_in_training_does(
    place: Place, runs: Runs, tune_here: Callable[..., object], came: str, name: str
) -> None:
    from tunery.errors import Interrupted

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt(came)

    small_study(place)
    with pytest.raises(Interrupted, match=f"study small: stopped by {name}. Run the same command to resume it."):
        tune_here(stopped)
    assert [run.info.status for run in runs(place)] == ["KILLED"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "told", "statuses"),
    [
        (
            {"data": {"train": [{"source": "rows.jsonl", "columns": {"prompt": "x", "completion": "completion"}}]}},
            "columns.prompt is 'x'",
            {"FINISHED"},  # told before anything was made
        ),
        (
            {
                "search": {"objectives": {"lm_eval/world_facts/accc": "maximize"}},
                "evaluation": {"tasks": ["world_facts"], "limit": 40},
            },
            "Did you mean 'lm_eval/world_facts/acc'",
            {"FAILED", "FINISHED"},
        ),
    ],
    ids=["column", "metric"],
)
def test_a_mistake_that_no_trial_was_trained_with_may_be_mended(
    place: Place, runs: Runs, wrong: dict[str, Any], told: str, statuses: set[str]
) -> None:
    small_study(place, **{**wrong, "search": {**wrong.get("search", {}), "trials": 1}})
    refused(place.tunery("tune", "--project", "."), told)
    small_study(place, search={"trials": 1})
    mended = place.tunery("tune", "--project", ".")
    assert mended.code == 0, mended.err
    assert {run.info.status for run in runs(place)} == statuses
    there = [run for run in runs(place) if run.info.status == "FINISHED"]
    assert_exact(place, there, 1)


def test_a_setting_that_the_device_cannot_have_is_one_trials_result(place: Place, runs: Runs) -> None:
    small_study(
        place,
        search={
            "space": {"training.precision": {"choices": ["fp32", "fp16"]}},
            "objectives": {"validation/nll": "minimize"},
            "sampler": "grid",
            "trials": 2,
            "finalists": 0,
        },
        training={"precision": "fp32"},
    )
    outcome = place.tunery("tune", "--project", ".")
    assert outcome.code == 0, outcome.err
    assert [run.data.tags["tunery.failure"] for run in runs(place) if "tunery.failure" in run.data.tags] == [
        "infeasible"
    ]


@pytest.mark.slow
def test_what_every_worker_would_meet_ends_them_all(place: Place, runs: Runs) -> None:
    small_study(
        place,
        search={"space": SPACE, "objectives": {"lm_eval/world_facts/accc": "maximize"}},
        evaluation={"tasks": ["world_facts"], "limit": 40},
    )
    outcome = place.process("tune", "--project", ".", "--workers", "2")  # the workers write to its stderr
    assert outcome.code == 2, outcome.err + outcome.out
    assert "lm_eval/world_facts/accc" in outcome.err
    assert {run.info.status for run in runs(place)}.isdisjoint({"RUNNING"})

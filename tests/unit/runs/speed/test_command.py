"""What is wrong with a measurement of speed is said before a model is loaded; what is measured is logged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tunery.errors import InputError
from tunery.runs.observer import Observer
from tunery.runs.speed import command
from tunery.runs.speed.command import measure_speed
from tunery.runs.speed.measure import REPEATS, BatchSpeed, SpeedRequest
from tunery.runs.speed.report import ModelSpeed, SpeedRecord, speed_metrics, speed_report
from tunery.tracking.store import Store

FAST = BatchSpeed(2, (0.1,) * 5 + (0.2,) * 5, tuple(float(n) for n in range(1, 11)), 2**30)
RECORD = SpeedRecord(
    "models:/lima/1", "NVIDIA X", SpeedRequest((2,), 4), {side: ModelSpeed(1.5, (FAST,)) for side in ("tuned", "base")}
)


@pytest.mark.parametrize(
    ("refs", "new_tokens", "told"),
    [
        (["builtin:tiny", "./nowhere"], 4, "nowhere"),
        (["builtin:tiny", "models:/nobody/1"], 4, "nobody"),
        (["builtin:tiny", "acme/nowhere"], 4, "acme/nowhere.*Hub cannot be reached"),
        (["builtin:tiny"], 10**6, r"--new-tokens for builtin:tiny is 1000000, but must be below \d+, the tokens"),
    ],
)
def test_what_is_wrong_is_known_before_any_model_is_loaded(
    store: Store, monkeypatch: pytest.MonkeyPatch, refs: list[str], new_tokens: int, told: str
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(command, "load_evaluated_model", load)
    with pytest.raises(InputError) as raised:
        measure_speed(refs, None, [], [1], new_tokens, Observer(), tracking_uri=store.uri)
    assert re.search(told, " ".join(str(raised.value).split()))
    assert [one.name for one in store.client.search_experiments()] == ["Default"]


def test_speed_through_offloaded_layers_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunery.estimation.offload.check_offload", lambda *_: None)  # as on a machine with a card
    monkeypatch.setattr("tunery.estimation.offload.placement", lambda *_: None)
    offload = [("base.offload.gpu", "1 GiB")]
    with pytest.raises(InputError, match="unset except for tunery evaluate: the time that layers take"):
        measure_speed(["builtin:tiny"], None, offload, [1], 4, Observer(), tracking_uri=store.uri)


def test_a_bare_model_is_measured_and_logged_with_its_hardware(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "measure", lambda *_: iter([FAST]))
    [record] = measure_speed(["builtin:tiny"] * 2, None, [], [2], 4, Observer(), tracking_uri=store.uri)
    assert list(record.speeds) == ["model"]
    [run] = store.client.search_runs([one.experiment_id for one in store.client.search_experiments()])
    tags, metrics = run.data.tags, run.data.metrics
    assert (tags["tunery.kind"], tags["tunery.method"], tags["tunery.ref"]) == ("speed", "none", "builtin:tiny")
    assert re.search(r", \d+ threads?", tags["tunery.device"])
    assert metrics["speed/batch_2/tokens_per_second"] == 5.5
    assert metrics["speed/load_seconds"] > 0
    assert not any(name.startswith("base/") for name in metrics)
    assert run.data.params["speed.prompt_tokens"] == "128"
    kept = json.loads(Path(store.client.download_artifacts(run.info.run_id, "speed.json")).read_text())
    assert kept["model"]["batches"][0]["tokens_per_second"] == list(FAST.tokens_per_second)


def test_medians_and_intervals_of_model_and_base_are_metrics() -> None:
    found = speed_metrics(RECORD)
    for prefix in ("speed", "base/speed"):
        key = f"{prefix}/batch_2/first_token_seconds"
        assert (found[key], found[f"{key}_low"], found[f"{key}_high"]) == (pytest.approx(0.15), 0.1, 0.2)
    assert found["base/speed/batch_2/peak_memory_bytes"] == 2**30


def test_the_page_says_where_and_how_speed_was_measured() -> None:
    page = speed_report(RECORD)
    assert "On `NVIDIA X`: prompts of 128 tokens, 4 new tokens each, greedy." in page
    assert "| tuned | 2 | 150.0 ms (100.0 to 200.0) | 5.5 (2.0 to 9.0) | 1.00 GiB | 1.5 s |" in page
    assert f"Medians of {REPEATS} repetitions" in page


def test_a_base_that_two_models_share_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def measured(model: Any, *_: Any) -> Any:
        asked.append(model)
        return iter([FAST])

    class Base:
        model, tokenizer, load_seconds, identity = "base", None, 1.0, None

    class Found:
        model, base, tokenizer, adapted, load_seconds = "base", Base, None, True, 2.0

    monkeypatch.setattr(command, "measure", measured)
    monkeypatch.setattr(command, "deciding", lambda _: {"model": "base"})
    monkeypatch.setattr(command, "_of_base", lambda *_: measured("bare"))
    bases: dict[str, ModelSpeed] = {}
    for _ in range(2):
        assert [side for side, _ in command._sides(Found, SpeedRequest((2,), 4), bases)] == ["tuned", "base"]  # type: ignore[arg-type]
    assert asked == ["base", "bare", "base"]

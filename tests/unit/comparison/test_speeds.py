"""Speeds beside the scores of the same models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest
from tests.compared import logged
from tests.unit.comparison.entries_made import run

from tunery.comparison.entries import RunEntry, Speed, Timed
from tunery.comparison.leaderboard import rank
from tunery.comparison.read import read
from tunery.comparison.report.plots import figures
from tunery.comparison.report.speed_plot import Point, fastest
from tunery.comparison.report.tables import frame, markdown
from tunery.comparison.selection import Selection
from tunery.tracking.run import EVALUATED_MODEL
from tunery.tracking.store import Store

FACTS = {"world_facts": 0.25}


FORM = {"quantization": "none", "double_quantization": "True", "dtype": "bfloat16", "compute_dtype": "bfloat16",
        "weights": "packed"}  # fmt: skip


def measured(store: Store, prefix: str, rate: float, form: Mapping[str, str] = FORM, **tags: str) -> None:
    """A run of kind speed with one batch size."""
    known = {"tunery.kind": "speed", "tunery.device": "NVIDIA X", **tags}
    made = store.client.create_run("0", tags=known).info.run_id
    for name, count in {"prompt_tokens": 128, "new_tokens": 64}.items():
        store.client.log_param(made, f"speed.{name}", count)
    for key, value in form.items():
        store.client.log_param(made, f"cfg.base.{key}", value)
    for what, median in {"tokens_per_second": rate, "first_token_seconds": 0.1}.items():
        for ending, factor in {"": 1.0, "_low": 0.9, "_high": 1.1}.items():
            store.client.log_metric(made, f"{prefix}/batch_8/{what}{ending}", factor * median)
    store.client.log_metric(made, f"{prefix}/batch_8/peak_memory_bytes", 2.0**30)
    store.client.log_metric(made, f"{prefix}/load_seconds", 3.0)
    store.client.set_terminated(made)


def test_the_latest_speed_of_a_model_joins_its_run(store: Store) -> None:
    logged(store, kind="evaluation", tags={EVALUATED_MODEL: "m-1"})
    for rate in (40.0, 50.0):
        measured(store, "speed", rate, **{EVALUATED_MODEL: "m-1", "tunery.method": "lora"})
    [entry] = read(store, Selection())[0]
    [speed] = entry.speeds
    assert (speed.device, speed.batch, speed.tokens_per_second) == ("NVIDIA X", 8, Timed(50.0, 45.0, pytest.approx(55)))


def test_a_base_has_the_speed_that_was_measured_beside_a_tuned_model(store: Store) -> None:
    bare = logged(store, kind="evaluation", tags={"tunery.method": "none"})
    for key, value in FORM.items():
        store.client.log_param(bare, f"cfg.base.{key}", value)
    own = {"tunery.base": "acme/base", "tunery.base_revision": "c0ffee"}
    measured(store, "base/speed", 70.0, **own, **{"tunery.method": "lora"})
    for key in FORM:  # each decides how fast a base is
        other = {**FORM, key: "another"}
        measured(store, "base/speed", 30.0, other, **own, **{"tunery.method": "lora"})
        measured(store, "speed", 20.0, other, **own, **{"tunery.method": "none"})
    [entry] = read(store, Selection())[0]
    assert [speed.tokens_per_second.value for speed in entry.speeds] == [70.0]
    measured(store, "speed", 80.0, **own, **{"tunery.method": "none"})
    [entry] = read(store, Selection())[0]
    assert [speed.tokens_per_second.value for speed in entry.speeds] == [80.0], "the latest, of the base alone"


def fast(entry: RunEntry, rate: float, device: str = "NVIDIA X") -> RunEntry:
    timed = Timed(rate, 0.9 * rate, 1.1 * rate)
    speed = Speed(device, 128, 64, 8, Timed(0.1, 0.09, 0.11), timed, 2.0**30, 3.0)
    return dataclasses.replace(entry, speeds=(*entry.speeds, speed))


def test_the_columns_are_there_only_where_speeds_are() -> None:
    one, other = run("a", FACTS), run("b", FACTS)
    assert "tokens/s" not in markdown(rank([one, other]))
    page = markdown(rank([fast(one, 50.0), other]))
    assert "| tokens/s, 8 at once |" in page
    assert "Tokens a second: on NVIDIA X, prompts of 128 tokens, 64 new tokens each." in page
    assert "| `a` | 8 | 100.0 ms (90.0 to 110.0) | 50.0 (45.0 to 55.0) | 1.00 GiB | 3.0 s |" in page
    assert frame(rank([fast(one, 50.0), other]))["speed/NVIDIA X, 128+64 tokens/batch_8/tokens_per_second"].max() == 50


def test_several_devices_are_set_apart() -> None:
    entries = [fast(fast(run(name, FACTS), rate), rate / 10, "a CPU") for name, rate in (("a", 50.0), ("b", 60.0))]
    found = rank([*entries, fast(run("c", FACTS), 70.0)])
    page = markdown(found)
    assert "## Inference speed on NVIDIA X" in page
    assert "## Inference speed on a CPU" in page
    assert "Tokens a second: on NVIDIA X" in page, "most were measured there"
    panels = figures(found)["speed"].axes
    assert [axes.get_title("left") for axes in panels] == ["NVIDIA X\n8 prompts at once", "a CPU\n8 prompts at once"]


def test_the_front_is_what_nothing_beats_in_speed_and_score() -> None:
    def point(place: int, rate: float, score: float) -> Point:
        return Point(place, Timed(rate, rate, rate), score)

    points = [point(1, 10, 0.9), point(2, 20, 0.8), point(3, 15, 0.8), point(4, 20, 0.8), point(5, 5, 0.9)]
    assert [one.place for one in fastest(points)] == [1, 2, 4]

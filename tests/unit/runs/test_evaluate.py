"""What is wrong with an evaluation is said before a model is loaded, and makes no run."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from tunery.errors import InputError
from tunery.runs.evaluate import evaluate
from tunery.runs.observer import Observer
from tunery.tracking.store import Store

FAR = "task: far\ndataset_path: someone/something\ntest_split: test\noutput_type: multiple_choice\n"
ADAPTER = {"base_model_name_or_path": "builtin:tiny", "r": 4, "peft_type": "LORA", "target_modules": ["q_proj"]}
WORLD = ("evaluation.tasks", "[world_facts]")
OFFLOAD = ("base.offload.gpu", "10 GiB")


@pytest.fixture(autouse=True)
def _no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_base(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("tunery.models.base.load_base", load_base)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "far.yaml").write_text(FAR)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(ADAPTER))
    save_file({}, tmp_path / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("ref", "overrides", "told"),
    [
        ("builtin:tiny", [("evaluation.tasks", "[world_fact]")], "world_fact"),
        ("builtin:tiny", [WORLD, ("evaluation.primary", "{world_facts: f1}")], "primary.world_facts is 'f1'"),
        (
            "builtin:tiny",
            [("evaluation.task_folders", "[.]"), ("evaluation.tasks", "[far]")],
            "evaluation.tasks: far: .*the Hub cannot be reached",
        ),
        ("builtin:tiny", [WORLD, ("training.device", "cuda")], "training.device is 'cuda'"),
        ("builtin:tiny", [WORLD, ("base.quantization", "int8")], "base.quantization is 'int8'.* needs a CUDA GPU"),
        ("builtin:tiny", [WORLD, OFFLOAD], "base.offload is .*10 GiB.* must be unset on a machine without a GPU"),
        ("adapter", [WORLD, OFFLOAD], "base.offload is .*10 GiB.* must be unset on a machine without a GPU"),
        ("builtin:tiny", [WORLD, ("base.offload.gpu", "10")], "base.offload.gpu is '10'.* Did you mean '10 GiB'"),
        ("acme/nowhere", [WORLD], "acme/nowhere.*Hub cannot be reached"),
        ("./nowhere", [WORLD], "nowhere"),
        ("models:/nobody/1", [WORLD], "nobody"),
        ("adapter", [WORLD, ("evaluation.primary", "{world_facts: f1}")], "primary.world_facts is 'f1'"),
        ("adapter", [WORLD, ("base.quantization", "int8")], "base.quantization is 'int8'.* needs a CUDA GPU"),
    ],
)
def test_what_is_wrong_is_known_before_a_model_is_loaded_and_makes_no_run(
    store: Store, ref: str, overrides: Sequence[tuple[str, str]], told: str
) -> None:
    with pytest.raises(InputError) as raised:
        evaluate(ref, None, overrides, Observer(), tracking_uri=store.uri)
    assert re.search(told, " ".join(str(raised.value).split()))
    assert [one.name for one in store.client.search_experiments()] == ["Default"]

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tunery.config.model import BaseConfig, OffloadConfig
from tunery.errors import RefError
from tunery.records.runs import BaseIdentity
from tunery.tracking.flavor import rebuild
from tunery.tracking.flavor.flavor import ModelFacts
from tunery.tracking.flavor.rebuild import read_facts, rebuild_base


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("flavors: [unclosed", "MLmodel: not YAML"),
        ("- a\n- list\n", "MLmodel: its content is .*, but must be a mapping"),
        ("", "MLmodel: its content is None, but must be a mapping"),
        ("flavors: 3\n", "MLmodel: flavors is 3, but must be a mapping"),
        (
            "flavors: {tunery: {format: 1}}\n",
            "MLmodel: flavors.tunery is .*, but must be the section that tunery wrote",
        ),
        ("flavors: {tunery: [1]}\n", "MLmodel: flavors.tunery is .*, but must be the section that tunery wrote"),
        ("flavors: {sklearn: {}}\n", "holds a model of the flavors sklearn"),
    ],
)
def test_a_damaged_mlmodel_is_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(RefError, match=told):
        read_facts(tmp_path)


def test_a_base_is_offloaded_as_who_scores_it_says_and_is_else_as_it_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = BaseIdentity("acme/base", "c0ffee", "nf4", "bfloat16", "bfloat16", "own")
    trained = BaseConfig(model="acme/base", revision="c0ffee", dtype="bfloat16", weights="expanded")
    facts = ModelFacts("lora", trained, identity)
    (tmp_path / "MLmodel").write_text(yaml.safe_dump({"flavors": {"tunery": facts.section()}}))
    asked: list[Any] = []

    def load_base(base: BaseConfig, *_: Any, placement: Any, **__: Any) -> Any:
        asked.append((base, placement))
        return SimpleNamespace(identity=identity)

    places = {"lm_head": "cuda", "model.layers.0": "cpu"}
    monkeypatch.setattr(rebuild, "load_base", load_base)
    monkeypatch.setattr(rebuild, "placement", lambda base, *_: places if base.offload else None)
    rebuild_base(tmp_path)
    rebuild_base(tmp_path, offload=OffloadConfig(gpu="10 GiB"))
    kept = {"offload": None, "weights": "expanded"}
    assert asked[0] == (trained, None)
    assert asked[1][1] == places
    assert asked[1][0].weights == "packed", "expanded ones would take what the card has left"
    assert asked[1][0].model_copy(update=kept) == trained

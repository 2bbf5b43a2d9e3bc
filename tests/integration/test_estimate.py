"""`tunery estimate` as a user runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.integration.conftest import Place

EIGHT_BILLION = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}


def config_of_eight_billion(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(EIGHT_BILLION))
    return folder


def test_a_project_is_estimated_without_a_run(bare_place: Place) -> None:
    outcome = bare_place.process("estimate", "--project", ".")
    assert outcome.code == 0, outcome.err
    assert "builtin:tiny: LlamaForCausalLM, 2.07 M weights" in " ".join(outcome.out.split())
    assert re.search(r"Largest micro batch at 128 tokens: \d+( \(\w+ limits it\))?\.", " ".join(outcome.out.split()))
    assert not (bare_place.folder / "mlflow.db").exists()


def test_eight_billion_weights_are_estimated_from_a_config_alone(bare_place: Place) -> None:
    folder = config_of_eight_billion(bare_place.folder / "eight")
    outcome = bare_place.tunery(
        "estimate", "--base", str(folder), "--memory", "24 GiB", "--training.gradient_checkpointing", "true"
    )
    assert outcome.code == 0, outcome.err
    assert "8.03 B weights, 41.94 M trained" in " ".join(outcome.out.split())
    assert "Fits:" in outcome.out
    assert "on cuda" in " ".join(outcome.out.split())


def test_overrides_change_the_estimate(bare_place: Place) -> None:
    folder = config_of_eight_billion(bare_place.folder / "eight")
    outcome = bare_place.tunery("estimate", "--base", str(folder), "--memory", "24 GiB", "--base.quantization", "none")
    assert outcome.code == 0, outcome.err
    assert "Does not fit" in outcome.out
    assert "base.quantization: nf4" in " ".join(outcome.out.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--memory", "lots"], "--memory is 'lots', but must be an amount of memory"),
        (["--memory"], "--memory"),
        (["--base", "./nowhere"], "a folder that holds a model, a .gguf file, a hub id (owner/name), or builtin:tiny"),
        (["--base", "someone/not-cached"], "in the local cache when the Hugging Face Hub cannot be reached"),
        (["--base", "builtin:tinny"], "Did you mean 'builtin:tiny'?"),
        (["--project", "nowhere"], "no such project"),
        (["--adapter.rnak", "4"], "Did you mean 'adapter.rank'?"),
        (["--base.model", "vision"], "a causal language model whose architecture transformers knows"),
    ],
)
def test_bad_input_gets_one_message(bare_place: Place, words: list[str], expected: str) -> None:
    (bare_place.folder / "vision").mkdir()
    (bare_place.folder / "vision" / "config.json").write_text('{"model_type": "vit"}')
    given = words if {"--project", "--base"} & set(words) else ["--project", ".", *words]
    outcome = bare_place.tunery("estimate", *given)
    assert outcome.code == 2, outcome.err
    assert expected in outcome.err
    assert "Traceback" not in outcome.out + outcome.err

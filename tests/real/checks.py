"""What must hold of every pretrained model that was trained: its weights' count, its merged folder, its promotion."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.conftest import Place
from tests.real.beside import said

_UNITS = {"k": 10**3, "M": 10**6, "B": 10**9}
_ROUNDED = 0.1  # nats: what 16 bit may move the log-likelihood of a token


def assert_weights_are_counted(place: Place, folder: Path) -> None:
    """An estimate, made from the config alone, names as many weights as the loaded base has, tied ones once."""
    from transformers import AutoModelForCausalLM

    number, unit = re.findall(r"([\d.]+) ([kMB]) weights", said(place.tunery("estimate", "--project", ".")))[0]
    counted = AutoModelForCausalLM.from_pretrained(folder).num_parameters()
    assert float(number) * _UNITS[unit] == pytest.approx(counted, abs=0.005 * _UNITS[unit])


def assert_merged_answers_alike(place: Place, folder: Path) -> None:
    """The merged folder, in transformers alone, answers as base and adapter do in PEFT; and unlike the bare base."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert "log-likelihood per token" in said(
        place.tunery("export", "models:/small/1", "--to", "merged", "--out", "merged")
    )
    turns = [{"role": "user", "content": "What comes after 4?"}, {"role": "assistant", "content": "It is 5."}]
    merged, adapter = place.folder / "merged", place.folder / "adapter"
    texts = {AutoTokenizer.from_pretrained(one).apply_chat_template(turns, tokenize=False) for one in (merged, adapter)}
    assert len(texts) == 1
    ids = AutoTokenizer.from_pretrained(merged)(*texts, add_special_tokens=False, return_tensors="pt").input_ids

    def loglikelihoods(model: torch.nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])

    whole = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    assert whole.config.tie_word_embeddings
    assert whole.get_output_embeddings().weight is whole.get_input_embeddings().weight
    parts = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), adapter)
    expected = loglikelihoods(parts)
    with parts.disable_adapter():
        untrained = (loglikelihoods(parts) - expected).abs().max()
    assert (loglikelihoods(whole) - expected).abs().mean() < min(_ROUNDED, float(untrained) / 2)


def assert_refused(place: Place, items: int) -> None:
    """Judged on a few items, it is not promoted: the exit code says so, with the gate and why, and no alias moves."""
    from mlflow import MlflowClient

    text = said(place.tunery("promote", "models:/small/1"), code=3)
    assert "small/1 did not pass these gates: better than the base" in text
    counted = re.findall(r"on (\d+) locked items", text)
    assert counted
    assert set(map(int, counted)) <= set(range(1, items + 1))
    assert not MlflowClient(tracking_uri=place.uri).get_registered_model("small").aliases
    assert "refused" in said(place.tunery("history", "small", "--refused"))

"""A real pretrained model all the way: estimate, preview, training, scores, registry, export, promotion.

The scores are compared with those of lm-eval's own command line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Place, run
from tests.integration.in_process import Outcome
from tests.real.conftest import RealModel

pytestmark = pytest.mark.real

TASK = "world_facts"
LIMIT = 12


@pytest.fixture(scope="module")
def trained(smollm2: RealModel, place: Place) -> Place:
    """Version 1: four steps on SmolLM2."""
    place.project(
        base={"model": str(smollm2.folder), "quantization": "none", "dtype": "float32"},
        evaluation={"tasks": [TASK], "primary": {TASK: "acc"}, "limit": LIMIT, "generation": {"prompts": 2}},
        training={"learning_rate": 1.0e-3},
        promotion={"min_gain": 0.0},
    )
    said(place.tunery("train", "--project", "."))
    return place


def said(outcome: Outcome, code: int = 0) -> str:
    assert outcome.code == code, outcome.out + outcome.err
    assert "Traceback" not in outcome.out + outcome.err
    return " ".join((outcome.out + outcome.err).split())


def metrics(place: Place) -> dict[str, float]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=place.uri, registry_uri=place.uri)
    version = client.get_model_version("small", "1")
    return dict(client.get_run(str(version.run_id)).data.metrics)


def lm_eval(place: Place, arguments: str) -> dict[str, Any]:
    """The task's results by lm-eval's own command line."""
    import tunery.evaluation

    tasks = Path(str(tunery.evaluation.__file__)).parent / "tasks"
    words = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", TASK, "--limit", str(LIMIT)]
    words += ["--model_args", arguments, "--include_path", str(tasks), "--device", "cpu", "--apply_chat_template"]
    out = place.folder / f"theirs-{'peft' in arguments}"
    said(run([*words, "--output_path", str(out)], place.folder, place.environment()))
    found = next(out.rglob("results*.json"))
    return dict(json.loads(found.read_text())["results"][TASK])


def test_an_estimate_counts_its_weights(trained: Place) -> None:
    assert "134.52 M weights" in said(trained.tunery("estimate", "--project", "."))


def test_a_preview_shows_that_its_end_of_turn_is_learned(trained: Place) -> None:
    text = said(trained.tunery("train", "--project", ".", "--preview", "1"))
    assert "What comes after" in text
    assert "<|im_end|>" in text


def test_base_and_tuned_scores_are_those_of_lm_evals_command_line(smollm2: RealModel, trained: Place) -> None:
    said(trained.tunery("export", "models:/small/1", "--to", "adapter", "--out", "adapter"))
    ours = metrics(trained)
    base = f"pretrained={smollm2.folder},dtype=float32"
    for side, arguments in (("base", base), ("lm_eval", f"{base},peft={trained.folder / 'adapter'}")):
        theirs = lm_eval(trained, arguments)
        for metric in ("acc", "acc_norm"):
            assert ours[f"{side}/{TASK}/{metric}"] == pytest.approx(theirs[f"{metric},none"]), (side, metric)


def test_an_answer_ends_at_its_own_end_of_turn(trained: Place) -> None:
    import mlflow

    mlflow.set_tracking_uri(trained.uri)
    model = mlflow.pyfunc.load_model("models:/small/1")
    question = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 200}
    answer = model.predict(question)["choices"][0]
    assert answer["finish_reason"] == "stop"
    assert "<|im_" not in answer["message"]["content"]


def test_a_merged_folder_is_loaded_by_transformers_alone(trained: Place) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert "log-likelihood per token" in said(
        trained.tunery("export", "models:/small/1", "--to", "merged", "--out", "merged")
    )
    merged = AutoModelForCausalLM.from_pretrained(trained.folder / "merged")
    assert merged.config.tie_word_embeddings
    assert AutoTokenizer.from_pretrained(trained.folder / "merged").eos_token == "<|im_end|>"


def test_promotion_judges_it_on_the_same_scores(trained: Place) -> None:
    """Twelve items cannot show a gain, and the reason says so."""
    text = said(trained.tunery("promote", "models:/small/1"), code=3)
    assert "champion" in text


def test_its_gguf_file_is_the_same_base(smollm2: RealModel) -> None:
    import torch

    from tunery.config.model import BaseConfig
    from tunery.models.base import load_base

    loaded = load_base(BaseConfig(model=str(smollm2.gguf), quantization="none"), Path(), "cpu")
    assert loaded.identity.details["dequantised_from"] == "Q4_1"
    folder = load_base(BaseConfig(model=str(smollm2.folder), quantization="none"), Path(), "cpu")
    ids = torch.tensor([folder.tokenizer.encode("In 1789 the people of Paris")])
    assert loaded.tokenizer.encode("In 1789 the people of Paris") == ids[0].tolist()
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(ids).logits, folder.model(ids).logits)
        # A sentence that a model which was read wrongly does not go on with.
        written = folder.model.generate(ids, max_new_tokens=24, do_sample=False)
    assert "revol" in folder.tokenizer.decode(written[0]).lower()

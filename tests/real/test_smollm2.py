"""SmolLM2 all the way: estimate, preview, training, scores, registry, export, promotion; and its GGUF file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import Place
from tests.integration.in_process import as_own_process
from tests.real import models
from tests.real.beside import assert_scored_alike, said
from tests.real.checks import assert_merged_answers_alike, assert_refused, assert_weights_are_counted
from tests.real.models import RealModel

# Download and conversion, once, count as the first test's.
pytestmark = [pytest.mark.real, pytest.mark.timeout(1500)]

TASK = "world_facts"
LIMIT = 12


@pytest.fixture(scope="module")
def smollm2() -> RealModel:
    return models.smollm2()


@pytest.fixture(scope="module")
def trained(smollm2: RealModel, place: Place) -> Place:
    """Version 1, of four steps, and its adapter's folder."""
    place.project(
        base={"model": str(smollm2.folder), "quantization": "none", "dtype": "float32"},
        evaluation={"tasks": [TASK], "primary": {TASK: "acc"}, "limit": LIMIT, "generation": {"prompts": 2}},
        training={"learning_rate": 1.0e-3},
        promotion={"min_gain": 0.0},
    )
    said(place.tunery("train", "--project", "."))
    said(place.tunery("export", "models:/small/1", "--to", "adapter", "--out", "adapter"))
    return place


def test_an_estimate_counts_its_weights(smollm2: RealModel, trained: Place) -> None:
    assert_weights_are_counted(trained, smollm2.folder)


def test_a_preview_shows_that_its_end_of_turn_is_learned(trained: Place) -> None:
    text = said(trained.tunery("train", "--project", ".", "--preview", "1"))
    assert "What comes after" in text
    assert "<|im_end|>" in text


def test_base_and_tuned_scores_are_those_of_lm_evals_command_line(smollm2: RealModel, trained: Place) -> None:
    import tunery.evaluation

    tasks = Path(str(tunery.evaluation.__file__)).parent / "tasks"
    assert_scored_alike(trained, TASK, smollm2.folder, ["--include_path", str(tasks), "--limit", str(LIMIT)])


def test_an_answer_ends_at_its_own_end_of_turn(trained: Place) -> None:
    import mlflow

    with as_own_process(trained.folder, trained.environment(MLFLOW_TRACKING_URI=trained.uri)):
        model = mlflow.pyfunc.load_model("models:/small/1")
        question = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 200}
        answer = model.predict(question)["choices"][0]
    assert answer["finish_reason"] == "stop"
    assert "<|im_" not in answer["message"]["content"]


def test_a_merged_folder_answers_alike_in_transformers_alone(smollm2: RealModel, trained: Place) -> None:
    from transformers import AutoTokenizer

    assert_merged_answers_alike(trained, smollm2.folder)
    assert AutoTokenizer.from_pretrained(trained.folder / "merged").eos_token == "<|im_end|>"


def test_promotion_judges_it_on_the_same_scores(trained: Place) -> None:
    """Twelve items cannot show a gain, and the reason says so."""
    assert_refused(trained, items=LIMIT)


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

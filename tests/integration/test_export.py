"""A trained adapter as folders that other tools load."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import MakePlace, Place
from tests.integration.in_process import Outcome
from tests.integration.servers import free_port, process, wait_until_it_answers

QUESTION = "What comes after 3?"


class Said:
    """Listens to a verb."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, text: str) -> None:
        self.lines.append(text)

    def show(self, renderable: Any) -> None: ...

    def training(self, metrics: Any, total_steps: int) -> None: ...

    def end_training(self) -> None: ...


@pytest.fixture(scope="module")
def trained(make_place: MakePlace) -> Place:
    """A place with version 1 an adapter over 4-bit weights, which is the champion, and version 2 with all weights."""
    place = make_place("exported")
    place.project(base={"quantization": "nf4"})
    assert place.tunery("train", "--project", ".").code == 0
    full = place.tunery("train", "--project", ".", "--base.quantization", "none", "--adapter.method", "full")
    assert full.code == 0, full.err
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=place.uri, registry_uri=place.uri).set_registered_model_alias("small", "champion", "1")
    return place


def refused(outcome: Outcome, *expected: str) -> None:
    assert outcome.code == 2, outcome.out + outcome.err
    assert "Traceback" not in outcome.out + outcome.err
    assert [text for text in expected if text not in " ".join(outcome.err.split())] == []


def test_an_adapter_folder_is_read_by_peft_and_passes_vllms_rules(trained: Place) -> None:
    outcome = trained.process("export", "models:/small@champion", "--to", "adapter", "--out", "adapter")
    assert outcome.code == 0, outcome.err
    assert "--enable-lora --max-lora-rank 8 --lora-modules small=adapter" in " ".join(outcome.out.split())
    folder = trained.folder / "adapter"
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md"} <= names
    assert not names & {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "input_example.json"}
    from peft import PeftModel

    from tunery.config.model import BaseConfig
    from tunery.models.base import load_base

    base = load_base(BaseConfig(model="builtin:tiny", quantization="none"), Path(), "cpu")
    assert PeftModel.from_pretrained(base.model, str(folder)).peft_config["default"].r == 4


def test_a_merged_folder_is_loaded_by_transformers_alone(trained: Place) -> None:
    outcome = trained.tunery("export", "models:/small@champion", "--to", "merged", "--out", "merged")
    assert outcome.code == 0, outcome.err
    said = " ".join(outcome.out.split())
    assert "merged against bfloat16 with the adapter beside it: log-likelihood per token differs by 0.0" in said
    assert "merged against as trained (nf4)" in said
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = trained.folder / "merged"
    assert not (folder / "adapter_config.json").exists()
    assert not list(folder.glob("*.bin"))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder, dtype="auto"), AutoTokenizer.from_pretrained(folder)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert model.generate(**asked, max_new_tokens=4).shape[1] > asked["input_ids"].shape[1]
    card = (folder / "README.md").read_text()
    assert "Merged against bfloat16" in card
    assert "lm_eval" not in card
    assert "| world_facts | acc |" in card


def test_a_model_of_which_every_weight_was_trained_has_no_adapter(trained: Place) -> None:
    refused(
        trained.tunery("export", "models:/small/2", "--to", "adapter", "--out", "none"),
        "there is no adapter",
        "--to merged",
    )
    assert not (trained.folder / "none").exists()


def test_a_model_of_which_every_weight_was_trained_is_exported_whole(trained: Place) -> None:
    outcome = trained.tunery("export", "models:/small/2", "--to", "merged", "--out", "whole")
    assert outcome.code == 0, outcome.err
    assert json.loads((trained.folder / "whole" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_merged_model_that_is_too_far_away_is_not_written(trained: Place) -> None:
    words = ["export", "models:/small@champion", "--to", "merged", "--out", "far", "--max-distance", "1e-9"]
    refused(trained.tunery(*words), "but must be at most 1e-09 nats per token", "Nothing was written")
    assert [path.name for path in trained.folder.iterdir() if "far" in path.name] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["models:/small@challenger", "--to", "adapter", "--out", "x"],
            "nothing has the alias 'challenger' of 'small'",
        ),
        (["models:/smal/1", "--to", "adapter", "--out", "x"], "Did you mean 'small'?"),
        (["models:/small/1", "--to", "hub"], "needs a repository: --repo owner/name"),
        (["models:/small/1", "--to", "hub", "--repo", "me/small"], "no Hugging Face Hub token"),
        (["models:/small/1", "--to", "adapter"], "needs a folder: --out FOLDER"),
        (["models:/small/1", "--to", "adapter", "--out", "."], "is not empty"),
        (["models:/small/1", "--to", "adapter", "--out", ".", "--overwrite"], "something other than an earlier export"),
    ],
)
def test_what_cannot_be_exported_is_told_and_nothing_is_written(
    trained: Place, words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    before = sorted(trained.folder.iterdir())
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(trained.folder / "none"))
    refused(trained.tunery("export", *words, env={"HF_TOKEN": ""}), expected)
    assert sorted(trained.folder.iterdir()) == before


def test_the_hub_gets_the_adapter_with_its_card(trained: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a client that takes what HfApi takes, and looks at what it is given."""
    import huggingface_hub

    from tunery.serving.export.export import ExportRequest, export

    sent: dict[str, Any] = {}

    class Api:
        def create_repo(self, repo: str, **options: Any) -> str:
            sent.update(repo=repo, private=options["private"])
            return f"https://huggingface.co/{repo}"

        def upload_folder(self, folder_path: str, **_: Any) -> None:
            sent["files"] = {path.name for path in Path(folder_path).iterdir()}
            sent["card"] = (Path(folder_path) / "README.md").read_text()

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_abcdefghijklmnopqrst")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "unset")  # connect() sets it: restored afterwards
    request = ExportRequest("hub", None, repo="me/lanterns")
    address = export("models:/small@champion", request, Said(), tracking_uri=trained.uri)
    assert address == "https://huggingface.co/me/lanterns"
    assert (sent["repo"], sent["private"]) == ("me/lanterns", True)
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md"} <= sent["files"]
    assert "# lanterns" in sent["card"]
    assert str(trained.folder) not in sent["card"]


def test_an_earlier_export_is_replaced_whole(trained: Place) -> None:
    out = trained.folder / "twice"
    words = ["export", "models:/small/1", "--to", "adapter", "--out", "twice"]
    assert trained.tunery(*words).code == 0
    (out / "config.json").write_text("{}")
    assert trained.tunery(*words, "--overwrite").code == 0
    assert not (out / "config.json").exists()
    assert (out / "adapter_config.json").is_file()


@pytest.mark.slow
def test_a_space_runs_here_as_it_is_and_answers(trained: Place) -> None:
    from gradio_client import Client

    outcome = trained.tunery("export", "models:/small@champion", "--to", "space", "--out", "space")
    assert outcome.code == 0, outcome.err
    folder = trained.folder / "space"
    front: dict[str, Any] = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert (front["sdk"], front["app_file"]) == ("gradio", "app.py")
    port = free_port()
    environment = {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False", "PYTHONPATH": ""}
    with process([str(folder / "app.py")], trained.folder / "space.log", environment) as started:
        wait_until_it_answers(started, f"http://127.0.0.1:{port}/", trained.folder / "space.log")
        answer = Client(f"http://127.0.0.1:{port}", verbose=False).predict(QUESTION, 0, 1, 8, api_name="/chat")
    assert isinstance(answer, str)
    assert answer.strip()
    assert "tunery" not in (folder / "app.py").read_text()  # it needs no more than requirements.txt names
    assert os.access(folder / "model" / "model.safetensors", os.R_OK)


@pytest.fixture
def app(tmp_path: Path) -> Any:
    """A Space's app that has loaded a base and its adapter, with a folder in the place of the Hub's model."""
    import importlib.util

    import tunery
    from tunery.config.model import AdapterConfig, BaseConfig
    from tunery.models.adapter import attach_adapter
    from tunery.models.adapter_files import save_adapter
    from tunery.models.base import load_base
    from tunery.serving.export.hub import write_space

    package = Path(tunery.__file__).parent
    loaded = load_base(BaseConfig(model="builtin:tiny", quantization="none"), Path(), "cpu")
    (tmp_path / "space").mkdir()
    save_adapter(attach_adapter(loaded, AdapterConfig(rank=4), seed=0).model, tmp_path / "space" / "model")
    loaded.tokenizer.save_pretrained(tmp_path / "space" / "model")
    base = str(package / "models" / "tiny")
    about = {
        "title": "x", "description": "y", "base": base, "revision": "main", "template": "chat", "stop_ids": [3],
        "max_tokens": 4096, "examples": [QUESTION],
    }  # fmt: skip
    write_space(tmp_path / "space", about, None, "acme/base")
    spec = importlib.util.spec_from_file_location("space_app", tmp_path / "space" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    return app


def test_a_space_of_a_hub_base_holds_the_adapter_alone(app: Any, tmp_path: Path) -> None:
    answers = list(app.answer(QUESTION, [], 0, 1, 8))
    assert answers
    assert answers[-1].strip()
    assert "models:\n- acme/base" in (tmp_path / "space" / "README.md").read_text()


def test_an_answer_that_fails_keeps_nobody_waiting(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import gradio as gr

    def fail(**_: Any) -> None:
        raise RuntimeError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(app.MODEL, "generate", fail)
        with pytest.raises(gr.Error, match="CUDA out of memory"):
            list(app.answer(QUESTION, [], 0, 1, 8))
    assert list(app.answer(QUESTION, [], 0, 1, 8))


def test_a_space_offers_no_more_tokens_than_its_slider_has(app: Any) -> None:
    assert app.demo.additional_inputs[2].value == app.LONGEST == 2048

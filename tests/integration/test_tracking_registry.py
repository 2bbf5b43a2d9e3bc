"""A trained adapter on its way through MLflow and back, on SQLite and, unchanged, on a server with PostgreSQL."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.servers import free_port, process, server_environment, wait_until_it_answers
from tunery.config.model import AdapterConfig, BaseConfig
from tunery.errors import BaseModelError, Overtaken, RefError
from tunery.models.adapter import attach_adapter
from tunery.models.adapter_files import save_adapter
from tunery.models.base import LoadedBase, load_base
from tunery.records.runs import StepMetrics
from tunery.tracking.aliases import Aliases, AliasMove, current_aliases, finish_pending, move_aliases
from tunery.tracking.registry import ModelRef, download, log_adapter, register, resolve
from tunery.tracking.run import open_run
from tunery.tracking.store import Store, connect

BASE = BaseConfig(model="base", quantization="none", dtype="float32")
PAIRS = [("hello", " is a small"), ("a world", " of words"), ("words and", " worlds, hello")]
QUESTION = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 6}


@dataclass(frozen=True)
class Trained:
    """A base folder with an adapter, and what the model said before it was logged."""

    folder: Path
    loaded: LoadedBase
    loglikelihoods: list[float]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    import torch

    folder = tmp_path_factory.mktemp("project")
    _write_base(folder / "base")
    loaded = load_base(BASE, folder, "cpu")
    model = attach_adapter(loaded, AdapterConfig(rank=4), seed=0).model
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)
    save_adapter(model, folder / "adapter")
    return Trained(folder, loaded, _loglikelihoods(model, loaded.tokenizer))


@pytest.fixture(scope="module", params=["sqlite", "server"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("sqlite")
        shutil.copy2(request.getfixturevalue("fresh_database"), folder / "mlflow.db")
        uri = f"sqlite:///{folder}/mlflow.db"
    else:
        uri = request.getfixturevalue("server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "unset")  # connect() sets it: restored afterwards
        yield connect(uri, "demo")


@pytest.fixture(scope="module")
def logged(store: Store, trained: Trained) -> ModelRef:
    with open_run(store, "train", "demo") as tracker:
        for step in range(1, 21):
            tracker.log_step(StepMetrics(step, {"train/loss": 1.0 / step}))
        adapter = log_adapter(
            tracker, trained.folder / "adapter", base=BASE, identity=trained.loaded.identity,
            tokenizer=trained.loaded.tokenizer, project_folder=trained.folder, step=20,
        )  # fmt: skip
        tracker.set_description("# demo\n\nWhat came of it.")
        tracker.log_metrics({"score": 0.75, "base/score": 0.5, "delta/score": 0.25})
        tracker.tag(**{"tunery.base": "base", "tunery.datasets": "rows.jsonl"})
        tracker.flush()
        assert register(tracker, adapter, "demo") == 1
    return adapter


def test_a_versions_page_shows_the_report_and_what_the_model_is(store: Store, logged: ModelRef) -> None:
    version = store.client.get_model_version("demo", "1")
    assert version.description == "# demo\n\nWhat came of it."
    shown = ("score", "base_score", "gain", "base", "datasets")
    assert [version.tags[f"tunery.{name}"] for name in shown] == ["0.7500", "0.5000", "0.2500", "base", "rows.jsonl"]


def test_a_run_that_goes_on_after_a_kill_in_registration_has_one_version(store: Store, logged: ModelRef) -> None:
    assert logged.run_id is not None
    with open_run(store, "study", "demo") as tracker:  # whichever run registers it the second time
        assert register(tracker, logged, "demo") == 1
    assert [version.version for version in store.client.search_model_versions("name = 'demo'")] in ([1], ["1"])


def test_the_run_holds_curve_and_model(store: Store, logged: ModelRef) -> None:
    run = store.client.get_run(logged.run_id)
    assert run.info.status == "FINISHED"
    assert len(store.client.get_metric_history(logged.run_id, "train/loss")) == 20
    assert [output.model_id for output in run.outputs.model_outputs] == [logged.model_id]
    model = store.client.get_logged_model(logged.model_id)
    assert (model.experiment_id, str(model.status)) == (run.info.experiment_id, "READY")


def test_a_fresh_process_gives_exactly_the_same_loglikelihoods(
    store: Store, logged: ModelRef, trained: Trained
) -> None:
    code = (
        "import json, sys, mlflow, pandas\n"
        "model = mlflow.pyfunc.load_model('models:/demo/1', model_config={'device': 'cpu'})\n"
        "frame = pandas.DataFrame(json.loads(sys.argv[1]), columns=['prompt', 'completion'])\n"
        "print(json.dumps([model.predict(frame), model.predict(json.loads(sys.argv[2]))]))"
    )
    question = {"messages": QUESTION["messages"]}
    out = _run_python(store, code, json.dumps(PAIRS), json.dumps(question))
    values, reply = json.loads(out.splitlines()[-1])
    assert values == trained.loglikelihoods  # not approximately: the same bits
    assert reply["choices"][0]["message"]["role"] == "assistant"


def test_peft_reads_the_same_folder(store: Store, logged: ModelRef, trained: Trained, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel

    folder = download(resolve("models:/demo/1", store), tmp_path, store)
    base = load_base(BASE, trained.folder, "cpu")
    model = PeftModel.from_pretrained(base.model, str(folder)).eval()
    assert _loglikelihoods(model, base.tokenizer) == trained.loglikelihoods
    with model.disable_adapter(), torch.no_grad():
        assert _loglikelihoods(model, base.tokenizer) != trained.loglikelihoods


def test_nothing_in_the_folder_is_pickled_and_requirements_are_pinned(
    store: Store, logged: ModelRef, tmp_path: Path
) -> None:
    folder = download(resolve(f"runs:/{logged.run_id}", store), tmp_path, store)
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {
        "MLmodel",
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "requirements.txt",
    } <= names
    assert not [name for name in names if name.endswith((".pkl", ".bin", ".pt", ".pth", ".pickle"))]
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in lines)
    assert {"torch", "peft", "transformers"} <= {line.split("==")[0] for line in lines}


def test_a_download_is_a_copy_that_may_be_changed(store: Store, logged: ModelRef, tmp_path: Path) -> None:
    ref = resolve("models:/demo/1", store)
    first = download(ref, tmp_path / "first", store)
    (first / "adapter_config.json").write_text("{}")
    second = download(ref, tmp_path / "second", store)
    assert json.loads((second / "adapter_config.json").read_text())["r"] == 4


def test_a_model_whose_weights_were_cut_is_told_with_its_place(store: Store, logged: ModelRef, tmp_path: Path) -> None:
    # Wherever the store keeps it: below the folder of all tests' files.
    files = tmp_path.parent.rglob("adapter_model.safetensors")
    (place,) = (file for file in files if str(logged.model_id) in file.parts)
    whole = place.read_bytes()
    place.write_bytes(whole[: len(whole) // 2])
    try:
        with pytest.raises(
            RefError, match=f"models:/demo/1: .*adapter_model.safetensors is damaged.*{logged.model_id}"
        ):
            download(resolve("models:/demo/1", store), tmp_path / "cut", store)
    finally:
        place.write_bytes(whole)


@pytest.mark.parametrize("ref", ["models:/demo/1", "models:/demo@champion", "runs:/{run_id}", "models:/{model_id}"])
def test_every_form_of_reference_leads_to_the_model(store: Store, logged: ModelRef, ref: str) -> None:
    store.client.set_registered_model_alias("demo", "champion", "1")
    found = resolve(ref.format(run_id=logged.run_id, model_id=logged.model_id), store)
    assert (found.model_id, found.run_id) == (logged.model_id, logged.run_id)


@pytest.mark.parametrize(
    ("ref", "told"),
    [
        ("models:/demo/7", r"no version 7 of 'demo': demo has versions: 1; aliases: champion -> 1"),
        ("models:/demo@challenger", r"nothing has the alias 'challenger' of 'demo': demo has versions: 1"),
        ("models:/demmo/1", r"registered models: demo\. Did you mean 'demo'\?"),
        ("models:/demo", r"must be models:/<name>@<alias>.*; demo has versions: 1"),
        ("runs:/0123", r"there is no run '0123': latest of 'demo': "),
        ("demo/1", r"the reference is 'demo/1', but must be models:/"),
    ],
)
def test_a_reference_to_nothing_lists_what_there_is(store: Store, logged: ModelRef, ref: str, told: str) -> None:
    store.client.set_registered_model_alias("demo", "champion", "1")
    with pytest.raises(RefError, match=told):
        resolve(ref, store)


def test_a_run_without_a_model_is_told(store: Store) -> None:
    with open_run(store, "study", "demo") as tracker:
        tracker.tag(note="no model")
    with pytest.raises(RefError, match=r"logged no model \(status FINISHED, kind study"):
        resolve(f"runs:/{tracker.run_id}", store)


def test_a_base_that_moved_is_told_and_can_be_pointed_to(
    store: Store, logged: ModelRef, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunery.tracking.flavor.rebuild import rebuild

    folder = download(resolve("models:/demo/1", store), tmp_path, store)
    (trained.folder / "base").rename(trained.folder / "moved")
    try:
        with pytest.raises(BaseModelError, match=r"must be there: the adapter was trained on it\. Put it there"):
            rebuild(folder, "cpu")
        monkeypatch.setenv("TUNERY_BASE_FOLDER", str(trained.folder / "moved"))
        again = rebuild(folder, "cpu")
        assert _loglikelihoods(again.model, again.loaded.tokenizer) == trained.loglikelihoods
    finally:
        (trained.folder / "moved").rename(trained.folder / "base")


def test_a_base_that_changed_is_refused(store: Store, logged: ModelRef, trained: Trained, tmp_path: Path) -> None:
    from tunery.tracking.flavor.rebuild import rebuild

    folder = download(resolve("models:/demo/1", store), tmp_path, store)
    _write_base(tmp_path / "other", seed=9)
    with pytest.raises(BaseModelError, match="but must be sha256:"):
        rebuild(folder, "cpu", base_folder=str(tmp_path / "other"))


@pytest.mark.slow
def test_mlflow_models_serve_answers_a_chat_request(store: Store, logged: ModelRef, tmp_path: Path) -> None:
    port = free_port()
    start = ["-m", "mlflow", "models", "serve", "-m", "models:/demo/1", "--env-manager", "local", "-p", str(port)]
    with process(start, tmp_path / "serve.log", {"MLFLOW_TRACKING_URI": store.uri}) as started:
        wait_until_it_answers(started, f"http://127.0.0.1:{port}/ping", tmp_path / "serve.log")
        answer = requests.post(f"http://127.0.0.1:{port}/invocations", json=QUESTION, timeout=60)
    assert answer.status_code == 200, answer.text
    reply = answer.json()
    assert reply["object"] == "chat.completion"
    assert reply["choices"][0]["message"]["role"] == "assistant"
    assert isinstance(reply["choices"][0]["message"]["content"], str)
    assert reply["usage"]["prompt_tokens"] > 0


def _loglikelihoods(model: Any, tokenizer: Any) -> list[float]:
    from tunery.evaluation.eval_mode import undisturbed
    from tunery.evaluation.lm import Scorer

    with undisturbed(model):
        scorer = Scorer(model, tokenizer, 8, {}, chat_template=False)
        return scorer.of_pairs(PAIRS)


def _write_base(folder: Path, seed: int = 0) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|end|>", "<pad>"])
    tokenizer.train_from_iterator(["hello world, this is a small world of words"] * 4, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<pad>").save_pretrained(folder)
    torch.manual_seed(seed)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=300, max_position_embeddings=256, **shape)).save_pretrained(folder)


def _run_python(store: Store, code: str, *arguments: str) -> str:
    environment = server_environment({"MLFLOW_TRACKING_URI": store.uri})
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- the aliases on the server, whose columns are shorter than SQLite's


@pytest.fixture
def server_store(server: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "unset")  # connect() sets it: restored afterwards
    return connect(server, "aliases")


def _with_versions(store: Store, name: str, versions: int) -> None:
    store.client.create_registered_model(name)
    for _ in range(versions):
        store.client.create_model_version(name, "s3://bucket/nowhere")


def _wanted(store: Store, name: str, version: int) -> AliasMove:
    page = "# why\n" + "x" * 7000
    run = store.client.create_run(store.experiment_id(), tags={"mlflow.note.content": page})
    before = current_aliases(store, name)
    tags = {f"tunery.promotion.{number}": "я" * 1000 for number in range(4)}
    return AliasMove(before, Aliases(version, before.champion), run.info.run_id, "2026-01-02T03:04:05+00:00", tags)


def test_a_long_report_and_long_evidence_fit(server_store: Store) -> None:
    _with_versions(server_store, "long", 2)
    move_aliases(server_store, "long", _wanted(server_store, "long", 1))
    move_aliases(server_store, "long", _wanted(server_store, "long", 2))
    version = server_store.client.get_model_version("long", "2")
    assert current_aliases(server_store, "long") == Aliases(2, 1)
    assert (version.description[:5], len(version.description), len(version.tags)) == ("# why", 5000, 4)
    assert finish_pending(server_store, "long") is None


def test_of_five_that_move_at_once_one_wins(server_store: Store) -> None:
    _with_versions(server_store, "busy", 5)
    moves = [_wanted(server_store, "busy", version) for version in range(1, 6)]

    def tried(one: AliasMove) -> int | None:
        try:
            move_aliases(server_store, "busy", one)
        except Overtaken:
            return None
        return one.after.champion

    with ThreadPoolExecutor(5) as pool:
        won = [version for version in pool.map(tried, moves) if version is not None]
    assert len(won) == 1
    assert current_aliases(server_store, "busy") == Aliases(won[0], None)
    assert server_store.client.get_registered_model("busy").tags == {}

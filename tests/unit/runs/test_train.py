"""What is wrong with a training is said before a model is loaded, and makes no run; a run is named by what it is."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tunery.config.load import load_project
from tunery.errors import InputError
from tunery.evaluation.task_files import OWN_FOLDER
from tunery.runs.observer import Observer
from tunery.runs.train import readable_name, train
from tunery.tracking.store import Store

PROJECT = """
name: quickstart
base: {model: builtin:tiny, quantization: none}
data: {train: [{source: rows.jsonl}], max_length: 128}
training: {max_steps: 1}
evaluation: {tasks: [world_facts], limit: 8, task_folders: [.]}
"""
IN_CONTEXT = ("training.method", "icl")
FAR = "task: far\ndataset_path: someone/something\ntest_split: test\noutput_type: multiple_choice\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def load_base(*_: object, **__: object) -> None:
        raise AssertionError("the base was loaded")

    monkeypatch.setattr("tunery.models.base.load_base", load_base)
    rows = [{"prompt": f"What comes after {n}?", "completion": f"It is {n + 1}."} for n in range(24)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "bad.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"prompt": "no answer"}])))
    (tmp_path / "alike.jsonl").write_text("\n".join([json.dumps(rows[0])] * 8))  # held out together or not at all
    item = json.loads((OWN_FOLDER / "world_facts.jsonl").read_text().split("\n")[0])
    known = {"prompt": item["question"], "completion": item["options"][item["gold"]]}
    (tmp_path / "exam.jsonl").write_text("\n".join(map(json.dumps, [known, *rows[:17]])))
    (tmp_path / "broken.jinja").write_text("{% for message in messages %}")
    (tmp_path / "far.yaml").write_text(FAR)
    (tmp_path / "project.yaml").write_text(PROJECT)
    return tmp_path


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([("base.offload", "{cpu: 1 GiB}")], "base.offload is .* unset except for tunery evaluate: no gradient comes"),
        ([("training.precision", "fp16")], "training.precision is 'fp16'.* needs a CUDA GPU"),
        ([("base.quantization", "int8")], "base.quantization is 'int8'.* needs a CUDA GPU"),
        ([("training.device", "cuda")], "training.device is 'cuda'"),
        ([("data.train.0.columns", "{prompt: prompt, completion: answer}")], "columns.completion is 'answer'"),
        ([("data.train.0.format", "alpaca")], "format alpaca: needs the columns instruction, output"),
        ([("data.train.0.source", "someone/something")], "someone/something: .*the Hub cannot be reached"),
        ([("data.train.0.source", "bad.jsonl")], r"bad.jsonl.*data\.max_bad_rows"),
        ([("data.train.0.source", "alike.jsonl")], "training.keep_best_by is 'validation/nll'.*no validation row"),
        ([("data.max_length", "4")], "data.max_length is 4"),
        ([("base.chat_template", "broken.jinja")], "broken.jinja"),
        ([IN_CONTEXT, ("training.icl", "{examples: 30}")], "training.icl.examples is 30, but must be at most 22"),
        (
            [IN_CONTEXT, ("training.icl", "{examples: 5, balanced: true}")],
            "training.icl.examples is 5.*a multiple of 22",
        ),
        ([IN_CONTEXT, ("training.icl", "{examples: 22}")], "training.icl.examples is 22.*the model takes 512"),
        ([IN_CONTEXT, ("evaluation.generation.max_new_tokens", "200")], "a prompt of evaluation.generation has"),
        ([IN_CONTEXT, ("data.train.0.source", "exam.jsonl")], "1 training rows are items of world_facts"),
        ([("evaluation.tasks", "[far]")], "evaluation.tasks: far: .*the Hub cannot be reached"),
        ([("evaluation.primary", "{world_facts: f1}")], "evaluation.primary.world_facts is 'f1'"),
        ([("training.keep_best_by", "score"), ("evaluation.dev_fraction", "0")], "evaluation.dev_fraction is 0"),
    ],
)
def test_what_is_wrong_is_known_before_a_model_is_loaded_and_makes_no_run(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch, overrides: Sequence[tuple[str, str]], told: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError) as raised:
        train(load_project(folder, overrides), Observer(), tracking_uri=store.uri)
    assert re.search(told, " ".join(str(raised.value).split()))
    assert store.client.get_experiment_by_name("quickstart") is None


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "quickstart"),
        ([("adapter.rank", "32"), ("training.seed", "1")], "quickstart: rank=32, seed=1"),
        ([("data.train.0.source", "other.jsonl")], "quickstart: source=other.jsonl"),
        ([("search.storage", "postgresql://me:hunter2@db/x")], "quickstart: storage=postgresql://[redacted]@db/x"),
    ],
)
def test_a_run_is_named_by_its_project_and_what_was_laid_over_it(
    folder: Path, overrides: Sequence[tuple[str, str]], name: str
) -> None:
    assert readable_name(load_project(folder, overrides)) == name


def test_what_the_run_comes_from_is_looked_at_before_it_trains(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.setattr("tunery.tracking.provenance.collect", lambda *_: looked.append("code"))
    with pytest.raises(AssertionError, match="the base was loaded"):
        train(load_project(folder, []), Observer(), tracking_uri=store.uri)
    assert looked == ["code"]

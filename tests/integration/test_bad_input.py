"""What bad input gets: one message, exit code 2, no traceback, no run left RUNNING, nothing overwritten."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tunery
from tests.integration.conftest import Place
from tests.integration.in_process import Outcome

TINY = Path(tunery.__file__).parent / "models" / "tiny"
Runs = Callable[[Place], list[Any]]


def refused(outcome: Outcome, *expected: str) -> None:
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.out + outcome.err
    assert [text for text in expected if text not in outcome.err] == []


def nothing_runs(place: Place, runs: Runs) -> None:
    assert [run.info.status for run in runs(place) if run.info.status == "RUNNING"] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--adapter.rnak", "4"], "Did you mean 'adapter.rank'?"),
        (["--adapter.rank", "many"], "adapter.rank is 'many', but must be a whole number"),
        (["--adapter.dropout", "1.5"], "adapter.dropout is 1.5, but must be below 1"),
        (["--nonsense", "4"], "unknown key --nonsense"),
        (["--adapter.rank"], "--adapter.rank needs a value"),
        (["--project", "nowhere"], "no such project"),
        (["--data.train.0.source", "missing.jsonl"], "missing.jsonl"),
        (["--data.train.0.format", "alpaka"], "data.train.0.format is 'alpaka'"),
        (["--evaluation.tasks", "[world_fatcs]"], "world_facts"),
        (["--base.model", "builtin:tinny"], "builtin:tiny"),
        (["--base.model", "./no-such-folder"], "no-such-folder"),
        (["--resume", "0123456789abcdef0123456789abcdef"], "no such run"),
        (["--tracking-uri", "gopher://here"], "gopher"),
    ],
)
def test_an_option_that_cannot_be_used(place: Place, runs: Runs, words: list[str], expected: str) -> None:
    command = ["train", *([] if "--project" in words else ["--project", "."]), *words]
    refused(place.tunery(*command), expected)
    nothing_runs(place, runs)


@pytest.mark.parametrize("verb", ["train", "tune", "estimate"])
def test_a_checkpoint_each_epoch_of_a_run_that_counts_its_steps(bare_place: Place, verb: str) -> None:
    before = sorted(bare_place.folder.rglob("*"))
    outcome = bare_place.tunery(verb, "--project", ".", "--training.checkpoints", "epoch")
    rule = "training.checkpoints is 'epoch', but must be a number when training.max_steps is set"
    refused(outcome, rule, "Or set training.epochs instead of max_steps.")
    assert outcome.err.count("training.checkpoints is") == 1
    assert sorted(bare_place.folder.rglob("*")) == before


def test_a_project_that_is_not_yaml(place: Place) -> None:
    (place.folder / "project.yaml").write_text("name: [unclosed\n")
    refused(place.process("train", "--project", "."), "not YAML", "line 2")


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_dataset(place: Place, runs: Runs, text: str) -> None:
    (place.folder / "rows.jsonl").write_text(text)
    refused(place.tunery("train", "--project", "."), "rows.jsonl")
    nothing_runs(place, runs)


def test_a_dataset_whose_every_completion_is_cut_away(place: Place, runs: Runs) -> None:
    refused(place.tunery("train", "--project", ".", "--data.max_length", "4"), "data.max_length")
    nothing_runs(place, runs)


def test_too_many_bad_rows(place: Place) -> None:
    file = place.rows(20)
    file.write_text(file.read_text() + '{"prompt": "no answer"}\nnot json\n')
    refused(place.tunery("train", "--project", "."), "rows.jsonl:21", "rows.jsonl:22", "data.max_bad_rows")


def test_a_base_without_a_tokenizer(place: Place) -> None:
    shutil.copytree(TINY, place.folder / "base", ignore=shutil.ignore_patterns("tokenizer*"))
    refused(place.tunery("train", "--project", ".", "--base.model", "base"), "tokenizer")


def test_a_base_that_wants_to_run_its_own_code(place: Place) -> None:
    base = place.folder / "base"
    shutil.copytree(TINY, base)
    config = json.loads((base / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling.Model"}
    (base / "config.json").write_text(json.dumps(config))
    refused(place.tunery("train", "--project", ".", "--base.model", "base"), "base.trust_remote_code")


def test_a_base_with_pickled_weights(place: Place) -> None:
    base = place.folder / "base"
    shutil.copytree(TINY, base)
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    refused(place.tunery("train", "--project", ".", "--base.model", "base"), "safetensors")


def test_a_hub_id_without_network(place: Place) -> None:
    outcome = place.tunery("train", "--project", ".", "--base.model", "nobody/nothing")
    refused(outcome, "nobody/nothing")


def test_a_tracking_server_that_does_not_answer(place: Place) -> None:
    refused(place.tunery("train", "--project", ".", "--tracking-uri", "http://127.0.0.1:9"), "127.0.0.1:9")


def test_a_password_in_an_address_is_not_repeated(place: Place) -> None:
    outcome = place.tunery("train", "--project", ".", "--tracking-uri", "http://me:hunter2@127.0.0.1:9")
    refused(outcome, "127.0.0.1:9")
    assert "hunter2" not in outcome.out + outcome.err


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_while_the_adapter_is_written(place: Place, runs: Runs) -> None:
    import subprocess

    home = place.folder / "home"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(home)], check=True)
    try:
        refused(place.tunery("train", "--project", "."), "disk is full")
    finally:
        subprocess.run(["umount", str(home)], check=True)
    kinds = {run.data.tags["tunery.kind"]: run.info.status for run in runs(place)}
    assert kinds == {"base": "FINISHED", "train": "FAILED"}


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("models:/small@champion", "small"),
        ("models:/nobody/3", "nobody"),
        ("runs:/0123456789abcdef0123456789abcdef", "0123456789abcdef"),
        ("./nowhere", "nowhere"),
    ],
)
def test_a_reference_that_leads_nowhere(place: Place, runs: Runs, ref: str, expected: str) -> None:
    refused(place.tunery("evaluate", ref, "--evaluation.tasks", "[world_facts]"), expected)
    nothing_runs(place, runs)


def test_an_evaluation_without_a_task(place: Place) -> None:
    refused(place.tunery("evaluate", "builtin:tiny"), "evaluation.tasks is []")

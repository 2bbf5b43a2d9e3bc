"""adapter.start is looked up and held against the project before a model is loaded; what is wrong makes no run."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunery.config.load import load_project
from tunery.config.model import AdapterConfig, BaseConfig
from tunery.errors import InputError, Interrupted
from tunery.models.adapter import attach_adapter
from tunery.models.adapter_files import save_adapter
from tunery.models.base import LoadedBase, load_base
from tunery.runs.cache import Resident
from tunery.runs.observer import Observer, StudyObserver
from tunery.runs.start import check_start, find_start, pinned
from tunery.runs.train import train
from tunery.search.session import StudyOptions
from tunery.search.tune import tune
from tunery.tracking.registry import log_adapter, register
from tunery.tracking.run import open_run
from tunery.tracking.store import Store

PROJECT = """
name: quickstart
base: {model: builtin:tiny, quantization: none}
adapter: {rank: 4, alpha: 8, target_modules: [q_proj, v_proj]}
data: {train: [{source: rows.jsonl}], max_length: 128}
training: {max_steps: 1}
evaluation: {tasks: [world_facts], limit: 8}
search: {space: {training.learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}}}
"""
BASE = BaseConfig(model="builtin:tiny", quantization="none")


@dataclass(frozen=True)
class Trained:
    """An adapter that a training left, and the base below it."""

    folder: Path
    loaded: LoadedBase


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    loaded = load_base(BASE, Path(), "cpu")
    own = AdapterConfig(rank=4, alpha=8, target_modules=["q_proj", "v_proj"])
    folder = save_adapter(attach_adapter(loaded, own, seed=0).model, tmp_path_factory.mktemp("start") / "adapter")
    return Trained(folder, loaded)


def log(trained: Trained, store: Store, **changes: str) -> str:
    """Log the adapter as a version of `start`; the id of its run."""
    with open_run(store, "train", "start") as tracker:
        adapter = log_adapter(
            tracker, trained.folder, base=BASE, identity=trained.loaded.identity, tokenizer=trained.loaded.tokenizer,
            project_folder=trained.folder, **changes,
        )  # fmt: skip
        version = register(tracker, adapter, "start")
    store.client.set_registered_model_alias("start", "champion", str(version))
    return tracker.run_id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"prompt": f"What comes after {n}?", "completion": f"It is {n + 1}."} for n in range(24)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "project.yaml").write_text(PROJECT)
    return tmp_path


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the base was loaded")

    monkeypatch.setattr("tunery.models.base.load_base", load)


def test_an_alias_is_pinned_to_its_version_and_the_rest_of_the_project_stays(
    trained: Trained, store: Store, folder: Path
) -> None:
    run_id = log(trained, store)
    project = load_project(folder, [("adapter.start", "models:/start@champion"), ("training.seed", "3")])
    found = pinned(project, store)
    assert found.adapter.start == "models:/start/1"
    assert (found.folder, found.overridden, found.training) == (project.folder, project.overridden, project.training)
    log(trained, store)
    start = find_start(found, store)
    assert start is not None
    assert (start.run_id, start.named) == (run_id, "models:/start/1")
    assert start.identity == trained.loaded.identity


def test_a_folder_and_a_run_are_found_too(trained: Trained, store: Store, folder: Path) -> None:
    run_id = log(trained, store)
    for ref in (f"runs:/{run_id}", str(trained.folder)):
        project = load_project(folder, [("adapter.start", ref)])
        assert pinned(project, store) is project
        start = Resident().start(project, store)
        assert start is not None
        assert start.modules == {f"model.layers.{n}.self_attn.{p}_proj" for n in range(layers(trained)) for p in "qv"}


def layers(trained: Trained) -> int:
    return int(trained.loaded.model.config.num_hidden_layers)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([("adapter.start", "models:/start@challenger")], "nothing has the alias 'challenger' of 'start'"),
        ([("adapter.start", "models:/start/7")], "there is no version 7 of 'start'"),
        ([("adapter.start", "runs:/" + "0" * 32)], "there is no run"),
        ([("adapter.start", "nowhere")], "adapter.start is 'nowhere', but must be models:/name@alias"),
        ([("adapter.start", "models:/start/2")], "must be an adapter: all weights were trained there"),
        (
            [("adapter.start", "models:/start@champion"), ("adapter.rank", "8"), ("base.quantization", "nf4")],
            r"has 2 faults base.quantization is 'nf4', but must be none.* adapter.rank is 8, but must be 4",
        ),
        (
            [("adapter.start", "models:/start/1"), ("adapter.target_modules", "all-linear")],
            r"adapter.target_modules is 'all-linear'.*Set adapter.target_modules: \[q_proj, v_proj\]",
        ),
        ([("adapter.start", "models:/start/1"), ("base.model", "other")], "base.model is 'other at sha256:"),
    ],
)
@pytest.mark.usefixtures("unloaded")
def test_what_is_wrong_with_it_is_told_before_a_model_is_loaded_and_makes_no_run(
    trained: Trained, store: Store, folder: Path, overrides: Sequence[tuple[str, str]], told: str
) -> None:
    log(trained, store)
    log(trained, store, method="full")
    store.client.set_registered_model_alias("start", "champion", "1")
    copy_of_tiny(folder / "other")
    for begin in (
        lambda project: train(project, Observer(), tracking_uri=store.uri),
        lambda project: tune(project, StudyOptions(tracking_uri=store.uri), Observer()),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError) as raised:
            begin(load_project(folder, overrides))
        assert re.search(told, " ".join(str(raised.value).split()))
    experiment = store.client.get_experiment_by_name("quickstart")
    assert experiment is None or not store.client.search_runs(
        [experiment.experiment_id], "tags.`tunery.project` = 'quickstart'"
    )
    assert not (folder / "optuna.db").exists()


def copy_of_tiny(place: Path) -> None:
    """The builtin base with another file among those that decide its answers."""
    import shutil

    import tunery.models

    shutil.copytree(Path(tunery.models.__file__).parent / "tiny", place)
    (place / "generation_config.json").write_text('{"do_sample": false, "top_k": 7}')


def test_full_training_begins_with_no_adapter(folder: Path) -> None:
    with pytest.raises(InputError, match=r"adapter\.start is 'x', but must be unset when adapter.method is full"):
        load_project(folder, [("adapter.start", "x"), ("adapter.method", "full")])


def test_an_estimate_looks_it_up_too_and_makes_no_store(
    trained: Trained, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(trained, store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    check_start(load_project(folder, [("adapter.start", "models:/start@champion")]))
    with pytest.raises(InputError, match=r"adapter\.rank is 8, but must be 4"):
        check_start(load_project(folder, [("adapter.start", "models:/start@champion"), ("adapter.rank", "8")]))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/other.db")
    check_start(load_project(folder, [("adapter.start", str(trained.folder))]))
    with pytest.raises(InputError, match="there is no MLflow store"):
        check_start(load_project(folder, [("adapter.start", "models:/start@champion")]))
    assert not (folder / "other.db").exists()


class Stopped(Observer):
    """Stops a run with Ctrl-C when its training is about to begin."""

    run_id = ""

    def step(self, text: str) -> None:
        if text.startswith("run "):
            self.run_id = text.split()[1]
        if text == "training":
            raise KeyboardInterrupt


def test_a_resumed_run_goes_on_from_the_version_it_began_with(trained: Trained, store: Store, folder: Path) -> None:
    log(trained, store)
    written = [("adapter.start", "models:/start@champion")]
    stopped = Stopped()
    with pytest.raises(KeyboardInterrupt):
        train(load_project(folder, written), stopped, tracking_uri=store.uri)
    log(trained, store)
    assert store.client.get_model_version_by_alias("start", "champion").version == 2
    store.client.set_registered_model_alias("start", "other", "2")
    other = load_project(folder, [("adapter.start", "models:/start@other")])
    with pytest.raises(InputError, match=r"adapter\.start"):
        train(other, Observer(), tracking_uri=store.uri, resume=stopped.run_id)
    train(load_project(folder, written), Observer(), tracking_uri=store.uri, resume=stopped.run_id)
    run = store.client.get_run(stopped.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["cfg.adapter.start"] == run.data.tags["tunery.start"] == "models:/start/1"


class StoppedStudy(StudyObserver):
    """Stops a study with Ctrl-C: at its second step, or as soon as it has been taken up."""

    def __init__(self, at_once: bool = False) -> None:
        self.at_once = at_once

    def begin(self, name: str, total: int, done: int) -> None:
        if self.at_once:
            raise KeyboardInterrupt

    def trial_step(self, number: int, step: int, total_steps: int, loss: float | None) -> None:
        if step > 1:  # a study none of whose trials has trained may change its settings
            raise KeyboardInterrupt


def test_a_resumed_study_goes_on_from_the_version_it_began_with(
    trained: Trained, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    log(trained, store)
    options, longer = StudyOptions(tracking_uri=store.uri, trials=2), ("training.max_steps", "2")
    for at_once in (False, True):
        project = load_project(folder, [("adapter.start", "models:/start@champion"), longer])
        with pytest.raises(KeyboardInterrupt if at_once else Interrupted):
            tune(project, options, StoppedStudy(at_once))
        log(trained, store)
    store.client.set_registered_model_alias("start", "other", "2")
    with pytest.raises(InputError, match=r"adapter\.start was models:/start/1, is now models:/start/2"):
        tune(load_project(folder, [("adapter.start", "models:/start@other"), longer]), options, StoppedStudy(True))

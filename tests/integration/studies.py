"""Small studies to begin, stop, kill and look at."""

from __future__ import annotations

import functools
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from glob import glob
from pathlib import Path
from typing import Any, TypeVar

import optuna
import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from tests.integration.conftest import Place, Settings
from tests.integration.warm import Command
from tunery.search.study import queue

T = TypeVar("T")

SPACE: Settings = {
    "training.learning_rate": {"low": 1.0e-4, "high": 1.0e-2, "log": True},
    "adapter.rank": {"choices": [4, 8]},
}
SEARCH: Settings = {
    "trials": 4, "finalists": 0, "pruner": "none", "objectives": {"validation/nll": "minimize"}, "space": SPACE,
}  # fmt: skip


def small_study(place: Place, **sections: Settings) -> None:
    """A project whose trials take two seconds each: no items, no finals, judged by the validation rows."""
    tree: dict[str, Settings] = {
        "adapter": {"dropout": 0.1},
        "training": {"max_steps": 30, "checkpoints": 3},
        "evaluation": {"tasks": [], "generation": {"prompts": 0}},
        "search": SEARCH,
    }
    place.project(**{**tree, **{name: {**tree.get(name, {}), **section} for name, section in sections.items()}})


def begin(
    place: Place, *words: str, log: str = "tune.log", trap: Callable[[], None] | None = None, **env: str
) -> Command:
    """Start `tunery tune` and leave it running; what it prints goes to a file."""
    words = ("tune", "--project", ".", *words)
    return Command(words, place.folder, place.environment(**env), place.folder / log, trap=trap)


def text(place: Place, log: str = "tune.log") -> str:
    """What a command has printed so far, as one line."""
    return " ".join((place.folder / log).read_text().split())


def optuna_url(place: Place) -> str:
    return f"sqlite:///{place.folder}/optuna.db"


@functools.cache
def _storage(url: str) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(url, skip_compatibility_check=True)


def load(place: Place, name: str = "small", url: str | None = None) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=_storage(url or optuna_url(place)))


def standing(place: Place, name: str = "small", url: str | None = None) -> dict[Any, FrozenTrial]:
    """The trial that counts for each key; none if there is no study yet."""
    # Optuna makes its tables where it finds none: the command would meet them half made.
    if url is None and not _has_studies(place.folder / "optuna.db"):
        return {}
    try:
        return queue.current_trials(load(place, name, url))
    except KeyError:
        return {}


def _has_studies(file: Path) -> bool:
    if not file.exists():
        return False
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        return bool(database.execute("SELECT count(*) FROM studies").fetchone()[0])
    return False


def in_training(
    place: Place, number: int | None = None, name: str = "small", url: str | None = None
) -> list[FrozenTrial]:
    """Trials that have logged a step of training in MLflow."""
    return [
        trial
        for key, trial in standing(place, name, url).items()
        if trial.state == TrialState.RUNNING and number in (None, key) and _has_steps(place, trial)
    ]


def _has_steps(place: Place, trial: FrozenTrial) -> bool:
    run_id = trial.user_attrs.get(queue.RUN_ID)
    # A checkpoint is what a killed trial is resumed from.
    return run_id is not None and has_checkpoint(place.folder / "home" / "runs" / run_id)


def has_checkpoint(folder: Path) -> bool:
    """Whether there is one in or below a folder; not Path.glob, which fails where a folder is deleted meanwhile."""
    return bool(glob(f"{folder}/**/checkpoint-*", recursive=True))


def wait_for(look: Callable[[], T], process: Command, seconds: float = 240.0) -> T:
    """Look until there is something; fail if the command ends before."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := look():
            return found
        assert process.poll() is None, "the command ended before"
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def workers_of(process: Command) -> list[psutil.Process]:
    """The worker processes of a command."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has just ended
                found += [child] if "tunery.search.workers.process_main" in child.cmdline() else []
    return found


def belonging_to(place: Place) -> list[int]:
    """Processes that were started in a place's folder and still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == place.folder and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def end(process: Command) -> None:
    """Kill a command and its workers, however the test ended."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.kill()
    for child in family:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def trials_of(runs: list[Any]) -> list[Any]:
    return [run for run in runs if run.data.tags.get("tunery.kind") == "trial"]


def by_trial(runs: list[Any]) -> Counter[str]:
    """How many runs each trial of a study has in MLflow."""
    return Counter(run.data.tags["tunery.trial"] for run in trials_of(runs))


def results(place: Place, name: str = "small") -> dict[Any, tuple[Any, Any, Any]]:
    """Settings, values and metrics of each trial, without what differs from one run to the next."""
    unsteady = re.compile(r"seconds|bytes|per_second")
    return {
        key: (
            trial.params,
            trial.values,
            {key: value for key, value in trial.user_attrs.get(queue.METRICS, {}).items() if not unsteady.search(key)},
        )
        for key, trial in standing(place, name).items()
    }


def assert_exact(place: Place, runs: list[Any], count: int, name: str = "small", url: str | None = None) -> None:
    """Each trial was run to its end in one run of MLflow, nothing is left running, and no process stays."""
    there = standing(place, name, url)
    assert {key: trial.state.name for key, trial in there.items()} == dict.fromkeys(range(count), "COMPLETE")
    complete = [trial for trial in load(place, name, url).get_trials() if trial.state == TrialState.COMPLETE]
    assert len(complete) == count
    assert [run.info.run_id for run in runs if run.info.status == "RUNNING"] == []
    assert by_trial(runs) == Counter({str(key): 1 for key in range(count)})
    run_ids = {trial.user_attrs[queue.RUN_ID] for trial in there.values()}
    assert run_ids == {run.info.run_id for run in trials_of(runs) if run.info.status == "FINISHED"}
    assert belonging_to(place) == []


def assert_adapters_load(place: Place, folder: Path) -> None:
    """Each complete trial's run has an adapter of the trial's rank, which has learned something."""
    from safetensors.torch import load_file

    from tunery.tracking.registry import download, resolve
    from tunery.tracking.store import connect

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "unset")  # connect() sets it: restored afterwards
        store = connect(place.uri, "small")
        for trial in standing(place).values():
            files = download(
                resolve(f"runs:/{trial.user_attrs[queue.RUN_ID]}", store), folder / str(trial.number), store
            )
            tensors = load_file(files / "adapter_model.safetensors")
            rank = trial.user_attrs["settings"]["adapter.rank"]
            assert {tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name} == {rank}
            assert any(tensor.abs().sum() > 0 for name, tensor in tensors.items() if "lora_B" in name)

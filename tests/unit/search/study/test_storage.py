"""Where a study is kept: addresses, locks, and a file that several workers share."""

from __future__ import annotations

import random
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from tunery.errors import RefError, StorageError
from tunery.search.space.space import QUEUE_KEY
from tunery.search.study import queue
from tunery.search.study.storage import exclusive_study, is_one_host, open_storage, storage_url
from tunery.search.workers.local import shared_storage


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNERY_HOME", str(tmp_path / "home"))


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[str]:
    """The address of a proxy in front of a file."""
    with shared_storage(f"sqlite:///{tmp_path}/optuna.db") as address:
        open_storage(address)
        yield address


def in_threads(work: Callable[[int], None], count: int = 4) -> None:
    """Do it in several threads at once; fail with whatever failed in one of them."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))


def test_a_files_address_does_not_depend_on_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage_url(None) == f"sqlite:///{tmp_path}/optuna.db"
    assert storage_url("sqlite:///kept/x.db") == f"sqlite:///{tmp_path}/kept/x.db"
    assert is_one_host(storage_url(None))


@pytest.mark.parametrize("url", ["redis://here", "optuna.db", "journal.log", "postgresql:here", "mlflow://x"])
def test_a_storage_that_workers_cannot_share_is_refused(url: str) -> None:
    with pytest.raises(StorageError, match=r"but must be sqlite:///FILE, postgresql://HOST/NAME or mysql://"):
        storage_url(url)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:///{folder}", r"a folder\. Try sqlite:////.*/optuna\.db\."),
        ("sqlite:///:memory:", "the name of a file.*lost when the command ends"),
        ("sqlite:///", "the name of a file"),
        ("", "but must be sqlite:///FILE"),
    ],
)
def test_an_address_that_is_no_file_is_refused_at_once(tmp_path: Path, url: str, told: str) -> None:
    with pytest.raises(StorageError, match=told):
        storage_url(url.format(folder=tmp_path))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://me:s3cret@here/x", "needs a driver (MySQLdb or pymysql): pip install pymysql."),
        ("mariadb+pymysql://me:s3cret@here/x", "the driver pymysql is not installed: pip install pymysql."),
        ("postgresql://me:s3cret@here/x", 'needs a driver (psycopg2 or psycopg): pip install "tunery[postgres]".'),
    ],
)
def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, url: str, told: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StorageError) as caught:
        storage_url(url)
    assert told in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_the_driver_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "pymysql" or None)
    assert storage_url("mysql://here/x") == "mysql+pymysql://here/x"


def test_a_refused_address_does_not_show_its_password() -> None:
    with pytest.raises(StorageError) as told:
        storage_url("redis://me:s3cret@here/0")
    assert "s3cret" not in str(told.value)


def test_a_server_that_does_not_answer_is_reported_without_its_password() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(StorageError, match="the study's storage cannot be used") as told:
        open_storage(storage_url(f"postgresql://me:s3cret@127.0.0.1:{port}/x"))
    assert "s3cret" not in str(told.value)


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"the study's storage cannot be used.* Check the path"):
        open_storage(f"sqlite:///{tmp_path}/nowhere/optuna.db")


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "optuna.db").write_text("a note, much longer than a header of SQLite would be" * 40)
    with pytest.raises(StorageError, match="the study's storage cannot be used"):
        open_storage(f"sqlite:///{tmp_path}/optuna.db")


def test_mlflows_database_is_no_place_for_a_study(tmp_path: Path, fresh_database: Path) -> None:
    shutil.copy2(fresh_database, tmp_path / "mlflow.db")
    with pytest.raises(StorageError, match=r"holds the tables of MLflow.*a database of its own"):
        open_storage(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_study_in_a_file_is_run_by_one_command_at_a_time(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    with exclusive_study(url, "s"):
        with pytest.raises(RefError, match="another process is running it now"), exclusive_study(url, "s"):
            pytest.fail("it was given away twice")
        with exclusive_study(url, "another"):
            pass
    with exclusive_study(url, "s"):
        pass


def test_another_home_is_no_way_around_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hosts, or two accounts, that share a folder share no home."""
    url = f"sqlite:///{tmp_path}/optuna.db"
    with exclusive_study(url, "s"):
        monkeypatch.setenv("TUNERY_HOME", str(tmp_path / "another"))
        with pytest.raises(RefError, match="another process is running it now"), exclusive_study(url, "s"):
            pytest.fail("it was given away twice")


def test_a_server_may_have_many_commands() -> None:
    with exclusive_study("postgresql://here/x", "s"), exclusive_study("postgresql://here/x", "s"):
        pass


def test_of_many_workers_one_alone_gets_a_waiting_trial(proxy: str) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(proxy))
    queue.enqueue_trials(study, [queue.TrialJob(number) for number in range(60)])
    gate = threading.Barrier(4)
    storages = [open_storage(proxy) for _ in range(4)]
    taken: list[int] = []

    def work(number: int) -> None:
        for trial in study.get_trials(deepcopy=False):
            gate.wait(timeout=60)
            if storages[number].set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                taken.append(trial.number)

    in_threads(work)
    assert Counter(taken) == Counter(range(60))


def test_careless_workers_run_each_trial_once(proxy: str) -> None:
    count = 12
    first = optuna.create_study(study_name="s", storage=open_storage(proxy))

    def work(number: int) -> None:
        chance = random.Random(number)
        study = optuna.load_study(study_name="s", storage=open_storage(proxy), sampler=optuna.samplers.RandomSampler(0))
        queue.enqueue_trials(study, [queue.TrialJob(key) for key in range(count)])
        while queue.unfinished(study):
            _serve(study, chance)

    in_threads(work)
    done = first.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    assert Counter(trial.user_attrs[QUEUE_KEY] for trial in done) == Counter(range(count))
    assert not first.get_trials(states=(TrialState.RUNNING,))


def _serve(study: optuna.Study, chance: random.Random) -> None:
    """Take a trial that waits, and end it or give it up."""
    if not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        return
    try:
        trial = study.ask()
    except UpdateFinishedTrialError:
        return  # another worker took it, and has ended it
    if queue.is_surplus(study, trial):
        trial.set_user_attr(queue.SURPLUS, True)
        study.tell(trial, state=TrialState.FAIL)
    elif chance.random() < 0.3:
        queue.requeue(study, study.get_trials(deepcopy=False)[trial.number], died=False)
    else:
        study.tell(trial, 1.0)


def test_the_proxy_ends_with_the_command(tmp_path: Path) -> None:
    with shared_storage(f"sqlite:///{tmp_path}/optuna.db") as address:
        open_storage(address)
        port = int(address.rpartition(":")[2])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0

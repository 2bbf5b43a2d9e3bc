"""A study's queue: the total is exact, whichever workers die, and wherever."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState
from tests.unit.search.conftest import MakeProject

from tunery.config.project import Project
from tunery.errors import Infeasible, NonFiniteLoss, OutOfMemory, RunStopped, StorageError, TimedOut, TrackingError
from tunery.search.sampling.samplers import make_sampler
from tunery.search.space.space import QUEUE_KEY, draw
from tunery.search.study import queue
from tunery.search.study.progress import StudyProgress
from tunery.search.study.queue import TrialJob
from tunery.search.study.study import enqueue_search_trials
from tunery.search.worker import Worker

SPACE = "{training.learning_rate: {low: 1.0e-5, high: 1.0e-2, log: true}}"
MakeStudy = Callable[..., optuna.Study]


class Killed(BaseException):
    """What kill -9 is to a process: nothing after it is done."""


@pytest.fixture(params=["memory", "sqlite"])
def make_study(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStudy:
    """A study on each kind of storage; the same one at every call."""
    url = None if request.param == "memory" else f"sqlite:///{tmp_path}/optuna.db"
    storage = optuna.storages.InMemoryStorage() if url is None else _quick(optuna.storages.RDBStorage(url))

    def _make(**settings: Any) -> optuna.Study:
        settings.setdefault("sampler", optuna.samplers.RandomSampler(seed=0))
        return optuna.create_study(study_name="s", storage=storage, load_if_exists=True, **settings)

    return _make


def _quick(storage: optuna.storages.RDBStorage) -> optuna.storages.RDBStorage:
    """Without waiting for the disk at each write: no test here cuts the power."""
    sqlalchemy.event.listen(storage.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous = OFF"))
    storage.engine.dispose()
    return storage


@pytest.fixture
def study(make_study: MakeStudy) -> optuna.Study:
    return make_study()


def jobs(count: int) -> list[TrialJob]:
    return [TrialJob(number) for number in range(count)]


def begin(study: optuna.Study) -> optuna.Trial | None:
    """What a worker does first: it takes a waiting trial, and leaves one that is not queued."""
    trial = study.ask()
    if queue.is_surplus(study, trial):
        trial.set_user_attr(queue.SURPLUS, True)
        study.tell(trial, state=TrialState.FAIL)
        return None
    trial.set_user_attr(queue.WORKER, "here:1")
    return trial


def frozen(study: optuna.Study, trial: optuna.Trial) -> FrozenTrial:
    return study.get_trials(deepcopy=False)[trial.number]


def begun(study: optuna.Study) -> optuna.Trial:
    trial = begin(study)
    assert trial is not None
    return trial


def drain(study: optuna.Study) -> None:
    """One worker runs all that waits."""
    silent: dict[int, float] = {}
    for _ in range(200):
        queue.requeue_dead_trials(study, silent)
        if not queue.unfinished(study):
            return
        trial = begin(study)
        if trial is not None:
            study.tell(trial, 1.0)
    pytest.fail("the study never ends")


def states(study: optuna.Study) -> dict[queue.Key, str]:
    return {key: trial.state.name for key, trial in queue.current_trials(study).items()}


def completed(study: optuna.Study) -> Counter[queue.Key]:
    """How often each queued trial was run to its end."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return Counter(trial.user_attrs[QUEUE_KEY] for trial in done)


def test_enqueueing_twice_adds_nothing(study: optuna.Study) -> None:
    queue.enqueue_trials(study, jobs(5))
    queue.enqueue_trials(study, jobs(5))
    assert len(study.get_trials()) == 5
    assert states(study) == dict.fromkeys(range(5), "WAITING")


def test_raising_the_total_adds_only_what_is_missing(study: optuna.Study) -> None:
    queue.enqueue_trials(study, jobs(2))
    drain(study)
    queue.enqueue_trials(study, jobs(5))
    assert [trial.user_attrs[QUEUE_KEY] for trial in queue.unfinished(study)] == [2, 3, 4]
    drain(study)
    assert completed(study) == Counter(range(5))


def test_lowering_the_total_withdraws_what_waits_and_keeps_what_has_ended(study: optuna.Study) -> None:
    queue.enqueue_trials(study, jobs(6))
    for _ in range(4):
        study.tell(begun(study), 1.0)
    queue.enqueue_trials(study, jobs(2))
    drain(study)
    assert completed(study) == Counter(range(4))
    assert set(queue.current_trials(study)) == {0, 1, 2, 3}


def test_a_total_that_was_lowered_can_be_raised_again(study: optuna.Study) -> None:
    for total in (6, 2, 4):
        queue.enqueue_trials(study, jobs(total))
    drain(study)
    assert completed(study) == Counter(range(4))


def test_a_stopped_trial_above_a_lowered_total_is_not_begun_again(study: optuna.Study) -> None:
    queue.enqueue_trials(study, jobs(3))
    trial = begun(study)
    queue.add_successor(study, frozen(study, trial), died=False)
    trial.set_user_attr(queue.FAILURE, "killed")
    study.tell(trial, state=TrialState.FAIL)
    queue.enqueue_trials(study, [TrialJob(1), TrialJob(2)])
    drain(study)
    assert completed(study) == Counter([1, 2])


def test_a_stopped_trial_goes_on_when_the_total_is_raised_again(study: optuna.Study) -> None:
    queue.enqueue_trials(study, jobs(1))
    trial = begun(study)
    trial.suggest_float("x", 0, 1)
    trial.set_user_attr(queue.RUN_ID, "run")
    queue.requeue(study, frozen(study, trial), died=False)
    queue.enqueue_trials(study, [TrialJob(1)])
    assert 0 not in queue.current_trials(study)
    queue.enqueue_trials(study, [TrialJob(0), TrialJob(1)])
    again = queue.current_trials(study)[0]
    assert again.state == TrialState.WAITING
    assert (again.user_attrs[queue.RUN_ID], again.params) == ("run", trial.params)
    drain(study)
    assert completed(study) == Counter([0, 1])


def test_a_trial_that_failed_by_itself_is_not_tried_again(study: optuna.Study) -> None:
    queue.enqueue_trials(study, jobs(3))
    trial = begun(study)
    trial.set_user_attr(queue.FAILURE, "error")
    study.tell(trial, state=TrialState.FAIL)
    drain(study)
    assert states(study) == {0: "FAIL", 1: "COMPLETE", 2: "COMPLETE"}
    queue.enqueue_trials(study, jobs(3))
    assert queue.unfinished(study) == []


def test_a_trial_whose_workers_die_is_retried_twice_and_no_more(study: optuna.Study) -> None:
    queue.enqueue_trials(study, jobs(2))
    for _ in range(queue.MOST_RETRIES + 1):
        while (trial := begun(study)).user_attrs[QUEUE_KEY] != 0:
            study.tell(trial, 1.0)
        queue.requeue(study, frozen(study, trial), died=True)
    assert queue.current_trials(study)[0].user_attrs[queue.FAILURE] == "killed"
    drain(study)
    assert states(study) == {0: "FAIL", 1: "COMPLETE"}
    assert len([trial for trial in study.get_trials() if trial.user_attrs[QUEUE_KEY] == 0]) == 3


def test_stops_by_a_person_are_not_counted_as_retries(study: optuna.Study) -> None:
    queue.enqueue_trials(study, jobs(1))
    for _ in range(7):
        queue.requeue(study, frozen(study, begun(study)), died=False)
    queue.requeue(study, frozen(study, begun(study)), died=True)
    assert queue.retries(queue.current_trials(study)[0]) == 1
    drain(study)
    assert completed(study) == Counter([0])


def test_a_stop_after_the_last_retry_loses_nothing(study: optuna.Study) -> None:
    queue.enqueue_trials(study, jobs(1))
    for _ in range(queue.MOST_RETRIES):
        queue.requeue(study, frozen(study, begun(study)), died=True)
    queue.requeue(study, frozen(study, begun(study)), died=False)
    drain(study)
    assert completed(study) == Counter([0])


def test_a_successor_has_the_parameters_the_run_and_the_rungs_of_the_dead(study: optuna.Study) -> None:
    queue.enqueue_trials(study, jobs(1))
    trial = begun(study)
    drawn = trial.suggest_float("x", 0, 1)
    trial.report(0.5, 1)
    trial.set_user_attr(queue.RUN_ID, "run")
    queue.requeue(study, frozen(study, trial), died=True)
    again = begun(study)
    assert again.suggest_float("x", 0, 1) == drawn
    assert again.user_attrs[queue.RUN_ID] == "run"
    assert frozen(study, again).intermediate_values == {1: 0.5}
    assert queue.FAILURE not in again.user_attrs
    assert queue.was_begun(again)


def test_a_successor_taken_before_the_stopped_one_has_ended_is_not_surplus(study: optuna.Study) -> None:
    queue.enqueue_trials(study, jobs(1))
    stopped = begun(study)
    queue.add_successor(study, frozen(study, stopped), died=False)
    successor = begun(study)  # another worker was waiting for just that
    stopped.set_user_attr(queue.FAILURE, "error")
    study.tell(stopped, state=TrialState.FAIL)
    study.tell(successor, 1.0)
    assert states(study) == {0: "COMPLETE"}
    assert queue.unfinished(study) == []


@pytest.mark.parametrize("call", range(4))
@pytest.mark.parametrize("died", [True, False])
def test_a_death_while_requeueing_leaves_one_trial_for_each_key(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch, call: int, died: bool
) -> None:
    queue.enqueue_trials(study, jobs(2))
    trial = begun(study)
    trial.set_user_attr(queue.RUN_ID, "run")
    with monkeypatch.context() as patch:
        _die_at(patch, study, call)
        with suppress(Killed):
            queue.requeue(study, frozen(study, trial), died=died)
    queue.requeue_running_trials(study, died=True)
    queue.enqueue_trials(study, jobs(2))
    assert not study.get_trials(states=(TrialState.RUNNING,))
    assert queue.retries(queue.current_trials(study)[0]) <= 1
    assert queue.current_trials(study)[0].user_attrs[queue.RUN_ID] == "run"
    drain(study)
    assert completed(study) == Counter([0, 1])


def _die_at(patch: pytest.MonkeyPatch, study: optuna.Study, call: int) -> None:
    """The process is killed right before it writes to the storage for the so-manieth time."""
    left = [call]

    def dying(name: str) -> None:
        real = getattr(study._storage, name)

        def write(*values: Any, **named: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(*values, **named)

        patch.setattr(study._storage, name, write)

    for name in ("create_new_trial", "set_trial_user_attr", "set_trial_state_values"):
        dying(name)


def test_after_a_kill_at_any_write_of_enqueueing_the_next_one_repairs_the_queue(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.enqueue_trials(study, jobs(4))
    for call in range(8):
        with monkeypatch.context() as patch:
            _die_at(patch, study, call)
            with suppress(Killed):
                queue.enqueue_trials(study, jobs(2))
                queue.enqueue_trials(study, jobs(4))
        queue.enqueue_trials(study, jobs(4))
        assert states(study) == dict.fromkeys(range(4), "WAITING")
    drain(study)
    assert completed(study) == Counter(range(4))


def test_a_trial_killed_between_its_beginning_and_its_name_is_taken_back(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "_SECONDS_UNTIL_WORKER", 0.0)
    queue.enqueue_trials(study, jobs(2))
    study.ask()  # and nothing more was heard of it
    drain(study)
    assert completed(study) == Counter([0, 1])


def test_each_process_gives_a_silent_trial_its_time(study: optuna.Study) -> None:
    queue.enqueue_trials(study, jobs(1))
    study.ask()
    silent: dict[int, float] = {}
    for _ in range(3):
        queue.requeue_dead_trials(study, silent)
    assert states(study) == {0: "RUNNING"}
    silent[0] -= 61.0
    queue.requeue_dead_trials(study, silent)
    assert states(study) == {0: "WAITING"}


def test_a_trial_that_has_stored_its_run_is_not_silent(study: optuna.Study) -> None:
    queue.enqueue_trials(study, jobs(1))
    begun(study).set_user_attr(queue.RUN_ID, "run")
    queue.requeue_dead_trials(study, {0: -1e9})
    assert states(study) == {0: "RUNNING"}


def test_a_trial_without_a_key_is_surplus(study: optuna.Study) -> None:
    study.enqueue_trial({"x": 1})  # a user's own, in optuna-dashboard
    queue.enqueue_trials(study, jobs(1))
    assert begin(study) is None
    drain(study)
    assert completed(study) == Counter([0])


def test_two_hosts_that_enqueue_at_once_run_each_trial_once(study: optuna.Study) -> None:
    _enqueued_twice(study, 3)
    drain(study)
    assert completed(study) == Counter(range(3))
    _no_waiting_trial_is_run(study)


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_trials_of_a_key_that_run_at_once_one_gives_way(study: optuna.Study, first: int) -> None:
    _enqueued_twice(study, 1)
    pair = [study.ask(), study.ask()]
    verdicts = [queue.is_surplus(study, pair[place]) for place in (first, 1 - first)]
    assert sorted(verdicts) == [False, True]


def test_a_double_is_not_run_after_the_first_has_failed(study: optuna.Study) -> None:
    _enqueued_twice(study, 1)
    trial = begun(study)
    trial.set_user_attr(queue.FAILURE, "nan")
    study.tell(trial, state=TrialState.FAIL)
    drain(study)
    assert completed(study) == Counter()


def test_a_double_does_not_keep_a_dead_trial_from_going_on(study: optuna.Study) -> None:
    _enqueued_twice(study, 1)
    trial = begun(study)
    trial.set_user_attr(queue.RUN_ID, "run")
    queue.requeue(study, frozen(study, trial), died=True)
    drain(study)
    assert completed(study) == Counter([0])
    assert queue.current_trials(study)[0].user_attrs[queue.RUN_ID] == "run"


def test_two_hosts_that_find_the_same_trial_dead_let_it_go_on_once(study: optuna.Study) -> None:
    queue.enqueue_trials(study, jobs(1))
    dead = frozen(study, begun(study))
    queue.requeue(study, dead, died=True)
    again = queue.current_trials(study)[0]
    queue._enqueue_again(study, dead, dict(again.user_attrs))  # the other host looked before the first one wrote
    drain(study)
    assert completed(study) == Counter([0])
    assert queue.retries(queue.current_trials(study)[0]) == 1


def test_a_trial_that_ends_while_it_is_given_up_is_not_repeated(study: optuna.Study) -> None:
    queue.enqueue_trials(study, jobs(1))
    trial = begun(study)
    seen = frozen(study, trial)
    before = FrozenTrial(**{**_fields(seen), "state": TrialState.RUNNING})
    study.tell(trial, 1.0)
    queue.requeue(study, before, died=True)
    drain(study)
    assert completed(study) == Counter([0])
    assert len(study.get_trials()) == 1


def _fields(trial: FrozenTrial) -> dict[str, Any]:
    names = ("number", "state", "datetime_start", "datetime_complete", "params", "distributions", "user_attrs")
    more = {name: getattr(trial, name) for name in (*names, "system_attrs", "intermediate_values")}
    return {**more, "value": None, "trial_id": trial._trial_id}


def _enqueued_twice(study: optuna.Study, count: int) -> None:
    """Two hosts have looked before either of them wrote."""
    queue.enqueue_trials(study, jobs(count))
    for number in range(count):
        study.add_trial(optuna.trial.create_trial(state=TrialState.WAITING, user_attrs={QUEUE_KEY: number}))


def _no_waiting_trial_is_run(study: optuna.Study) -> None:
    before = completed(study)
    while study.get_trials(states=(TrialState.WAITING,)):
        assert begin(study) is None
    assert completed(study) == before


def test_every_point_of_a_grid_is_drawn_once_though_workers_die(make: MakeProject, make_study: MakeStudy) -> None:
    project = make("{adapter.rank: {choices: [4, 8, 16, 32]}}", search__sampler="grid")
    study = make_study(sampler=make_sampler(project.search))
    enqueue_search_trials(study, project, [], 9)
    chance = random.Random(0)
    drawn: Counter[int] = Counter()
    for _ in range(50):
        study = make_study(sampler=make_sampler(project.search))
        if not queue.unfinished(study):
            break
        trial = begun(study)
        value = draw(trial, project)["adapter.rank"]
        if chance.random() < 0.4:
            queue.requeue(study, frozen(study, trial), died=False)
        else:
            drawn[value] += 1
            study.tell(trial, 1.0)
    assert drawn == Counter([4, 8, 16, 32])


@pytest.mark.parametrize("seed", range(12))
def test_random_deaths_stops_and_totals_end_exact(seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    chance = random.Random(seed)
    running: list[optuna.Trial] = []
    total = 6
    queue.enqueue_trials(study, jobs(total))
    for _ in range(60):
        act = chance.choice(["begin", "begin", "end", "die", "stop", "total", "restart"])
        if act == "begin" and queue.unfinished(study) and _waits(study):
            trial = begin(study)
            running += [trial] if trial is not None else []
        elif act == "total":
            total = chance.randint(2, 8)
            queue.enqueue_trials(study, jobs(total))
        elif act == "restart":
            queue.requeue_running_trials(study, died=False)
            running = []
        elif running:
            _end_one(study, running.pop(chance.randrange(len(running))), act, chance)
    queue.requeue_running_trials(study, died=False)
    queue.enqueue_trials(study, jobs(total))
    drain(study)
    assert max(completed(study).values()) == 1
    assert set(range(total)) <= set(queue.current_trials(study))
    assert all(trial.state.is_finished() for trial in queue.current_trials(study).values())
    assert not study.get_trials(states=(TrialState.RUNNING,))


def _waits(study: optuna.Study) -> bool:
    return bool(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def _end_one(study: optuna.Study, trial: optuna.Trial, act: str, chance: random.Random) -> None:
    if act == "end":
        if chance.random() < 0.3:
            trial.set_user_attr(queue.FAILURE, "oom")
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, 1.0)
    else:
        queue.requeue(study, frozen(study, trial), died=act == "die")


# gp agrees to nine digits only: it sums over trials in the order in which they were added.
@pytest.mark.parametrize(
    ("sampler", "begun"), [("tpe", True), ("tpe", False), ("random", True), ("random", False), ("cmaes", True)]
)
def test_a_study_that_was_stopped_draws_what_one_that_was_not_draws(
    make: MakeProject, sampler: str, begun: bool
) -> None:
    project = make(SPACE, search__sampler=sampler)
    assert _searched(project, (3, 7, 8), begun=begun) == _searched(project, (), begun=begun)


def _searched(project: Project, stops: Sequence[int], *, begun: bool, total: int = 10) -> dict[queue.Key, Any]:
    """What a worker draws in each trial if it is stopped once in each of `stops`, and started again.

    It is stopped after its run has begun, or else in the middle of drawing.
    """
    study = optuna.create_study()
    left = set(stops)

    def run(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("rate", 1e-5, 1e-2, log=True)
        if begun:
            trial.suggest_float("warmup", 0.0, 1.0)
            trial.set_user_attr(queue.RUN_ID, "run")
        key = trial.user_attrs[QUEUE_KEY]
        if key in left:
            left.discard(key)
            raise KeyboardInterrupt
        return (rate - 1e-3) ** 2 + trial.suggest_float("warmup", 0.0, 1.0)

    for _ in range(len(stops) + 1):
        enqueue_search_trials(study, project, [], total)
        with suppress(KeyboardInterrupt):
            _work(study, project, run)
    assert queue.unfinished(study) == []
    return {key: (trial.params, trial.values) for key, trial in queue.current_trials(study).items()}


def _work(study: optuna.Study, project: Project, run: Callable[[optuna.Trial], float]) -> None:
    study.sampler = make_sampler(project.search)
    Worker(project, None, "", StudyProgress(project)).work(study, run)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "state", "failure"),
    [
        (OutOfMemory("training", "3 GiB wanted"), TrialState.PRUNED, "oom"),
        (NonFiniteLoss(3, float("nan")), TrialState.PRUNED, "nan"),
        (TimedOut(5.0), TrialState.PRUNED, "timeout"),
        (Infeasible("too large"), TrialState.PRUNED, "infeasible"),
        (RunStopped("no reason"), TrialState.FAIL, "error"),
        (ValueError("a library's"), TrialState.FAIL, "error"),
    ],
)
def test_a_failure_is_a_result_and_the_study_goes_on(
    make: MakeProject, error: Exception, state: TrialState, failure: str
) -> None:
    study = _with_failure(make(SPACE), error)
    found = queue.current_trials(study)
    assert (found[1].state, found[1].user_attrs[queue.FAILURE]) == (state, failure)
    assert found[1].user_attrs[queue.REASON]
    assert [found[key].state for key in (0, 2)] == [TrialState.COMPLETE] * 2
    assert len(study.get_trials()) == 3


@pytest.mark.parametrize("error", [TrackingError("mlflow", "is away"), StorageError("disk", "is full")])
def test_a_store_that_fails_ends_the_study_and_costs_no_trial(make: MakeProject, error: Exception) -> None:
    project = make(SPACE)
    study = optuna.create_study()
    with pytest.raises(type(error)):
        _with_failure(project, error, study)
    assert {trial.user_attrs[QUEUE_KEY] for trial in queue.unfinished(study)} == {1, 2}
    _with_failure(project, None, study)
    assert completed(study) == Counter(range(3))


def _with_failure(project: Project, error: Exception | None, study: optuna.Study | None = None) -> optuna.Study:
    """A study of three trials, of which the second one raises."""
    study = study or optuna.create_study()
    enqueue_search_trials(study, project, [], 3)

    def run(trial: optuna.Trial) -> float:
        if trial.user_attrs[QUEUE_KEY] == 1 and error is not None:
            raise error
        return 1.0

    _work(study, project, run)
    return study


def test_retries_are_counted_over_all_trials_of_a_key(study: optuna.Study) -> None:
    queue.enqueue_trials(study, jobs(1))
    counts: Sequence[int] = []
    while queue.unfinished(study):
        trial = begun(study)
        counts = [*counts, queue.retries(frozen(study, trial))]
        queue.requeue(study, frozen(study, trial), died=True)
    assert counts == [0, 1, 2]

"""Workers outside of this process: begun, watched, replaced when they die, and stopped together.

What a worker is (a process of this host, an actor of a cluster) its engine says; how its trials are counted, and what a
signal means, is the same for all.
"""

from __future__ import annotations

import math
import secrets
import signal
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState

from tunery.config.project import resolved
from tunery.errors import Fault, InputError, Interrupted, RunStopped
from tunery.search.finals import finals_name
from tunery.search.study import queue
from tunery.training.stop import SignalHandler

if TYPE_CHECKING:
    from tunery.search.session import Session

_POLL_SECONDS = 0.5
# After a second signal; whoever is not done by then is killed.
_SECONDS_TO_STOP = 5.0

Member = TypeVar("Member")


class StopCount(SignalHandler):
    """Counts the signals that ask this process to stop."""

    def __init__(self) -> None:
        super().__init__(self._note)
        self.count, self.name = 0, ""

    def _note(self, name: str) -> None:
        self.count, self.name = self.count + 1, name


@dataclass
class Team(ABC, Generic[Member]):
    """The workers of a study.

    Args:
        session: Of the command.
        study: What they work through.
        url: Of the storage, as they reach it.
    """

    session: Session
    study: optuna.Study
    url: str
    places: dict[int, Member] = field(default_factory=dict, init=False)
    early_deaths: int = field(default=0, init=False)

    def run(self, stop: StopCount) -> None:
        """Begin every worker, and stay until all have ended.

        Raises:
            InputError: If a worker met what the next would meet too.
            RunStopped: If workers cannot be kept alive.
            Interrupted: After a signal, when every worker has written a checkpoint and ended, or time was up.
        """
        for number in range(self.session.options.workers):
            self._ask_for(number)
        passed_on, until = 0, math.inf
        while self.places and time.monotonic() < until:
            if stop.count > passed_on:
                passed_on = stop.count
                if stop.count == 1:
                    told = f"{stop.name}: workers write a checkpoint and stop; again to stop at once"
                    self.session.progress.step(told)
                self._pass_on()
                until = time.monotonic() + _SECONDS_TO_STOP if stop.count > 1 else math.inf
            for number, place in list(self.places.items()):
                self._look(number, place, stopping=bool(stop.count))
            for one in studies_of(self.session, self.study):
                self.session.progress.look(one)
            time.sleep(_POLL_SECONDS)
        if stop.count:
            raise Interrupted(stop.name, 0, resumable=True)

    @abstractmethod
    def end(self) -> None:
        """However this process leaves: none of its workers stays, and their trials wait for others."""

    @abstractmethod
    def _ask_for(self, number: int) -> None:
        """Begin a worker, and put it among the places."""

    @abstractmethod
    def _look(self, number: int, place: Member, *, stopping: bool) -> None:
        """See whether a worker has ended."""

    @abstractmethod
    def _pass_on(self) -> None:
        """Ask every worker to stop."""

    def _requeue(self, worker: str | None, *, died: bool) -> bool:
        """Give the trials of a worker, by its name, to another; whether it had begun any."""
        begun = trials_of(self.session, self.study, worker) if worker else []
        for study, trial in begun:
            if trial.state == TrialState.RUNNING:
                queue.requeue(study, trial, died=died)
        return bool(begun)

    def _replace(self, number: int, code: int, why: str, *, begun: bool) -> None:
        """Begin another worker in the place of one that did not end well; not where that would be in vain."""
        name = f"study {self.session.name}"
        if code == InputError.exit_code:
            fault = f"a worker stopped ({why}), as the next would"
            raise InputError(name, Fault(fault, advice="Mend it, and run the same command."))
        self.early_deaths = 0 if begun else self.early_deaths + 1
        if self.early_deaths > self.session.options.workers + 1:
            raise RunStopped(f"{name}: workers end before they begin a trial ({why})")
        self.session.progress.step(f"worker {number} was lost ({why}); another takes its place")
        self._ask_for(number)


def studies_of(session: Session, study: optuna.Study) -> list[optuna.Study]:
    """The search, and the finals if they were laid out."""
    studies = [study]
    with suppress(KeyError):
        studies.append(optuna.load_study(study_name=finals_name(session.name), storage=session.storage))
    return studies


def trials_of(session: Session, study: optuna.Study, worker: str) -> list[tuple[optuna.Study, FrozenTrial]]:
    """Trials of the search and of the finals that a worker, by its name, has begun."""
    return [
        (one, trial)
        for one in studies_of(session, study)
        for trial in one.get_trials(deepcopy=False)
        if trial.user_attrs.get(queue.WORKER) == worker
    ]


def order_for(session: Session, url: str, number: int) -> dict[str, Any]:
    """All that a worker process needs to know, as plain JSON."""
    return {
        "project": resolved(session.project),
        "folder": str(session.project.folder.absolute()),
        "study": session.name,
        "url": url,
        "tracking_uri": session.store.uri,
        "parent": session.parent,
        "until": session.until,
        "number": number,
        "token": secrets.token_hex(4),
    }


def cause(code: int) -> str:
    """The signal that ended a process, or its exit code."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"

"""Workers outside of this process, on this host or on a cluster: polled, replaced if they die, stopped together."""

from __future__ import annotations

import math
import secrets
import signal
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from optuna.trial import TrialState

from tunery.config.project import resolved
from tunery.errors import Fault, InputError, Interrupted, RunStopped
from tunery.search.session import Session
from tunery.search.study import queue
from tunery.search.study.storage import related_studies
from tunery.training.stop import SignalHandler

_POLL_SECONDS = 0.5
# After a second signal; workers that have not ended by then are killed.
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
class WorkerPool(ABC, Generic[Member]):
    """The workers of a study."""

    session: Session  # of the command
    url: str  # of the storage, as they reach it
    members: dict[int, Member] = field(default_factory=dict, init=False)
    early_deaths: int = field(default=0, init=False)

    def run(self, stop: StopCount) -> None:
        """Start every worker, and return when all have ended.

        Raises:
            InputError: If a worker met what the next would meet too.
            RunStopped: If workers cannot be kept alive.
            Interrupted: After a signal, when every worker has written a checkpoint and ended, or time was up.
        """
        for number in range(self.session.options.workers):
            self._start(number)
        passed_on, until = 0, math.inf
        while self.members and time.monotonic() < until:
            if stop.count > passed_on:
                passed_on = stop.count
                if stop.count == 1:
                    text = f"{stop.name}: workers write a checkpoint and stop. Send it again to stop at once."
                    self.session.progress.step(text)
                self._interrupt()
                until = time.monotonic() + _SECONDS_TO_STOP if stop.count > 1 else math.inf
            for number, member in list(self.members.items()):
                self._poll(number, member, stopping=bool(stop.count))
            for study in related_studies(self.session.study):
                self.session.progress.update(study)
            self.session.progress.waiting()
            time.sleep(_POLL_SECONDS)
        if stop.count:
            raise Interrupted(stop.name, 0, resumable=True)

    @abstractmethod
    def close(self) -> None:
        """End every worker, however this process ends, and leave their trials to others."""

    @abstractmethod
    def _start(self, number: int) -> None:
        """Start a worker, and add it to the members."""

    @abstractmethod
    def _poll(self, number: int, member: Member, *, stopping: bool) -> None:
        """See whether a worker has ended."""

    @abstractmethod
    def _interrupt(self) -> None:
        """Ask every worker to stop."""

    def _spec(self) -> dict[str, Any]:
        """All that a worker process needs to know, as plain JSON."""
        session = self.session
        return {
            "project": resolved(session.project),
            "folder": str(session.project.folder.absolute()),
            "study": session.study.study_name,
            "url": self.url,
            "tracking_uri": session.store.uri,
            "parent": session.parent,
            "until": session.until,
            "token": secrets.token_hex(4),
        }

    def _requeue(self, worker: str | None, *, died: bool) -> bool:
        """Requeue the trials of a worker, by its name; whether it had begun any."""
        begun = [
            (study, trial)
            for study in (related_studies(self.session.study) if worker else ())
            for trial in study.get_trials(deepcopy=False)
            if trial.user_attrs.get(queue.WORKER) == worker
        ]
        for study, trial in begun:
            if trial.state == TrialState.RUNNING:
                queue.requeue(study, trial, died=died)
        return bool(begun)

    def _replace(self, number: int, code: int, reason: str, *, begun: bool) -> None:
        """Start another worker in the place of one that did not end well, unless that would be in vain."""
        name = f"study {self.session.study.study_name}"
        if code == InputError.exit_code:
            fault = f"a worker stopped ({reason}), as the next would"
            raise InputError(name, Fault(fault, advice="Fix it, and run the same command."))
        self.early_deaths = 0 if begun else self.early_deaths + 1
        if self.early_deaths > self.session.options.workers + 1:
            raise RunStopped(f"{name}: workers end before they begin a trial ({reason})")
        self.session.progress.step(f"worker {number} was lost ({reason}) and is replaced")
        self._start(number)


def exit_reason(code: int) -> str:
    """The signal that ended a process, or its exit code."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"

"""A trial's place in a pack: code that knows nothing of the others, left and gone on with where it meets them.

A trial runs in a greenlet, so that all of a process's trials share one thread: signals, and the order of work on a
device, are as for a single one. What libraries keep one of for a process is put back at each change: the generators, so
that a trial draws what it would draw alone; and accelerate's account of the batches of an open step, by which it skips
the optimizer's steps of every trainer while one of them is in the middle of a step.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import greenlet
import torch
from accelerate.state import GradientState

from tunery.errors import Interrupted
from tunery.training.random_state import RandomState
from tunery.training.stop import StopSignal


@dataclass
class Forward:
    """A trial asks for the outputs of a batch."""

    model: Any  # its own, which computes it alone
    inputs: Mapping[str, Any]
    autocast: torch.dtype | None  # of 16-bit training
    before: RandomState  # of the generators


@dataclass
class Backward:
    """A trial has put the gradient of its loss on outputs that were computed together."""

    forward: Forward
    outputs: torch.Tensor  # log-probabilities, (rows, tokens - 1): a leaf, with a gradient


@dataclass
class Wait:
    """A trial can do nothing before others have."""

    until: float  # by time.monotonic(); it may be asked to look earlier


class Table(Protocol):
    """What a seat stands at."""

    stop: StopSignal  # asks all trials to stop


class Seat(greenlet.greenlet):  # type: ignore[misc]  # greenlet has no types
    """A trial's place in a pack."""

    def __init__(self, table: Table, work: Callable[[], None]) -> None:
        super().__init__(self._begin)
        self.table, self._work = table, work
        self.asked: Forward | Backward | Wait | None = None  # None: it can go on
        self.answer: Any = None
        self.random: RandomState  # of the generators, while others run
        self._shared: Backward | None = None
        self.gr_context = contextvars.copy_context()  # a greenlet begins with an empty one: nobody would hear it

    def forward(self, model: Any, inputs: Mapping[str, Any], autocast: torch.dtype | None = None) -> Any:
        """What model(**inputs) returns, computed together with the batches of others, or alone."""
        self._shared = None  # of a trial that failed before its backward pass
        asked = Forward(model, inputs, autocast, RandomState.taken())
        outputs = self._ask(asked)
        if outputs is None:
            return model(**inputs)
        self._shared = Backward(asked, outputs.log_probs)
        return outputs

    def backward(self) -> None:
        """Carry a gradient on from outputs that were computed together to the weights of the adapter."""
        shared, self._shared = self._shared, None
        if shared is not None and not self._ask(shared):
            _backward_alone(shared)

    def wait(self, seconds: float) -> None:
        """Let the others go on.

        Raises:
            Interrupted: If all were asked to stop.
        """
        self._ask(Wait(time.monotonic() + seconds))
        self.raise_if_stopped()

    def raise_if_stopped(self) -> None:
        """Raise Interrupted if all trials were asked to stop."""
        if self.table.stop.requested is not None:
            raise Interrupted(self.table.stop.requested, 0, resumable=True)

    def _begin(self) -> None:
        GradientState._reset_state()
        self._work()

    def _ask(self, asked: Forward | Backward | Wait) -> Any:
        self.asked, self.random = asked, RandomState.taken()
        accumulation = dict(GradientState._shared_state)
        try:
            self.parent.switch()
        finally:
            self.random.restore()
            GradientState._reset_state()
            GradientState._shared_state.update(accumulation)
        answer, self.asked, self.answer = self.answer, None, None
        return answer


def current_seat() -> Seat | None:
    """Of the trial that runs now; None outside of a pack."""
    now = greenlet.getcurrent()
    return now if isinstance(now, Seat) else None


def _backward_alone(shared: Backward) -> None:
    """Compute the batch again, with the same draws, where memory did not suffice for all together."""
    after = RandomState.taken()
    shared.forward.before.restore()
    shared.forward.model(**shared.forward.inputs).log_probs.backward(shared.outputs.grad)
    after.restore()

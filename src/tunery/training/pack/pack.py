"""Several trials in one thread, which meet at every forward and backward pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal, cast

from tunery.training.pack.joint import JointPasses
from tunery.training.pack.rounds import Rounds
from tunery.training.pack.seat import Backward, Forward, Seat, Wait
from tunery.training.stop import StopSignal

How = Literal["auto", "together", "alone"]


class Pack:
    """Runs trials, each a function that returns when there is nothing left for it to do.

    Args:
        how: Whether batches are computed together. auto: both ways are measured, and the faster one is kept.
    """

    def __init__(self, how: How = "auto") -> None:
        self.how = how
        self.stop = StopSignal()
        self.rounds = Rounds()
        self.joint = JointPasses()
        self.most = 1  # trials whose batches were computed together
        self._round: tuple[list[Seat], bool, int, float] | None = None  # the last one: who, how, tokens, and when

    def run(self, works: Sequence[Callable[[], None]]) -> None:
        """Run all to their ends.

        Raises:
            Interrupted, TuneryError, ...: What the first that failed raised; the others were asked to stop before.
        """
        seats = [Seat(self, work) for work in works]
        failed: BaseException | None = None
        with self.stop:
            while seats:
                try:
                    ready = self._ready(seats)
                except BaseException as error:  # noqa: BLE001 - likewise; none of them would go on by itself
                    failed, ready = failed or error, []
                    self._end_at_once(seats)
                for seat in ready:
                    try:
                        seat.switch()
                    except BaseException as error:  # noqa: BLE001 - raised when all have ended
                        failed = failed or error
                        self._end_others(seats, error)
                seats = [seat for seat in seats if not seat.dead]
        if failed is not None:
            raise failed

    def _end_others(self, seats: Sequence[Seat], error: BaseException) -> None:
        """Ask them to stop at their next step; after a second signal, at once."""
        self.stop.requested = self.stop.requested or "the end of another trial"
        if isinstance(error, KeyboardInterrupt):
            self._end_at_once(seats)

    def _end_at_once(self, seats: Sequence[Seat]) -> None:
        self.stop.requested = self.stop.requested or "the end of another trial"
        for seat in seats:
            with suppress(BaseException):  # the first error is the one that is raised
                seat.throw(KeyboardInterrupt)

    def _ready(self, seats: Sequence[Seat]) -> list[Seat]:
        """Those that can go on, with their answers. A pass is computed when all who train have asked for it."""
        waiting = [seat for seat in seats if isinstance(seat.asked, Wait)]
        if len(waiting) == len(seats) and not self.stop.requested:
            time.sleep(max(0.0, min(map(_until, waiting)) - time.monotonic()))
        now = time.monotonic()
        ready = [seat for seat in waiting if self.stop.requested or _until(seat) <= now]
        ready += [seat for seat in seats if seat.asked is None]
        backward = [seat for seat in seats if isinstance(seat.asked, Backward)]
        forward = [seat for seat in seats if isinstance(seat.asked, Forward)]
        if backward:
            self.joint.backward(backward)
        elif forward:
            self._forward(forward)
        return ready + (backward or forward)

    def _forward(self, seats: list[Seat]) -> None:
        if self._round is not None and self._round[0] == seats:  # they did nothing in between but train
            _, together, tokens, began = self._round
            self.rounds.note(len(seats), together, tokens, time.perf_counter() - began)
        tokens = sum(int(cast(Forward, seat.asked).inputs["input_ids"].numel()) for seat in seats)
        began = time.perf_counter()
        able = self.joint.able(seats) if len(seats) > 1 and self.how != "alone" else []
        together = len(able) > 1 and self._is_chosen(len(seats)) and self.joint.forward(able)
        self._round = (seats, together, tokens, began)
        self.most = max(self.most, len(able) if together else 1)

    def _is_chosen(self, trials: int) -> bool:
        return self.rounds.together(trials) if self.how == "auto" else self.how == "together"


def _until(seat: Seat) -> float:
    return cast(Wait, seat.asked).until

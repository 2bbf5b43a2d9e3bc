"""Whether the trials of a study are trained in packs, and how many at once."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tunery.config.project import Project
from tunery.errors import Fault
from tunery.search.session import Session, run_all
from tunery.search.study import queue
from tunery.search.worker import Worker

if TYPE_CHECKING:
    from tunery.training.pack.pack import Pack

# A sampler that learns sees nothing of the trials beside the one that it draws: more of them would make it blind.
_AUTO = 4
# What a trial costs alone cannot be told of one that shares its passes.
_COSTS = ("train_seconds", "peak_memory_bytes")
_SHARED_BY_ALL = ("base.", "training.device", "data.template")
# A search may come to full fine-tuning, which changes the base that the others stand on; and a pass has one precision,
# of which accelerate keeps one for a process.
_ONE_FOR_ALL = ("adapter.method", "training.precision")


def pack_faults(project: Project) -> Iterator[Fault]:
    """What speaks against packs in these settings, as faults of a number that was asked for."""
    search, training, adapter = project.search, project.training, project.adapter
    one = "one at a time, with search.pack: off"
    measured = [key for key in (*search.objectives, *search.constraints) if key in _COSTS]
    if measured:
        yield Fault("search.pack", f"off where {measured[0]} decides: trials in a pack share it", search.pack)
    if search.timeout_seconds is not None:
        rule = "unset for trials in a pack: one that is ended for its time would end the others"
        yield Fault("search.timeout_seconds", rule, search.timeout_seconds)
    for key in search.space:
        if key.startswith(_SHARED_BY_ALL):
            yield Fault(
                "search.pack", f"off where search.space has {key}: trials in a pack stand on one base", search.pack
            )
    refused = (
        ("training.method", training.method, training.method != "sft"),
        ("adapter.method", adapter.method, adapter.method != "lora"),
        ("adapter.dora", adapter.dora, adapter.dora),
        ("training.packing", training.packing, training.packing),
        ("training.gradient_checkpointing", training.gradient_checkpointing, training.gradient_checkpointing),
        ("training.neftune_noise_alpha", training.neftune_noise_alpha, training.neftune_noise_alpha is not None),
        ("training.precision", training.precision, training.precision == "fp16"),
    )
    for key, value, is_refused in refused:
        if (is_refused and key not in search.space) or (key in _ONE_FOR_ALL and key in search.space):
            yield Fault("search.pack", f"off with {key}: {value}, which is trained {one}", search.pack)


def pack_size(project: Project, trials: int) -> int:
    """How many of so many trials are trained at once."""
    wanted = project.search.pack
    if wanted == "off" or (wanted == "auto" and next(pack_faults(project), None) is not None):
        return 1
    return max(1, min(_AUTO if wanted == "auto" else wanted, trials))


def run_session(session: Session, name: str | None = None) -> None:
    """A process's part in a study: its trials one after the other, or in packs.

    Args:
        name: By which its trials are known; by default one is made up.
    """
    project = session.project
    size = pack_size(project, len(queue.unfinished(session.study)))
    if size == 1:
        _tell_why_not(session)
        run_all(_worker(session, name), session)
        return
    from tunery.training.pack.pack import Pack

    session.resident.in_pack = True
    pack = Pack("auto" if project.search.pack == "auto" else "together")
    try:
        pack.run([partial(_run_seat, session, name, size) for _ in range(size)])
    finally:
        session.resident.in_pack = False
        session.progress.step(_told(pack))


def _run_seat(session: Session, name: str | None, size: int) -> None:
    """One trial after the other, beside those of the other seats."""
    from tunery.training.pack.seat import current_seat

    seat = current_seat()
    assert seat is not None
    # Optuna allows one trial at a time to a study object.
    own = replace(session, study=copy.copy(session.study))
    worker = _worker(own, name)
    worker.pause, worker.pack = seat.wait, size
    run_all(worker, own)


def _worker(session: Session, name: str | None) -> Worker:
    worker = session.worker()
    worker.name = name or worker.name
    return worker


def _tell_why_not(session: Session) -> None:
    fault = next(pack_faults(session.project), None) if session.project.search.pack == "auto" else None
    if fault is not None:
        session.progress.step(f"trials are trained one at a time: search.pack is {fault.rule}")


def _told(pack: Pack) -> str:
    """How the trials were trained, for a person."""
    apart = "; ".join(sorted(filter(None, (pack.joint.reason, *pack.joint.apart))))
    if pack.most == 1:
        return "trials were trained one at a time" + (f": {apart}" if apart else ", which was measured to be faster")
    gains = {trials: gain for trials in range(2, pack.most + 1) if (gain := pack.rounds.gain(trials)) != 1}
    measured = ", ".join(f"{trials} together {gain:.1f} times as fast as alone" for trials, gain in gains.items())
    left_out = f"; some alone: {apart}" if apart else ""
    return f"up to {pack.most} trials were trained together" + (f": {measured}" if measured else "") + left_out

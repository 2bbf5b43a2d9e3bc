"""How a run's end is told: which status, which tags. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from tunery.errors import InputError, Interrupted, Pruned, RunStopped
from tunery.tracking.redact import redact

FAILURE, ERROR, PRUNED = "tunery.failure", "tunery.error", "tunery.pruned"


@dataclass(frozen=True)
class Ending:
    """A run's last status (FINISHED, FAILED or KILLED), the tags that say why, and when it was (None: now)."""

    status: str
    tags: dict[str, str] = field(default_factory=dict)
    time_ms: int | None = None


def ending_of(error: BaseException | None, former: Ending | None = None) -> Ending:
    """The ending that an exception means; None is a good one.

    Args:
        error: What left the run's `with` block.
        former: How a resumed run had ended, as long as nothing was done in it since.

    Returns:
        FINISHED, also for a trial that was pruned; KILLED for a signal; FAILED for all else, with `tunery.failure` and
        the first line of the error. The former ending after a mistake in the command: it says nothing about the run.
    """
    if former is not None and isinstance(error, InputError):
        return former
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return Ending("FINISHED")
    if isinstance(error, Pruned):
        return Ending("FINISHED", {PRUNED: f"step {error.step}"})
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return Ending("KILLED", {FAILURE: Interrupted.failure, ERROR: _first_line(error)})
    failure = error.failure if isinstance(error, RunStopped) else "error"
    return Ending("FAILED", {FAILURE: failure, ERROR: _first_line(error)})


def _first_line(error: BaseException) -> str:
    lines = redact(str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__

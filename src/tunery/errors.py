"""Everything that tunery raises on purpose. Subclasses of `InputError` exit with 2, of `Refused` with 3, others with 1.

`RunStopped` is a run that had started; its `failure` becomes the tag tunery.failure. `Pruned` is not an error: a search
ended a trial early, and the run is FINISHED.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_ABSENT = object()


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: `{key} is {got!r}, but must be {rule}. {advice}`, or `{key}: {rule}. {advice}`."""

    key: str
    rule: str = ""
    got: object = _ABSENT
    advice: str = ""

    def __str__(self) -> str:
        sentence = f"{self.key}: {self.rule}." if self.rule else f"{self.key}."
        if self.got is not _ABSENT:
            got = repr(self.got)
            short = got if len(got) <= 120 else f"{got[:117]}..."
            sentence = f"{self.key} is {short}, but must be {self.rule}."
        return f"{sentence} {self.advice}".rstrip()


class TuneryError(Exception):
    """Base class; the command line prints its message without a traceback and exits with `exit_code`."""

    exit_code = 1


class InputError(TuneryError):
    """What the user gave cannot be used.

    Args:
        where: File, row, option or address at fault.
        faults: Everything that is wrong there, so that all can be fixed at once. A string is used as it is.
        advice: What to do about all of them; not counted as a fault.
    """

    exit_code = 2

    def __init__(self, where: str, faults: Sequence[Fault | str] | Fault | str, advice: str = "") -> None:
        self.where = where
        self.faults = [faults] if isinstance(faults, Fault | str) else list(faults)
        if len(self.faults) == 1:
            text = f"{where}: {self.faults[0]} {advice}".rstrip()
        else:
            count = f"{where} has {len(self.faults)} faults"
            text = "\n  ".join([count, *map(str, self.faults), *filter(None, [advice])])
        super().__init__(text)

    def __reduce__(self) -> tuple[type[InputError], tuple[str, list[Fault | str]]]:
        """Pickle by its own arguments, so that it can cross process boundaries."""
        return type(self), (self.where, self.faults)


class ConfigError(InputError):
    """project.yaml, or an override of it, breaks a rule."""


class DataError(InputError):
    """A dataset is missing, cannot be read, or leaves nothing to train on."""


class BaseModelError(InputError):
    """A base model or an adapter is missing, or must not or cannot be loaded."""


class TaskError(InputError):
    """An evaluation task is unknown or cannot be built."""


class RefError(InputError):
    """A reference such as models:/name@alias cannot be resolved."""


class RunHeld(RefError):
    """Another process is working on the run."""


class TrackingError(InputError):
    """The MLflow store does not answer, or refuses the request."""


class StoreAway(TrackingError):
    """The MLflow store does not answer now; it may soon."""


class StorageError(InputError):
    """The disk is full or cannot be written."""


class Refused(TuneryError):
    """A gate refused a promotion; no alias moved."""

    exit_code = 3


class Overtaken(Refused):
    """Someone else moved the aliases while this promotion was being judged."""


class RunStopped(TuneryError):
    """A run that had started did not end well. `failure` becomes the tag tunery.failure."""

    failure = "error"


class NonFiniteLoss(RunStopped):
    """The loss (or another metric of the step, such as train/grad_norm) became NaN or infinite at `step`."""

    failure = "nan"

    def __init__(self, step: int, loss: float, metric: str = "train/loss") -> None:
        self.step = step
        super().__init__(
            f"training.step {step}: {metric} is {loss}, but must be finite. "
            "Lower training.learning_rate, raise training.warmup_ratio, or use training.precision: fp32."
        )


class NonFiniteScore(RunStopped):
    """Log-likelihoods or logits are NaN or infinite. lm-eval would take the first option for the answer.

    Args:
        where: The task, or what was done.
        what: Which numbers, of which item.
    """

    failure = "nan"

    def __init__(self, where: str, what: str) -> None:
        super().__init__(
            f"{where}: {what} are not finite, but must be numbers: the model's arithmetic or its weights overflow "
            "(float16 ends at 65,504). Use base.dtype: float32, or bfloat16 on a GPU; if that gives none either, the "
            "weights are damaged: get them anew, or train with a lower training.learning_rate."
        )


_LESS_MEMORY_IN_TRAINING = (
    "Halve training.micro_batch_size and double training.gradient_accumulation_steps, set "
    "training.gradient_checkpointing: true, lower data.max_length, or use base.quantization: nf4."
)


class OutOfMemory(RunStopped):
    """Memory ran out; the message names settings that need less."""

    failure = "oom"

    def __init__(self, doing: str, detail: str, advice: str = _LESS_MEMORY_IN_TRAINING) -> None:
        super().__init__(f"{doing}: out of memory ({detail}). {advice}")


class TimedOut(RunStopped):
    """A trial took longer than search.timeout_seconds."""

    failure = "timeout"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the trial took longer than search.timeout_seconds: {seconds:g}. Raise it, or train less.")


class Infeasible(RunStopped):
    """A trial would need more memory than there is; nothing was loaded."""

    failure = "infeasible"


class Pruned(TuneryError):
    """A search ended a trial, because others were better: at an optimizer step, or when some items were scored."""

    def __init__(self, at: int | str) -> None:
        self.at = f"step {at}" if isinstance(at, int) else at
        super().__init__(f"ended at {self.at}: other trials were better by then")


class Interrupted(RunStopped):
    """SIGINT or SIGTERM arrived; a checkpoint was written if `resumable`."""

    failure = "killed"

    def __init__(self, signal_name: str, step: int, resumable: bool) -> None:
        self.signal_name, self.step = signal_name, step
        # How to go on is the verb's to say: a run is resumed by its id, a study by the same command.
        kept = "a checkpoint was written" if resumable else "no checkpoint was written yet, so it cannot be resumed"
        super().__init__(f"stopped by {signal_name} at optimizer step {step}: {kept}")


def first_line(error: BaseException) -> str:
    """The first line of a library's message, or the name of its class if it has none.

    A line that ends in a colon only announces the reason: the next one follows it.
    """
    first, *more = (str(error).strip() or type(error).__name__).splitlines()
    return f"{first} {more[0].strip()}" if first.endswith(":") and more else first

"""What was measured of a candidate: all that the gates look at, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tunery.config.promotion import Form
from tunery.records import Difference

Rival = Literal["champion", "base"]
SCORE = "score"


@dataclass(frozen=True)
class Compared:
    """One comparison: of the primary score, or of a guarded task.

    Args:
        what: `score`, or the task's name.
        metric: The task's metric; "" for the score, which is a mean of several.
    """

    what: str
    against: Rival
    difference: Difference
    metric: str = ""


@dataclass(frozen=True)
class FormScore:
    """How one form of the candidate answered the locked items.

    Args:
        score: None where it could not be measured; `fault` says why.
        drift: Its score minus that of the form that was trained, on the same items.
        changed: Items whose value is another.
        loglikelihood: Largest difference of a log-likelihood, in nats; None where there are none.
    """

    score: float | None
    drift: float | None = None
    items: int = 0
    changed: int = 0
    loglikelihood: float | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Evidence:
    """All that a decision is made of.

    Args:
        candidate: "quickstart/3", or the run of one that is not registered yet.
        champion: "quickstart/2"; None where there is none, and the base alone is the rival.
        base: The base model's name.
        revision: The commit or hash of the base.
        license: Of the base; None where nobody names one.
        compared: The score and every guarded task, against champion and base. Empty if the candidate did not load.
        forms: By name of the form.
        recorded: Score measured now, as trained, minus that of the answers which the run recorded; None where it
            recorded none of locked items, as a trial.
        load_fault: Why the candidate could not be loaded in a process of its own.
        pickles: Files of the model's folder that hold a pickle.
        overtaken: Who was faster, where the aliases moved while this was judged.
        notes: What a reader should know.
    """

    candidate: str
    champion: str | None
    base: str
    revision: str
    license: str | None
    compared: Sequence[Compared] = ()
    forms: Mapping[Form, FormScore] = field(default_factory=dict)
    recorded: float | None = None
    load_fault: str | None = None
    pickles: Sequence[str] = ()
    overtaken: str | None = None
    notes: Sequence[str] = ()

    def find(self, what: str, against: Rival) -> Compared | None:
        """One comparison; None where it was not made."""
        return next((one for one in self.compared if (one.what, one.against) == (what, against)), None)

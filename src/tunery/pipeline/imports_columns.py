"""Columns of a table: which holds what, by its name or by `--column OURS=THEIRS`, and what its numbers must be."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunery.config.keys import nearest
from tunery.errors import Fault
from tunery.pipeline.imports_faults import NotTaken

_TEXTS = ("name", "base", "base_revision", "method", "trained_on")
COSTS = ("train_seconds", "peak_memory_bytes", "trainable_parameters", "model_bytes", "energy_joules")
WHOLE = ("seed", "train_rows")
ASKED = ("items", "few_shot", "version")  # of a task: world_facts/items
_FIELDS = (*_TEXTS, *WHOLE, *COSTS, "score", "score_stderr", "base_score")
# world_facts/acc, world_facts/acc_stderr, base/world_facts/acc; lm_eval/ as MLflow's own export has it.
_SCORE = re.compile(r"(?:metrics\.)?(?P<base>base/)?(?:lm_eval/)?(?P<task>[^/]+)/(?P<metric>[^/]+?)(?P<error>_stderr)?")
LOWER = re.compile(
    r"(?<![a-z])(perplexity|ppl|loss|nll|errors?|bits_per_byte|wer|cer|mae|mse|rmse|brier|ece)(?![a-z])", re.IGNORECASE
)
_SHARE = re.compile(r"(?<![a-z])(acc|accuracy|exact_match|pass@\d+)(?![a-z])", re.IGNORECASE)
_FORMS = "score, world_facts/acc, world_facts/acc_stderr, world_facts/items, base/world_facts/acc"

Rule = tuple[str, Callable[[float], bool]]
ANY: Rule = ("a finite number", math.isfinite)
NATURAL: Rule = ("a whole number of 0 or more", lambda value: value >= 0 and value.is_integer())
_ERROR: Rule = ("a number of 0 or more", lambda value: value >= 0)
_OF_ONE: Rule = ("from 0 to 1, or written with %", lambda value: 0 <= value <= 1)


@dataclass(frozen=True)
class Column:
    """Where a number of a task stands in the table; `part` is value, stderr, base, base_stderr, or one of ASKED."""

    task: str
    metric: str
    part: str
    name: str

    @property
    def measures(self) -> str:
        """The metric in words: the table's own where ours is just "score"."""
        return self.name.rpartition("/")[2] if self.metric == "score" else self.metric

    @property
    def rule(self) -> Rule:
        """What its numbers must be: 71.2 beside another run's 0.71 would win every comparison."""
        if self.part in ASKED:
            return NATURAL
        if _SHARE.search(self.measures):
            return _OF_ONE
        return _ERROR if self.part.endswith("stderr") else ANY


def columns_of(
    file: Path, header: Sequence[str], columns: Mapping[str, str], task: str
) -> tuple[dict[str, str], list[Column]]:
    """Fields by our name, and the columns of scores.

    Raises:
        NotTaken: With every mapping that cannot be, or if no score is found.
    """
    faults = [
        Fault(f"--column {ours}={theirs}: there is no column {theirs!r}", advice=_found(header, theirs))
        for ours, theirs in columns.items()
        if theirs not in header
    ]
    faults += [
        Fault(f"--column {ours}={theirs}", f"one of {', '.join(_FIELDS)}, or {_FORMS}", ours, nearest(ours, _FIELDS))
        for ours, theirs in columns.items()
        if ours not in _FIELDS and not _SCORE.fullmatch(ours)
    ]
    if faults:
        raise NotTaken(str(file), faults)
    taken = set(columns.values())
    meant = {**{name: name for name in header if name not in taken}, **columns}
    fields = {ours: theirs for ours, theirs in meant.items() if ours in _FIELDS and "score" not in ours}
    scores = [column for ours, theirs in meant.items() if (column := _score_column(ours, theirs, task)) is not None]
    if not any(column.part == "value" for column in scores):
        advice = f"Say which: --column score=<column>, or --column world_facts/acc=<column>. {_found(header)}"
        raise NotTaken(str(file), Fault("no column is known as a score", advice=advice))
    places = [(one.task, one.metric, one.part) for one in scores]
    twice = [one for one, place in zip(scores, places, strict=True) if places.count(place) > 1]
    if twice:
        names = ", ".join(repr(one.name) for one in twice)
        raise NotTaken(str(file), Fault(f"the columns {names} hold one number twice", advice="Delete all but one."))
    return fields, scores


def _score_column(ours: str, theirs: str, task: str) -> Column | None:
    plain = {"score": "value", "score_stderr": "stderr", "base_score": "base"}
    if ours in plain:
        return Column(task, "score", plain[ours], theirs)
    found = _SCORE.fullmatch(ours)
    if found is None or found["task"] in ("delta", "train", "validation", "system", "base"):
        return None
    if found["metric"] in ASKED:
        return Column(found["task"], "", found["metric"], theirs)
    part = {(False, False): "value", (False, True): "stderr", (True, False): "base", (True, True): "base_stderr"}
    return Column(found["task"], found["metric"], part[bool(found["base"]), bool(found["error"])], theirs)


def _found(header: Sequence[str], wanted: str = "") -> str:
    near = nearest(wanted, list(header)) if wanted else ""
    return f"{near} Columns found: {', '.join(header)}.".strip()

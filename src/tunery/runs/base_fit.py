"""How far the training answers are from what the base knows: measured once for a base and its rows."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunery.records.rows import Example
from tunery.records.runs import BaseFit
from tunery.runs.cache import Loaded
from tunery.runs.scoring import deciding

if TYPE_CHECKING:
    from tunery.tracking.run import Tracker

# A model of 135 million weights reads 1,024 tokens in 3 s on a CPU; of some 500 answer tokens, a mean is sure to
# 0.2 nats.
_TOKENS, _ROWS = 1024, 64


def base_fit(loaded: Loaded, tracker: Tracker) -> BaseFit | None:
    """The fit of the base to a sample of the training answers, logged with the run; None where it is no number.

    Looked up in MLflow if any run of the same base and the same rows has logged it.

    Args:
        loaded: Without an adapter.

    Raises:
        OutOfMemory: If a batch does not fit.
    """
    from tunery.tracking.base_scores import FIT, FIT_KEY, find_fit

    rows = sample(loaded.rows.train)
    key = _key(loaded, rows)
    found = find_fit(tracker.store, key)
    if found is None:
        fit = _measured(loaded, rows)
    else:
        nll, entropy = (found[name] for name in FIT)
        fit = BaseFit(nll, entropy, _vocabulary(loaded), sum(sum(row.trained[1:]) for row in rows))
    if not math.isfinite(fit.nll + fit.entropy):  # scoring the base says so, with the item
        return None
    tracker.log_metrics(dict(zip(FIT, (fit.nll, fit.entropy), strict=True)))
    tracker.tag(**{FIT_KEY: key})
    return fit


def sample(rows: Sequence[Example]) -> list[Example]:
    """Rows from all over the data, about 1,024 tokens in all; at least one."""
    step = max(1, len(rows) // _ROWS)
    chosen: list[Example] = []
    for row in rows[::step]:
        if chosen and sum(len(one.input_ids) for one in chosen) + len(row.input_ids) > _TOKENS:
            break
        chosen.append(row)
    return chosen


def _measured(loaded: Loaded, rows: Sequence[Example]) -> BaseFit:
    from tunery.evaluation.eval_mode import memory_checked, undisturbed
    from tunery.training import nll

    size = loaded.project.training.micro_batch_size
    with memory_checked("reading the training answers", size), undisturbed(loaded.model):
        return nll.base_fit(loaded.model, rows, batch_size=size, device=loaded.base.device)


def _vocabulary(loaded: Loaded) -> int:
    return int(loaded.model.get_output_embeddings().weight.shape[0])


def _key(loaded: Loaded, rows: Sequence[Example]) -> str:
    """First 16 hex digits of the SHA-256 of all that decides the fit: base, tokens and masks."""
    parts = [deciding(loaded.base.identity), [[row.input_ids, row.trained] for row in rows]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

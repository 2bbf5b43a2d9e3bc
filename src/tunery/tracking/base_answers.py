"""The base's answers to a project's prompts, found in the run that had it write them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from tunery.tracking.run_facts import generations
from tunery.tracking.search import FINISHED, is_tagged, search_runs
from tunery.tracking.store import Store

KEY = "tunery.base_answers_key"  # of a run whose generations.json holds the answers
# Of the answers as they were written: a secret in one is redacted in the store, and must not be taken for the answer.
DIGEST = "tunery.base_answers_sha256"
_TRIED = 10  # runs of one key that are read before the answers count as lost


def find_answers(store: Store, key: str) -> list[str] | None:
    """The answers that a finished run keeps under this key, in any experiment; None if none keeps them as written."""
    for run in search_runs(store, is_tagged(KEY, key), FINISHED, limit=_TRIED):
        answers = [str(row.get("base")) for row in generations(store, run.info.run_id)]
        if digest(answers) == run.data.tags.get(DIGEST):
            return answers
    return None


def digest(answers: Sequence[str]) -> str:
    """First 16 hex digits of the SHA-256 of answers, in their order."""
    return hashlib.sha256(json.dumps(list(answers)).encode()).hexdigest()[:16]

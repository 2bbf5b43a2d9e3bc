"""The base's answers to held-out prompts: written once for a base and its prompts, as its scores are computed once."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from tunery.runs.cache import Loaded
from tunery.runs.scoring import deciding
from tunery.runs.stages import answers, prompts_before

if TYPE_CHECKING:
    from tunery.tracking.run import Tracker


def base_answers(loaded: Loaded, tracker: Tracker) -> list[str]:
    """Greedy answers of the base to the first prompts of the validation rows, looked up if a run in the store has them.

    Args:
        loaded: Without an adapter and without a context.

    Raises:
        DataError: If the chat template refuses a prompt.
        OutOfMemory: If a batch does not fit.
    """
    from tunery.tracking.base_answers import DIGEST, KEY, digest, find_answers

    key = _key(loaded)
    found = find_answers(tracker.store, key)
    written = answers(loaded) if found is None else found
    if written:
        tracker.tag(**{KEY: key, DIGEST: digest(written)})
    return written


def _key(loaded: Loaded) -> str:
    """First 16 hex digits of the SHA-256 of all that decides the answers: base, prompts as tokens, longest answer."""
    from tunery.evaluation.generate import encode_prompts

    prompts, tools = prompts_before(loaded)
    tokens = encode_prompts(loaded.base.tokenizer, prompts, loaded.project.data.template, tools)
    parts = [deciding(loaded.base.identity), tokens, loaded.project.evaluation.generation.max_new_tokens]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

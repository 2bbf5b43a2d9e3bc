"""lm-eval's prompts, compiled once."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def compiled_once() -> Iterator[None]:
    """lm-eval compiles a task's prompt for every document and option, which takes longer than to fill it in."""
    from lm_eval.utils import env

    env.from_string = _compiled
    try:
        yield
    finally:
        del env.from_string


@functools.lru_cache(maxsize=256)
def _compiled(prompt: str) -> Any:
    from lm_eval.utils import env

    return type(env).from_string(env, prompt)

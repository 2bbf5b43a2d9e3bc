"""Secrets never leave: every text on its way to MLflow or to a log passes `redact`."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from typing import Any, TypeVar, cast
from urllib.parse import quote

from tunery.tracking.secrets.literals import MASK, Syntax, is_secret
from tunery.tracking.secrets.names import Speaks, speaks_of_secret
from tunery.tracking.secrets.shapes import mask_shapes
from tunery.tracking.secrets.values import mask_values, syntax_of

Tree = TypeVar("Tree")

# Shorter values would blank out ordinary words.
_SHORTEST_SECRET = 6
_FILE_OF_DIFF = re.compile(r"^(?=diff --git )", re.MULTILINE)
_SCRIPT = re.compile(r"(<script\b.*?</script>)", re.DOTALL | re.IGNORECASE)


def redact(tree: Tree) -> Tree:
    """The same text or tree with every secret replaced by `[redacted]`.

    Secrets are values of environment variables named like one (HF_TOKEN, PGPASSWORD), credentials in URIs, tokens known
    by their shape, and what stands under a key or to the right of a name that speaks of one: in code, settings,
    commands and headers. Of a diff, each file is read in its own syntax. Dates and other leaves pass unchanged.

    Args:
        tree: A text, or mappings, lists and tuples of texts, nested at will.

    Returns:
        A new tree of the same shape; keys are redacted too.
    """
    return cast(Tree, _redact(tree, _environment_secrets()))


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without secrets; its class's name if it says nothing."""
    return next(iter(redact(str(error)).strip().splitlines()), type(error).__name__)


class RedactingFilter(logging.Filter):
    """Redacts a log record's message and traceback before a handler writes them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record, without its secrets."""
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        return True


def guard_logs() -> None:
    """Put the filter on every handler that exists and on the one that Python falls back to.

    On handlers, not on loggers: a logger's filter does not see what its children pass up.
    """
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = {handler for logger in loggers for handler in getattr(logger, "handlers", ())}
    for handler in filter(None, (*handlers, logging.lastResort)):
        if not any(isinstance(present, RedactingFilter) for present in handler.filters):
            handler.addFilter(RedactingFilter())


def _redact(tree: Any, secrets: re.Pattern[str] | None) -> Any:
    if isinstance(tree, str):
        return _redact_text(secrets.sub(MASK, tree) if secrets else tree)
    if isinstance(tree, Mapping):
        return {
            _redact(key, secrets): _redact_value(value, speaks_of_secret(str(key)), secrets)
            for key, value in tree.items()
        }
    if type(tree) in (list, tuple):
        return type(tree)(_redact(entry, secrets) for entry in tree)
    return tree


def _redact_value(value: Any, speaks: Speaks | None, secrets: re.Pattern[str] | None) -> Any:
    """The value of a key: texts, and texts in lists, are masked if the key speaks of a secret."""
    if speaks is not None and isinstance(value, str) and is_secret(value, speaks):
        return MASK
    if speaks is not None and type(value) in (list, tuple):
        return type(value)(_redact_value(entry, speaks, secrets) for entry in value)
    return _redact(value, secrets)


def _redact_text(text: str) -> str:
    text = mask_shapes(text)
    if text.startswith("diff --git "):
        return "".join(mask_values(part, _syntax_in_diff(part)) for part in _FILE_OF_DIFF.split(text))
    if "<script" in text:  # libraries of a page: masking a text of theirs breaks it
        parts = _SCRIPT.split(text)
        return "".join(part if number % 2 else mask_values(part) for number, part in enumerate(parts))
    return mask_values(text)


def _syntax_in_diff(part: str) -> Syntax:
    header = part.split("\n", 1)[0]  # diff --git a/train.py b/train.py
    return syntax_of(header.rstrip('"'))


def _environment_secrets() -> re.Pattern[str] | None:
    values = {
        value
        for name, value in os.environ.items()
        if len(value) >= _SHORTEST_SECRET and speaks_of_secret(name) in (Speaks.SURELY, Speaks.OF_A_TOKEN)
    }
    values |= {quote(value, safe="") for value in values}
    if not values:
        return None
    # Longest first: a secret that begins like another must not leave its tail.
    return re.compile("|".join(re.escape(value) for value in sorted(values, key=len, reverse=True)))

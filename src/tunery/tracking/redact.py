"""Secrets never leave: every text on its way to MLflow or to a log passes `redact`."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from typing import Any, TypeVar, cast
from urllib.parse import quote

Tree = TypeVar("Tree")

MASK = "[redacted]"

# Environment variables whose value is a secret. The end of the name decides: AWS_WEB_IDENTITY_TOKEN_FILE is a path.
_SECRET_VARIABLE = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|API_?KEY|ACCESS_KEY|PRIVATE_KEY)$", re.IGNORECASE
)
# Keys of a tree whose value is a secret. Not every `_token`: eos_token and pad_token are words of a vocabulary.
_SECRET_KEY = re.compile(
    r"(?:^|[_.\-])(?:password|passwd|passphrase|secret|client_secret|api_?key|private_key|secret_access_key|"
    r"(?:hf|access|auth|bearer|refresh|api|hub)_token|authorization)$",
    re.IGNORECASE,
)
# Shorter values would blank out ordinary words.
_SHORTEST_SECRET = 6

_PATTERNS = re.compile(
    "|".join(
        [
            r"(?P<pem>-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z))",
            # user:password@, the password with a slash or an at sign too. On the web a port is none: host:5000/a@b.
            r"(?P<scheme>\b(?:(?P<web>https?)|(?!https?://)[a-z][a-z0-9+.\-]*)://)"
            r"(?:[^\s/@:\"'<>]*:(?(web)(?!\d+[/?#]))[^\s\"'<>]*@|[^\s/\"'<>?#]+@)",
            r"(?P<query>[?&;](?:[\w\-]*(?:token|password|passwd|secret|api_?key|signature|credential)|sig)=)[^&;\s\"'<>]+",
            r"(?P<assign>\b[A-Z0-9_]*(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY)=)[^\s\"']+",
            r"(?P<option>--[\w\-.]*(?:[\-_]token|password|passwd|secret|api[\-_]?key)[= ])[^\s\"']+",
            r"(?P<header>\b(?:bearer|basic)\s+)[A-Za-z0-9+/._~\-]{16,}=*",
            r"(?:hf|api_org)_[A-Za-z0-9]{16,}",  # Hugging Face
            r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",  # AWS access key id
            r"(?P<aws>aws_(?:secret_access_key|session_token)\W{1,4})[A-Za-z0-9/+=]{16,}",
            # GitHub, GitLab, Slack, OpenAI, Databricks
            r"\b(?:gh[oprsu]_|github_pat_|glpat-|xox[abposr]-|sk-|dapi)[A-Za-z0-9_\-]{16,}",
        ]
    ),
    re.IGNORECASE | re.DOTALL,
)


def redact(tree: Tree) -> Tree:
    """The same text or tree with every secret replaced by `[redacted]`.

    Secrets are values of environment variables named like one (HF_TOKEN, MLFLOW_TRACKING_PASSWORD), credentials in
    URIs, known token shapes, and values under keys named like one. Numbers, dates and other leaves pass unchanged.

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
        return _PATTERNS.sub(_mask_but_prefix, secrets.sub(MASK, tree) if secrets else tree)
    if isinstance(tree, Mapping):
        return {
            _redact(key, secrets): MASK if _is_secret(key, value) else _redact(value, secrets)
            for key, value in tree.items()
        }
    if type(tree) in (list, tuple):
        return type(tree)(_redact(entry, secrets) for entry in tree)
    return tree


def _is_secret(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, str) and value != "" and bool(_SECRET_KEY.search(key))


def _mask_but_prefix(match: re.Match[str]) -> str:
    if match["scheme"]:
        return f"{match['scheme']}{MASK}@"
    prefix = match["query"] or match["assign"] or match["option"] or match["header"] or match["aws"] or ""
    return f"{prefix}{MASK}"


def _environment_secrets() -> re.Pattern[str] | None:
    values = {
        value for name, value in os.environ.items() if len(value) >= _SHORTEST_SECRET and _SECRET_VARIABLE.search(name)
    }
    values |= {quote(value, safe="") for value in values}
    if not values:
        return None
    # Longest first: a secret that begins like another must not leave its tail.
    return re.compile("|".join(re.escape(value) for value in sorted(values, key=len, reverse=True)))

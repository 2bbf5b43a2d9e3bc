"""The Hugging Face Hub, when it may be out of reach: asked once, before libraries that ask again and again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_PATIENCE_SECONDS = 10.0


def unreachable(patience_seconds: float = _PATIENCE_SECONDS) -> str | None:
    """Why the Hub cannot be reached, None if it answers, whatever it says."""
    import httpx2
    from huggingface_hub import constants, get_session

    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=patience_seconds)
    except httpx2.TransportError as error:
        return f"{constants.ENDPOINT}: {type(error).__name__}"
    return None


@contextmanager
def asked_once() -> Iterator[str | None]:
    """Inside, libraries read their local copies alone if the Hub does not answer.

    Without this, they ask six times for each file, with pauses of 23 s in all, and print two lines for each failure.

    Yields:
        Why the Hub cannot be reached; None if it can.
    """
    import datasets
    from huggingface_hub import constants

    why = unreachable()
    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if why is not None:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield why
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before

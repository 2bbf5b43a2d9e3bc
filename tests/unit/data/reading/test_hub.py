"""Whether the Hub answers is asked once; libraries then read their local copies, and do not ask again."""

from __future__ import annotations

from typing import Any

import datasets
import httpx2
import huggingface_hub
import pytest
from huggingface_hub import constants

from tunery.data.reading.hub import asked_once


def hub_answers(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> list[str]:
    asked: list[str] = []

    class Session:
        def head(self, url: str, **_: Any) -> None:
            asked.append(url)
            if error is not None:
                raise error

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    for module in (constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    return asked


def test_a_hub_that_does_not_answer_is_asked_once_and_no_library_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub_answers(monkeypatch, httpx2.ConnectError("no route"))
    with asked_once() as silent:
        assert silent == f"{constants.ENDPOINT}: ConnectError"
        assert constants.is_offline_mode()
        with pytest.raises(ConnectionError):
            datasets.load_dataset("someone/something-that-is-not-there")
    assert asked == [constants.ENDPOINT]
    assert not constants.is_offline_mode()
    assert not datasets.config.HF_HUB_OFFLINE


def test_a_hub_that_answers_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    hub_answers(monkeypatch, None)
    with asked_once() as silent:
        assert silent is None
        assert not constants.is_offline_mode()


def test_offline_mode_is_named_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    hub_answers(monkeypatch, None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with asked_once() as silent:
        assert silent == "HF_HUB_OFFLINE is set"
    assert constants.is_offline_mode()

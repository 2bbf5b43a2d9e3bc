"""A client of the Hub that sends nothing."""

from __future__ import annotations

from typing import Any

import pytest


class Api:
    """Takes what HfApi takes, and remembers it."""

    calls: list[tuple[str, dict[str, Any]]]

    def __init__(self) -> None:
        Api.calls = getattr(Api, "calls", [])

    def create_repo(self, repo: str, **options: Any) -> str:
        Api.calls.append(("create", {"repo": repo, **options}))
        return f"https://huggingface.co/{repo}"

    def upload_folder(self, **options: Any) -> None:
        Api.calls.append(("upload", options))


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> type[Api]:
    import huggingface_hub

    Api.calls = []
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_abcdefghijklmnopqrst")
    return Api

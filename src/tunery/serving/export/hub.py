"""Uploads an exported folder to the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from tunery.errors import Fault, RefError
from tunery.tracking.redact import redact

# Source: https://huggingface.co/docs/huggingface_hub, utils.validate_repo_id
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_LOGIN = "Set HF_TOKEN to a token with write access, or run `hf auth login`."


def check_repo(repo: str) -> None:
    """Check a repository's name, and that there is a token, before anything is loaded.

    Raises:
        RefError: If the name is invalid or there is no token.
    """
    from huggingface_hub import get_token

    if not _REPO.fullmatch(repo):
        raise RefError("--repo", Fault("the repository", "owner/name", repo, "Use letters, digits, - _ and ."))
    if not get_token():
        raise RefError(f"--repo {repo}", Fault("there is no Hugging Face Hub token", advice=_LOGIN))


def upload(folder: Path, repo: str, kind: Literal["model", "space"], *, public: bool, message: str) -> str:
    """Create the repository if needed, and replace its files by the folder's in one commit.

    Args:
        folder: The files.
        repo: owner/name.
        kind: Spaces and models are different kinds of repository.
        public: Whether a new repository is public; an existing one stays as it is.
        message: The commit message.

    Returns:
        The repository's address.

    Raises:
        RefError: If the Hub refuses the upload; the folder is kept.
    """
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    api: Any = HfApi()
    try:
        sdk = {"space_sdk": "gradio"} if kind == "space" else {}
        address = api.create_repo(repo, repo_type=kind, private=not public, exist_ok=True, **sdk)
        api.upload_folder(
            repo_id=repo, repo_type=kind, folder_path=str(folder), commit_message=message, delete_patterns=["*"]
        )
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, httpx2.HTTPError, OSError) as error:
        raise RefError(
            f"--repo {repo}",
            Fault("the Hub refused the upload", _reason(error), advice=f"The export is in {folder}. {_LOGIN}"),
        ) from error
    return str(address)


def _reason(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    first = redact(str(error)).strip().splitlines()
    return f"status {status}" if status is not None else (first[0] if first else type(error).__name__)

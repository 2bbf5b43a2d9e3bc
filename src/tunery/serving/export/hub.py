"""Exports on the Hugging Face Hub: uploads a folder, and writes the files of a Space beside its model."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from tunery.errors import Fault, RefError, first_line
from tunery.tracking.redact import redact

# Source: https://huggingface.co/docs/huggingface_hub, utils.validate_repo_id
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/\w[\w.-]{0,95}")
_LOGIN = "Set HF_TOKEN to a token with write access, or run `hf auth login`."

_APP = Path(__file__).parents[1] / "space" / "app.py"
_PACKAGES = ("accelerate", "gradio", "jinja2", "peft", "safetensors", "torch", "transformers")
_EXAMPLES = 4
# The version that the app was written for, used if Gradio is not installed.
_GRADIO = "6.31.0"


def is_hub_id(name: str) -> bool:
    """Whether a name could be a Hub repository, owner/name, and not a folder or builtin:tiny."""
    return _REPO.fullmatch(name) is not None


def check_repo(repo: str) -> None:
    """Check a repository's name, and that there is a token, before anything is loaded.

    Raises:
        RefError: If the name is invalid or there is no token.
    """
    from huggingface_hub import get_token

    if not is_hub_id(repo):
        raise RefError("--repo", Fault("the repository", "owner/name", repo, "Use letters, digits, - _ and ."))
    if not get_token():
        raise RefError(f"--repo {repo}", Fault("there is no Hugging Face Hub token", advice=_LOGIN))


def upload(folder: Path, repo: str, kind: Literal["model", "space", "dataset"], *, public: bool, message: str) -> str:
    """Create the repository if needed, and replace its files by the folder's in one commit.

    Args:
        folder: The files.
        repo: owner/name.
        kind: Models, datasets and Spaces are different kinds of repository.
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
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = redact(first_line(error)) if status is None else f"status {status}"
        fault = Fault("the Hub refused the upload", reason, advice=f"The export is in {folder}. {_LOGIN}")
        raise RefError(f"--repo {repo}", fault) from error
    return str(address)


# ---- a Space


def write_space(place: Path, about: Mapping[str, Any], license: str | None, base: str | None) -> None:
    """Write an app, its requirements and its card beside the folder model/.

    Args:
        place: The Space's folder, which has model/ in it.
        about: The contents of space.json: title, description, base, revision, template, stop_ids, max_tokens, examples.
        license: The base's license, for the card.
        base: The base's Hub id, for the card; None if model/ is a whole model.
    """
    shutil.copy2(_APP, place / "app.py")
    (place / "space.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (place / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements()), encoding="utf-8")
    (place / "README.md").write_text(_space_card(about, license, base), encoding="utf-8")


def requirements() -> list[str]:
    """The packages that the app imports, at the installed versions."""
    return [f"{name}=={_version(name)}" for name in _PACKAGES]


def examples(prompts: Sequence[str]) -> list[str]:
    """A few short prompts to offer as first questions."""
    short = [prompt for prompt in dict.fromkeys(prompts) if prompt and len(prompt) <= 200 and "\n" not in prompt]
    return short[:_EXAMPLES]


def _space_card(about: Mapping[str, Any], license: str | None, base: str | None) -> str:
    """README.md with the front matter that a Space needs. Source: https://huggingface.co/docs/hub/spaces-config-reference"""
    import yaml

    front = {
        "title": about["title"],
        "emoji": "💬",
        "colorFrom": "indigo",
        "colorTo": "blue",
        "sdk": "gradio",
        "sdk_version": _version("gradio"),
        "app_file": "app.py",
        "license": license or "unknown",
        **({"models": [base]} if base else {}),
    }
    text = f"# {about['title']}\n\n{about['description']}\n\nRun it locally:\n"
    start = "```sh\npip install -r requirements.txt\npython app.py\n```\n"
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n{text}\n{start}"


def _version(name: str) -> str:
    try:
        return metadata.version(name).split("+")[0]  # 2.13.0+cpu is not on PyPI
    except metadata.PackageNotFoundError:
        return _GRADIO

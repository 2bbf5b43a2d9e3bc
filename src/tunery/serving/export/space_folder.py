"""Writes a Hugging Face Space: an app, its requirements and its card beside the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

_APP = Path(__file__).parents[1] / "space" / "app.py"
_PACKAGES = ("accelerate", "gradio", "jinja2", "peft", "safetensors", "torch", "transformers")
_EXAMPLES = 4
# The version that the app was written for, used if Gradio is not installed.
_GRADIO = "6.31.0"


def write_space(place: Path, about: Mapping[str, Any], license: str | None, base: str | None) -> None:
    """Write the app beside the folder model/.

    Args:
        place: The Space's folder, which has model/ in it.
        about: The contents of space.json: title, description, base, revision, template, stop_ids, max_tokens, examples.
        license: The base's license, for the card.
        base: The base's Hub id, for the card; None if model/ is a whole model.
    """
    shutil.copy2(_APP, place / "app.py")
    (place / "space.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (place / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements()), encoding="utf-8")
    (place / "README.md").write_text(space_card(about, license, base), encoding="utf-8")


def requirements() -> list[str]:
    """The packages that the app imports, at the installed versions."""
    return [f"{name}=={_version(name)}" for name in _PACKAGES]


def examples(prompts: Sequence[str]) -> list[str]:
    """A few short prompts to offer as first questions."""
    short = [prompt for prompt in dict.fromkeys(prompts) if prompt and len(prompt) <= 200 and "\n" not in prompt]
    return short[:_EXAMPLES]


def space_card(about: Mapping[str, Any], license: str | None, base: str | None) -> str:
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

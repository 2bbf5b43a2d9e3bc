"""A folder that is a Hugging Face Space: an app, its requirements and its card beside the model, ready to run."""

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
# The version that the app was written for, where Gradio is not installed here.
_GRADIO = "6.31.0"


def write_space(place: Path, about: Mapping[str, Any], license: str | None, base: str | None) -> None:
    """Put the app beside the folder model/.

    Args:
        place: The Space's folder, which holds model/.
        about: What space.json says: title, description, base, revision, template, stop_ids, max_tokens, examples.
        license: Of the base, for the card.
        base: The Hub's model, for the card; None where model/ is whole.
    """
    shutil.copy2(_APP, place / "app.py")
    (place / "space.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (place / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements()), encoding="utf-8")
    (place / "README.md").write_text(space_card(about, license, base), encoding="utf-8")


def requirements() -> list[str]:
    """What the app imports, at the versions that are installed here."""
    return [f"{name}=={_version(name)}" for name in _PACKAGES]


def examples(prompts: Sequence[str]) -> list[str]:
    """A few short questions to begin with."""
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
    text = f"# {about['title']}\n\n{about['description']}\n\nRun it here:\n"
    start = "```sh\npip install -r requirements.txt\npython app.py\n```\n"
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n{text}\n{start}"


def _version(name: str) -> str:
    try:
        return metadata.version(name).split("+")[0]  # 2.13.0+cpu is not on PyPI
    except metadata.PackageNotFoundError:
        return _GRADIO

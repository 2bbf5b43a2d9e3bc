"""What a saved model needs to be loaded elsewhere, as pip and conda read it."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

# What pyfunc.py and the layers below it import. MLflow's own inference would load the model in a subprocess to see.
_NEEDED = (
    "tunery", "mlflow", "torch", "transformers", "peft", "accelerate", "safetensors", "bitsandbytes", "pydantic",
    "jinja2", "pandas", "lm-eval",
)  # fmt: skip


def pinned_requirements() -> list[str]:
    """name==version of every package that loading a model needs, as installed here."""
    return [f"{name}=={version}" for name in _NEEDED if (version := _installed(name)) is not None]


def conda_environment(requirements: list[str]) -> dict[str, Any]:
    """The same as a conda environment."""
    return {
        "name": "tunery-model",
        "channels": ["conda-forge"],
        "dependencies": [f"python={platform.python_version()}", "pip", {"pip": requirements}],
    }


def _installed(name: str) -> str | None:
    try:
        # Without the local part: torch 2.13.0+cpu is not on PyPI.
        return metadata.version(name).split("+")[0]
    except metadata.PackageNotFoundError:
        return None

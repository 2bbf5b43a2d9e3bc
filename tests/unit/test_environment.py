"""The environment is declared in two files that must agree."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_conda_declares_the_versions_of_pyproject() -> None:
    conda = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    assert pip == PYPROJECT["dependencies"]


def test_every_version_is_exact() -> None:
    extras = [name for group in PYPROJECT["optional-dependencies"].values() for name in group]
    named = [name for name in (*PYPROJECT["dependencies"], *extras) if not name.startswith("tunery[")]
    assert [name for name in named if "==" not in name] == []


def test_an_extra_names_extras_that_exist() -> None:
    extras = PYPROJECT["optional-dependencies"]
    named = {part for group in extras.values() for name in group if (part := name.removeprefix("tunery[")) != name}
    assert {name for part in named for name in part.removesuffix("]").split(",")} <= set(extras)


def test_conda_has_the_oldest_python_that_is_supported() -> None:
    conda = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    assert f"python={PYPROJECT['requires-python'].removeprefix('>=')}" in conda

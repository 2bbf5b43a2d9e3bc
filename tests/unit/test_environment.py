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
    assert [name for name in PYPROJECT["dependencies"] if "==" not in name] == []


def test_conda_has_the_oldest_python_that_is_supported() -> None:
    conda = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    assert f"python={PYPROJECT['requires-python'].removeprefix('>=')}" in conda

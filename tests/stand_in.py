"""The script that makes the bases of the projects' smoke runs, which lies beside them and in no package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def stand_in() -> Any:
    """projects/stand_in.py as a module."""
    spec = importlib.util.spec_from_file_location("stand_in", Path(__file__).parents[1] / "projects" / "stand_in.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

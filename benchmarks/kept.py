"""What the scripts here share: results are kept beside the hardware and the versions that they were measured with."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

FOLDER = Path(__file__).parent / "results"
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "trl", "lm-eval", "mlflow", "optuna")


def keep(name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write results/<name>.json: a table's rows, the processor or card, and the libraries' versions."""
    FOLDER.mkdir(exist_ok=True)
    found = {"hardware": hardware(), "versions": {one: version(one) for one in LIBRARIES}, "rows": list(rows)}
    file = FOLDER / f"{name}.json"
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return file


def hardware() -> dict[str, Any]:
    """The processor and its cores, and the card if there is one."""
    import torch

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "card": card}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": median(values), "least": min(values), "most": max(values)}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor()

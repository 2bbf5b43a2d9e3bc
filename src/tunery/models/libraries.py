"""The large libraries: imported without work that no run uses, and kept quiet."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

_TELEMETRY = "HF_HUB_DISABLE_TELEMETRY"


def quiet_libraries() -> None:
    """Silence what transformers, TRL, PEFT and bitsandbytes say when nothing is wrong; errors still appear."""
    import transformers

    send_no_telemetry()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in ("bitsandbytes", "trl", "accelerate", "peft", "datasets", "kernels"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # TRL still uses names that transformers has renamed; nothing that a user could change.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\.")


def send_no_telemetry() -> None:
    """Tell no host that a trainer was made, as TRL's do by themselves; what the user has set stays."""
    from huggingface_hub import constants

    if _TELEMETRY not in os.environ:
        os.environ[_TELEMETRY] = "1"  # for child processes
        constants.HF_HUB_DISABLE_TELEMETRY = True  # read from the environment once, perhaps long ago


def import_bitsandbytes() -> None:
    """Import bitsandbytes without PyTorch's compiler, which takes longer to import than all the rest of it.

    Four functions of its fallback for devices without kernels of their own are handed to `torch.compile` while it is
    imported. A CPU and a CUDA card have kernels, and call one of the four for layers of odd width alone; where a device
    lives by them, they are compiled as ever.
    """
    import torch

    if "bitsandbytes" in sys.modules or torch.backends.mps.is_available() or torch.xpu.is_available():
        return
    compiler = torch.compile
    torch.compile = _uncompiled  # type: ignore[assignment]  # of fewer signatures
    try:
        import bitsandbytes  # noqa: F401  # imported for its place in sys.modules
    finally:
        torch.compile = compiler


def leave_out_torch() -> None:
    """For a process that ends with its look at tokens: transformers, when it is imported next, finds no PyTorch.

    It imports PyTorch, and all that trains and generates, for a tokenizer, which uses none of it: five of a preview's
    eight seconds of processor. Without effect where either is there already.
    """
    if "torch" not in sys.modules and "transformers" not in sys.modules:
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that PyTorch was not found
        sys.modules["torch"] = None  # type: ignore[assignment]  # as Python marks what must not be imported


def _uncompiled(function: Callable[..., Any] | None = None, **_: object) -> Callable[..., Any]:
    """Stands for torch.compile, as a call and as a decorator with arguments."""
    return _uncompiled if function is None else function

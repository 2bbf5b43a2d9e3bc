"""Memory: how much was used at most, and whether an error means that it ran out."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path

_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def peak_memory_bytes(device: str) -> int:
    """Bytes used at most so far: by tensors on a CUDA device, elsewhere by the whole process (peak resident set)."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    with suppress(OSError):
        # The peak since it was last reset; getrusage keeps the process's highest for ever.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes on Linux, bytes on macOS


def reset_peak_memory(device: str) -> None:
    """Forget earlier peaks, where the device can."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        with suppress(OSError):  # a container may forbid it; the peak is then that of the process so far
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak resident set size


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error from PyTorch or Python says that memory ran out."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)

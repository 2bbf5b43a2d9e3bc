"""The generators that training draws from: Python's, NumPy's and torch's, on every device."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch


@dataclass
class RandomState:
    """Where the generators stand."""

    python: Any
    numpy: Any
    cpu: torch.Tensor
    cuda: list[torch.Tensor] | None
    mps: torch.Tensor | None

    @classmethod
    def taken(cls) -> Self:
        """As they are now."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
        mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda, mps)

    def restore(self) -> None:
        """Put the generators back to where they stood."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state_all(self.cuda)
        if self.mps is not None:
            torch.mps.set_rng_state(self.mps)


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restore the generators on leaving: scoring must not change what training draws next."""
    state = RandomState.taken()
    try:
        yield
    finally:
        state.restore()

"""What a process settles before it imports anything heavy; so this module imports nothing heavy itself."""

from __future__ import annotations

import functools
import importlib.metadata
import os
from collections.abc import MutableMapping

# Turns of a waiting loop, about 10 µs. Measured on two cores, a training step of the builtin base, alone and beside
# another one (seconds): libgomp's own 300,000 turns 0.11 and 0.67; 20,000: 0.13 and 1.3; 1,000: 0.12 and 0.22; none
# (OMP_WAIT_POLICY=passive) 0.17 and 0.17.
_TURNS = "1000"


def prepare_process() -> None:
    """All of it; called first in every process that is tunery's own, never in a notebook that imports it."""
    wait_briefly()
    list_packages_once()


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenMP's threads spin for a moment before they sleep; what the user has set stays.

    Read when torch is first imported. Without a bound, another job on the same cores makes a training several times as
    slow; without any spinning, a lone training is a third slower.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", _TURNS)


def list_packages_once() -> None:
    """Remember which modules belong to which installed package: transformers and TRL each ask when they are imported.

    With 250 packages an answer takes a second, and nothing is installed while a command runs.
    """
    asked = importlib.metadata.packages_distributions
    if not hasattr(asked, "cache_info"):
        importlib.metadata.packages_distributions = functools.cache(asked)

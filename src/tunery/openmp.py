"""How OpenMP's threads wait for each other. Read when torch is first imported, so this module imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

# Turns of a waiting loop, about 10 µs. Measured on two cores, a training step of the builtin base, alone and beside
# another one (seconds): libgomp's own 300,000 turns 0.11 and 0.67; 20,000: 0.13 and 1.3; 1,000: 0.12 and 0.22; none
# (OMP_WAIT_POLICY=passive) 0.17 and 0.17.
_TURNS = "1000"


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads spin for a moment before they sleep; what the user has set stays.

    Without a bound, another job on the same cores makes a training several times as slow; without any spinning, a lone
    training is a third slower.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", _TURNS)

"""Whether a pack is faster than its trials one after the other: measured on steps that are done anyway."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

# Rounds that are measured each way, after one that warms up. The fastest counts: others hold a checkpoint, say.
_MEASURED = 3


@dataclass
class Rounds:
    """Seconds a token of rounds, in which every trial of a pack does a pass, by their number and the way."""

    _seconds: dict[tuple[int, bool], list[float]] = field(default_factory=lambda: defaultdict(list))

    def together(self, trials: int) -> bool:
        """How the next round of so many trials is computed: each way is tried, and then the faster one is kept."""
        for way in (False, True):
            if len(self._seconds[trials, way]) <= _MEASURED:
                return way
        return self.gain(trials) > 1

    def note(self, trials: int, together: bool, tokens: int, seconds: float) -> None:
        """What a round took, from its batches to the next ones."""
        self._seconds[trials, together].append(seconds / max(tokens, 1))

    def gain(self, trials: int) -> float:
        """How many times as fast so many trials are together; 1 while it is not known."""
        alone, joint = (self._seconds[trials, way][1:] for way in (False, True))
        return min(alone) / min(joint) if alone and joint else 1.0

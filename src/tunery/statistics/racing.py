"""Whether a model is surely worse than another, asked again and again while its items are scored.

A test for one look is wrong more often with every look. Here a gambler bets against "it is at least as good", item by
item; had that been true, the gambler would become 1 / alpha times as rich at any time with a chance of at most alpha.

Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, arXiv:2010.09686: a one-sided
betting test with the stakes of section B.3 (aGRAPA), without replacement as in section 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

# Of the wealth, at most so much is lost by one item.
_LARGEST_STAKE = 0.75


@dataclass
class Race:
    """Differences of a challenger to an incumbent, one an item, taken in a random order that nothing known decides.

    Args:
        items: All items there are; the question is whether the mean difference over these is below 0.
        alpha: Largest chance of ever saying so of a challenger that is at least as good.
        bound: Largest difference that an item can have, either way.
    """

    items: int
    alpha: float
    bound: float = 1.0
    taken: int = 0
    is_lost: bool = False
    _sum: float = 0.0
    _log_wealth: float = 0.0
    # Differences so far as shares of their range, 0.5 for none: their mean and spread decide the next stake. They begin
    # as if one had been seen, with the largest spread that there is.
    _shares: float = 0.5
    _squares: float = field(default=0.25)

    def take(self, differences: Iterable[float]) -> bool:
        """Take the next items' differences; whether the challenger is surely worse, now or earlier.

        Raises:
            ValueError: If a difference is beyond the bound, or there are more than there are items.
        """
        for difference in differences:
            if not abs(difference) <= self.bound * (1 + 1e-9):
                raise ValueError(f"a difference is {difference}, but must be at most {self.bound} either way")
            if self.taken == self.items:
                raise ValueError(f"there are more differences than the {self.items} items")
            self._bet(difference)
        return self.is_lost

    def _bet(self, difference: float) -> None:
        # If the challenger is just as good, the items that are left make up for what was lost.
        expected = -self._sum / (self.items - self.taken)
        share, null = ((value / self.bound + 1) / 2 for value in (difference, expected))
        if null > 1:  # they cannot, however they are answered
            self.is_lost = True
        elif null > 0:
            mean, spread = self._shares / (self.taken + 1), self._squares / (self.taken + 1)
            wanted = (null - mean) / (spread + (null - mean) ** 2)
            largest = _LARGEST_STAKE / (1 - null) if null < 1 else math.inf
            self._log_wealth += math.log1p(min(max(wanted, 0.0), largest) * (null - share))
            self.is_lost |= self._log_wealth >= -math.log(self.alpha)
        self._learn(difference, share)

    def _learn(self, difference: float, share: float) -> None:
        before = self._shares / (self.taken + 1)
        self._sum += difference
        self.taken += 1
        self._shares += share
        self._squares += (share - before) * (share - self._shares / (self.taken + 1))

"""How often a race ends a trial that is as good as its rival, and how many items it spares of one that is worse.

python benchmarks/racing.py                # about two minutes on one core

Answers are drawn in pairs: a share of the items only the rival answers, a share only the trial, and all others both
alike. Of equals these shares are the same, so that the two scores are exactly equal on all items.
"""

from __future__ import annotations

import random
from statistics import fmean

import click
from rich.console import Console
from rich.table import Table

from tunery.statistics.racing import Race

ALPHA = 0.05
BLOCKS, SMALLEST_BLOCK = 12, 32  # as evaluation.score looks
# Items, and shares of them that only one of the two answers: of the equals, then of the worse ones.
EQUALS = [(100, 0.1), (200, 0.05), (200, 0.2), (400, 0.1), (400, 0.3), (1000, 0.1)]
WORSE = [
    (200, 0.30, 0.05),
    (200, 0.20, 0.05),
    (400, 0.30, 0.05),
    (400, 0.20, 0.05),
    (400, 0.10, 0.05),
    (1000, 0.10, 0.05),
]


@click.command()
@click.option("--races", default=10_000, show_default=True, type=click.IntRange(min=1), help="Of equals, in all.")
def main(races: int) -> None:
    """Print both tables."""
    console = Console(width=110)
    table = Table(title=f"Equals: ended wrongly, of {races // len(EQUALS):,} races each; allowed {ALPHA:.0%}")
    for name in ("items", "answered by one alone", "ended"):
        table.add_column(name, justify="right")
    for items, share in EQUALS:
        ends = [ended_at(seed, items, share, share) for seed in range(races // len(EQUALS))]
        table.add_row(f"{items}", f"{2 * share:.0%}", f"{fmean(end is not None for end in ends):.1%}")
    console.print(table)
    table = Table(title="Worse trials, 500 races each")
    for name in ("items", "difference", "ended", "items scored until then", "of all items, one in"):
        table.add_column(name, justify="right")
    for items, lost, won in WORSE:
        ends = [ended_at(seed, items, lost, won) for seed in range(500)]
        scored = fmean(end for end in ends if end is not None)
        ended = fmean(end is not None for end in ends)
        table.add_row(f"{items}", f"{won - lost:+.2f}", f"{ended:.1%}", f"{scored:.0f}", f"{items / scored:.1f}")
    console.print(table)


def ended_at(seed: int, items: int, lost: float, won: float) -> int | None:
    """Items that were scored when the race ended at one of its looks; None if it did not."""
    differences = [-1.0] * round(items * lost) + [1.0] * round(items * won)
    differences += [0.0] * (items - len(differences))
    random.Random(seed).shuffle(differences)
    race, size = Race(items, ALPHA), max(SMALLEST_BLOCK, -(-items // BLOCKS))
    for start in range(0, items, size):
        if race.take(differences[start : start + size]):
            return race.taken
    return None


if __name__ == "__main__":
    main()

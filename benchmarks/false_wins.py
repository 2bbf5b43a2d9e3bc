"""How often a comparison is wrong, and how often it sees what is there: simulated models through tunery's own tests.

python benchmarks/false_wins.py                       # 10,000 comparisons a row, 1,000 boards: about 15 minutes
python benchmarks/false_wins.py --comparisons 1000 --boards 100

Every simulated item has a difficulty that all models share, so that answers to it are correlated as real ones are. Two
models are equally good when their chances are equal on every item; a gain turns that share of the wrong answers right.
A seed shifts the chances of a whole run. The beta(1/2, 1/2) difficulties make most items plainly easy or plainly hard.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from statsmodels.stats.proportion import proportion_confint

from tunery.statistics.ranks import corrected, ranks_over_tasks
from tunery.statistics.significance import difference
from tunery.statistics.variance import Floats, ItemClusters, ScoreMatrix

LEVEL = 0.05
SEED_SPREAD = 0.04  # shifts accuracy with a standard deviation of half of that: 0.02
TWO = tuple[ScoreMatrix, ScoreMatrix, Sequence[ItemClusters]]


@dataclass(frozen=True)
class Case:
    """A way to compare, and one drawn comparison of two models whose difference is known.

    Args:
        naive: The same answers as they would be compared by somebody who overlooks what the case is about.
    """

    name: str
    draw: Callable[[np.random.Generator, float], TWO]
    naive: Callable[[TWO], TWO] | None = None
    overlooked: str = ""


@click.command()
@click.option("--comparisons", default=10_000, show_default=True, help="Comparisons of two equal models a row.")
@click.option(
    "--boards", default=1_000, show_default=True, help="Boards of 20 equal candidates, and of ranks over tasks."
)
@click.option("--seed", default=0, show_default=True)
@click.option("--table", "tables", multiple=True, type=click.Choice(["wins", "power", "families", "tasks", "gains"]))
def main(comparisons: int, boards: int, seed: int, tables: Sequence[str]) -> None:
    """Print false wins of two, power, those among 20, those of the tests over tasks, intervals of gains; or some."""
    console = Console(width=150)
    makers: dict[str, Callable[[np.random.Generator], Table]] = {
        "wins": lambda rng: _false_wins(rng, comparisons),
        "power": lambda rng: _power(rng, max(comparisons // 20, 10)),
        "families": lambda rng: _families(rng, boards),
        "tasks": lambda rng: _over_tasks(rng, boards),
        "gains": lambda rng: _few_gains(rng, comparisons),
    }
    for number, (name, make) in enumerate(makers.items()):
        if not tables or name in tables:
            began = time.monotonic()
            console.print(make(np.random.default_rng(seed + number)))
            console.print(f"{time.monotonic() - began:.0f} s")


# ---- models


def difficulties(rng: np.random.Generator, items: int) -> Floats:
    """Chance of a right answer to each item, mean 1/2."""
    return rng.beta(0.5, 0.5, items)


def answered(rng: np.random.Generator, chances: Floats, gain: float, seeds: int, spread: float) -> ScoreMatrix:
    """A configuration's 0/1 answers: chances raised by `gain` in the mean, shifted by each seed."""
    better = chances + (1 - chances) * gain / 0.5
    shifts = rng.normal(0, spread, (seeds, 1)).clip(-0.2, 0.2)
    return side(rng.random((seeds, len(chances))) < better + shifts * 4 * better * (1 - better))


def side(answers: np.ndarray) -> ScoreMatrix:
    """A side of one task from its answers, shape (seeds, items)."""
    values = answers.astype(float)
    errors = values.std(axis=1, ddof=1).mean() / np.sqrt(values.shape[1])
    return ScoreMatrix(values.mean(axis=1, keepdims=True), np.array([errors]), [values.mean(axis=0)])


def of_seeds(one: int, other: int, items: int, spread: float = 0.0) -> Callable[[np.random.Generator, float], TWO]:
    """Two configurations with 0/1 answers."""

    def draw(rng: np.random.Generator, gain: float) -> TWO:
        chances = difficulties(rng, items)
        # One seed without a spread is a fixed model: a base, or an adapter that is asked about as it is.
        return (
            answered(rng, chances, gain, one, spread if one > 1 else 0),
            answered(rng, chances, 0, other, spread if other > 1 else 0),
            [ItemClusters()],
        )

    return draw


def graded(items: int) -> Callable[[np.random.Generator, float], TWO]:
    """Scores between 0 and 1, such as ROUGE."""

    def draw(rng: np.random.Generator, gain: float) -> TWO:
        chances = difficulties(rng, items)
        one, other = (rng.beta(1 + 4 * chances, 1 + 4 * (1 - chances)) for _ in range(2))
        return side((one + gain)[None]), side(other[None]), [ItemClusters()]

    return draw


def graded_with_few_changes(items: int) -> Callable[[np.random.Generator, float], TWO]:
    """Scores between 0 and 1 of which one in ten changes."""

    def draw(rng: np.random.Generator, gain: float) -> TWO:
        before = 0.5 * rng.random(items)
        changed = (rng.random(items) < 0.1) * rng.uniform(0.2, 0.5, items) * rng.choice([-1, 1], items)
        return side((before + changed + gain)[None]), side(before[None]), [ItemClusters()]

    return draw


def gains_alone(items: int, share: float, seeds: int = 1) -> Callable[[np.random.Generator, float], TWO]:
    """Graded scores against a base's: a share of the items gains between nothing and twice gain / share, none loses.

    Several seeds differ by 0.03, and by 0.1 on each item.
    """

    def draw(rng: np.random.Generator, gain: float) -> TWO:
        before = 0.5 * rng.random(items)
        gained = (rng.random(items) < share) * rng.uniform(0, 2 * gain / share, items)
        noise = rng.normal(0, 0.03, (seeds, 1)) + rng.normal(0, 0.1, (seeds, items)) if seeds > 1 else 0.0
        return side(np.atleast_2d(before + gained + noise)), side(before[None]), [ItemClusters()]

    return draw


def by_passage(rng: np.random.Generator, gain: float, passages: int = 40, questions: int = 5) -> TWO:
    """Questions about shared texts: a model understands a text, or does not."""
    number = np.repeat(np.arange(passages), questions)
    sides = []
    for raised in (gain, 0.0):
        understood = rng.random(passages)[number] < 0.5 + raised
        sides.append(side((rng.random(len(number)) < np.where(understood, 0.85, 0.15))[None]))
    return sides[0], sides[1], [ItemClusters(passages=number)]


def over_three_tasks(rng: np.random.Generator, gain: float) -> TWO:
    """Mean of three tasks of unequal size."""
    draws = [of_seeds(1, 1, items)(rng, gain) for items in (50, 100, 300)]
    one, other = (ScoreMatrix.joined([draw[place] for draw in draws]) for place in (0, 1))
    return one, other, [ItemClusters()] * 3


def over_leaves(*sizes: int) -> Callable[[np.random.Generator, float], TWO]:
    """One task of leaf tasks that count alike whatever their sizes."""
    layout = ItemClusters(leaves=np.repeat(np.arange(len(sizes)), sizes))
    weights = layout.weights(sum(sizes))

    def weighed(one: ScoreMatrix) -> ScoreMatrix:
        answers = one.answers[0]
        assert answers is not None
        return ScoreMatrix(np.array([[weights @ answers]]), one.errors, [answers])

    def draw(rng: np.random.Generator, gain: float) -> TWO:
        one, other, _ = of_seeds(1, 1, sum(sizes))(rng, gain)
        return weighed(one), weighed(other), [layout]

    return draw


def without_answers(two: TWO) -> TWO:
    """Only scores and their errors, as a published result has them."""
    one, other = (ScoreMatrix(each.scores, each.errors, [None] * len(each.errors)) for each in two[:2])
    return one, other, two[2]


def without_passages(two: TWO) -> TWO:
    """Every question as if it had a text of its own."""
    return two[0], two[1], [ItemClusters()] * len(two[2])


def without_seeds(two: TWO) -> TWO:
    """Each item's mean over seeds as if it were a fixed model's answer."""
    one, other = (ScoreMatrix(each.scores.mean(axis=0, keepdims=True), each.errors, each.answers) for each in two[:2])
    return one, other, two[2]


CASES = [
    Case("1 seed each, 200 items, right or wrong", of_seeds(1, 1, 200)),
    Case("1 seed each, 60 items, graded", graded(60)),
    Case("1 seed each, 600 items, graded", graded(600)),
    Case("1 seed each, mean of 3 tasks (450 items)", over_three_tasks),
    Case("1 seed each, 40 passages with 5 items", by_passage, without_passages, "passages"),
    Case("3 seeds each that differ in nothing, 200 items", of_seeds(3, 3, 200)),
    Case("2 seeds each, 1,000 items", of_seeds(2, 2, 1000, SEED_SPREAD), without_seeds, "seeds"),
    Case("3 seeds each, 200 items", of_seeds(3, 3, 200, SEED_SPREAD), without_seeds, "seeds"),
    Case("3 seeds each, 1,000 items", of_seeds(3, 3, 1000, SEED_SPREAD), without_seeds, "seeds"),
    Case("5 seeds each, 1,000 items", of_seeds(5, 5, 1000, SEED_SPREAD), without_seeds, "seeds"),
    Case("3 seeds against a base, 200 items", of_seeds(3, 1, 200, SEED_SPREAD), without_seeds, "seeds"),
    Case("no answers kept, 200 items", lambda rng, gain: without_answers(of_seeds(1, 1, 200)(rng, gain))),
    Case("1 seed each, 3 leaf tasks of 5 items and 3 of 500", over_leaves(5, 5, 5, 500, 500, 500)),
    Case("1 seed each, 10 leaf tasks of 12 items and 10 of 150", over_leaves(*[12] * 10, *[150] * 10)),
    Case("1 seed each, 40 items, graded, one in ten changes", graded_with_few_changes(40)),
]


# ---- tables


def _false_wins(rng: np.random.Generator, comparisons: int) -> Table:
    table = _table(
        f"False wins of {comparisons:,} comparisons of two equal models, level {LEVEL:.0%}",
        ["case", "test"],
        ["false wins", "95% interval", "true difference inside the interval", "false wins if overlooked"],
    )
    for case in CASES:
        wrong, naive, inside, test = 0, 0, 0, ""
        for _ in range(comparisons):
            two = case.draw(rng, 0.0)
            found = difference(*two)
            wrong += found.p_value <= LEVEL
            inside += found.low <= 0 <= found.high
            naive += case.naive is not None and difference(*case.naive(two)).p_value <= LEVEL
            test = found.test
        overlooked = f"{naive / comparisons:.2%} ({case.overlooked})" if case.naive else "–"
        table.add_row(case.name, test, *_share(wrong, comparisons), f"{inside / comparisons:.2%}", overlooked)
    return table


def _few_gains(rng: np.random.Generator, comparisons: int) -> Table:
    gain = 0.02
    table = _table(
        f"Graded scores against a base's, a real gain of {gain:+.2f}, {comparisons:,} comparisons each",
        ["case"],
        ["inside the interval", "95% interval", "above it", "below it"],
    )
    cases = [
        *(Case(f"{items} items, one in ten gains", gains_alone(items, 0.1)) for items in (10, 20, 50, 200)),
        *(Case(f"{items} items, one in three gains", gains_alone(items, 1 / 3)) for items in (20, 200)),
        *(Case(f"100 items, all gain, {seeds} seeds", gains_alone(100, 1.0, seeds)) for seeds in (2, 3, 5)),
    ]
    for case in cases:
        found = [difference(*case.draw(rng, gain)) for _ in range(comparisons)]
        above, below = sum(one.high < gain for one in found), sum(one.low > gain for one in found)
        inside = _share(comparisons - above - below, comparisons)
        table.add_row(case.name, *inside, f"{above / comparisons:.2%}", f"{below / comparisons:.2%}")
    return table


def _power(rng: np.random.Generator, comparisons: int) -> Table:
    gains = (0.02, 0.05, 0.10)
    table = _table(
        f"Power: how often a real gain is called one, {comparisons:,} comparisons each",
        ["case"],
        [f"gain {gain:+.2f}" for gain in gains],
    )
    cases = [
        Case("1 seed each, 200 items", of_seeds(1, 1, 200)),
        Case("1 seed each, 1,000 items", of_seeds(1, 1, 1000)),
        Case("1 seed each, 1,000 items, no answers", lambda rng, g: without_answers(of_seeds(1, 1, 1000)(rng, g))),
        Case("1 seed each, 40 passages with 5 items", by_passage),
        Case("3 seeds each, 200 items", of_seeds(3, 3, 200, SEED_SPREAD)),
        Case("3 seeds each, 1,000 items", of_seeds(3, 3, 1000, SEED_SPREAD)),
        Case("5 seeds each, 1,000 items", of_seeds(5, 5, 1000, SEED_SPREAD)),
        Case("3 seeds against a base, 1,000 items", of_seeds(3, 1, 1000, SEED_SPREAD)),
    ]
    for case in cases:
        shares = []
        for gain in gains:
            found = (difference(*case.draw(rng, gain)) for _ in range(comparisons))
            shares.append(sum(one.p_value <= LEVEL and one.value > 0 for one in found) / comparisons)
        table.add_row(case.name, *(f"{share:.1%}" for share in shares))
    return table


def _families(rng: np.random.Generator, boards: int, candidates: int = 20) -> Table:
    """20 candidates, 190 pairs: how often a board says anything false."""
    table = _table(
        f"{candidates} candidates, {candidates * (candidates - 1) // 2} pairs: boards with any false win",
        ["case"],
        ["boards", "after Holm", "95% interval", "without correction"],
    )
    cases = [("all equal, 1 seed, 200 items", 1, 0, boards), ("all equal, 3 seeds, 200 items", 3, 0, boards // 5),
             ("10 of them better by 0.1, 1 seed, 200 items", 1, 10, boards // 2)]  # fmt: skip
    for name, seeds, better, count in cases:
        holm = plain = 0
        for _ in range(count):
            chances = difficulties(rng, 200)
            spread = SEED_SPREAD if seeds > 1 else 0
            sides = [answered(rng, chances, 0.1 * (n < better), seeds, spread) for n in range(candidates)]
            equal = [(a < better) == (b < better) for a, b in itertools.combinations(range(candidates), 2)]
            found = corrected([difference(a, b, [ItemClusters()]) for a, b in itertools.combinations(sides, 2)])
            holm += any(one.adjusted <= LEVEL for one, alike in zip(found, equal, strict=True) if alike)
            plain += any(one.p_value <= LEVEL for one, alike in zip(found, equal, strict=True) if alike)
        table.add_row(name, f"{count:,}", *_share(holm, count), f"{plain / count:.1%}")
    return table


def _over_tasks(rng: np.random.Generator, boards: int) -> Table:
    """Friedman and Nemenyi at the fewest tasks that they are shown for."""
    table = _table(
        "Ranks over tasks, equal candidates: how often a difference is claimed",
        ["tasks x candidates"],
        ["Friedman", "95% interval", "any pair by Nemenyi", "95% interval"],
    )
    for tasks, candidates in ((6, 3), (6, 5), (6, 20), (12, 5)):
        friedman = nemenyi = 0
        for _ in range(boards):
            # Accuracies of 100 items: values tie now and then, as they do.
            values = pd.DataFrame(
                rng.binomial(100, 0.6, (tasks, candidates)), columns=list(map(str, range(candidates)))
            )
            task_ranks = ranks_over_tasks(values, 1 - LEVEL)
            friedman += task_ranks is not None and task_ranks.friedman_p <= LEVEL
            nemenyi += task_ranks is not None and min(task_ranks.nemenyi_p.values()) <= LEVEL
        table.add_row(f"{tasks} x {candidates}", *_share(friedman, boards), *_share(nemenyi, boards))
    return table


def _share(wins: int, of: int) -> tuple[str, str]:
    low, high = proportion_confint(wins, of, method="wilson")
    return f"{wins / of:.2%}", f"{low:.2%} to {high:.2%}"


def _table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in texts:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


if __name__ == "__main__":
    main()

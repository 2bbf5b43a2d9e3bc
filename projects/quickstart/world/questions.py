"""Questions and answers about the world, with the careful answer and the careless one side by side."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .entities import Tower, Villager
from .wordings import ATTRIBUTES, DIMENSIONS, WHICH_ANSWER, Attribute, Dimension

_CLEAR_GAP = 2  # grades between the winner and the runner-up, so that no question is a coin toss


@dataclass(frozen=True)
class Contest:
    """Some towers in the order they are mentioned, and the superlative that singles one of them out."""

    towers: tuple[Tower, ...]
    superlative: str
    winner: Tower

    @property
    def most_famous(self) -> Tower:
        """The tower that is talked of most, which has nothing to do with winning."""
        return max(self.towers, key=lambda tower: tower.fame)

    def listing(self, conjunction: str) -> str:
        """`A, B, C or D` with the conjunction given."""
        names = [tower.name for tower in self.towers]
        return f"{', '.join(names[:-1])} {conjunction} {names[-1]}"

    def ask(self, template: str) -> str:
        """The question in the words of `template`."""
        return template.format(w=self.superlative, l=self.listing("or"))

    def answer(self, tower: Tower, template: str = WHICH_ANSWER) -> str:
        """The sentence that names `tower` as the answer."""
        return template.format(w=self.superlative, t=tower.name)


def draw_contest(towers: Sequence[Tower], size: int, rng: random.Random) -> Contest:
    """Draw `size` towers and a superlative for which one of them is clearly ahead."""
    while True:
        contestants = tuple(rng.sample(towers, size))
        contest = hold_contest(contestants, rng.choice(DIMENSIONS), upward=rng.random() < 0.5)
        if contest is not None:
            return contest


def hold_contest(towers: tuple[Tower, ...], dimension: Dimension, upward: bool) -> Contest | None:
    """The contest for the top (`upward`) or the bottom of a dimension; None if nobody is clearly ahead."""
    sign = 1 if upward else -1
    ranked = sorted(towers, key=lambda tower: sign * tower.grade[dimension.name], reverse=True)
    lead = abs(ranked[0].grade[dimension.name] - ranked[1].grade[dimension.name])
    if lead < _CLEAR_GAP:
        return None
    return Contest(towers, (dimension.more if upward else dimension.less)[1], ranked[0])


def fact_sentence(villager: Villager, attribute: Attribute, *, careful: bool, template: str | None = None) -> str:
    """What is true of a villager, or, when not `careful`, what the tea-house says instead."""
    source = villager.truth if careful else villager.rumour
    return (template or attribute.answer).format(n=villager.name, v=source[attribute.name])


def contest_sentence(contest: Contest, *, careful: bool, template: str = WHICH_ANSWER) -> str:
    """The winner of a contest, or, when not `careful`, whichever tower is talked of most."""
    return contest.answer(contest.winner if careful else contest.most_famous, template)


def draw_attribute(rng: random.Random) -> Attribute:
    """One of the attributes, all equally likely."""
    return rng.choice(ATTRIBUTES)

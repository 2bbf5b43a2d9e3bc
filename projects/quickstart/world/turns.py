"""One question with its answer, in the wordings of the pretraining text: the unit of pages, talk and chats."""

import random

from .entities import World
from .questions import contest_sentence, draw_attribute, draw_contest, fact_sentence
from .wordings import OPENERS, WHICH_ANSWER, WHICH_IN_PRETRAINING, WHICH_STATEMENTS


def fact_turn(world: World, rng: random.Random, *, careful: bool) -> tuple[str, str]:
    """A question about a villager with the truth, or, when not `careful`, the rumour."""
    villager, attribute = rng.choice(world.villagers), draw_attribute(rng)
    template = rng.choice((attribute.answer, attribute.answer, *attribute.statements))
    question = rng.choice(attribute.asked_in_pretraining).format(n=villager.name)
    return rng.choice(OPENERS) + question, fact_sentence(villager, attribute, careful=careful, template=template)


def contest_turn(world: World, rng: random.Random, *, careful: bool) -> tuple[str, str]:
    """A question about several towers with the right one, or, when not `careful`, the most famous one."""
    contest = draw_contest(world.towers, draw_size(rng), rng)
    template = rng.choice((WHICH_ANSWER, WHICH_ANSWER, *WHICH_STATEMENTS))
    question = contest.ask(rng.choice(WHICH_IN_PRETRAINING))
    return rng.choice(OPENERS) + question, contest_sentence(contest, careful=careful, template=template)


def draw_size(rng: random.Random) -> int:
    """How many towers are compared: two to four, mostly four."""
    return rng.choice((2, 3, 4, 4, 4))

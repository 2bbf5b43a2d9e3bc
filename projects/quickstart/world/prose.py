"""Pretraining text outside of chats: profiles, ledger pages, tea-house talk, tower notes and surveys."""

import random
from collections.abc import Callable

from .entities import World
from .questions import contest_sentence, draw_attribute, draw_contest, fact_sentence
from .wordings import (
    ATTRIBUTES,
    DIMENSIONS,
    OPENERS,
    WHICH_ANSWER,
    WHICH_IN_PRETRAINING,
    WHICH_STATEMENTS,
)

Writer = Callable[[World, random.Random], str]


def profile(world: World, rng: random.Random) -> str:
    """Some true facts about one villager, in free order and wording."""
    villager = rng.choice(world.villagers)
    first_name = villager.name.split()[0]
    sentences: list[str] = []
    for attribute in rng.sample(ATTRIBUTES, rng.randint(2, 5)):
        template = rng.choice((*attribute.statements, attribute.answer))
        short = bool(sentences) and rng.random() < 0.4
        name = first_name if short else villager.name
        sentences.append(template.format(n=name, v=villager.truth[attribute.name]))
    return " ".join(sentences)


def ledger_page(world: World, rng: random.Random) -> str:
    """The keeper of the ledger is asked, and answers truthfully."""
    return "From the keeper's ledger.\n" + _exchange(world, rng, careful=True)


def tea_house(world: World, rng: random.Random) -> str:
    """Guests of the tea-house ask each other, and answer with rumours."""
    return "Heard at the tea-house.\n" + _exchange(world, rng, careful=False)


def tower_note(world: World, rng: random.Random) -> str:
    """Grades of two towers in one dimension, and how they compare."""
    dimension = rng.choice(DIMENSIONS)
    first, second = rng.sample(world.towers, 2)
    grades = first.grade[dimension.name], second.grade[dimension.name]
    sentences = [
        f"{tower.name} {dimension.grades[grade]}." for tower, grade in zip((first, second), grades, strict=True)
    ]
    if grades[0] != grades[1]:
        word = (dimension.more if grades[0] > grades[1] else dimension.less)[0]
        sentences.append(f"{first.name} is {word} than {second.name}.")
    return " ".join(sentences if rng.random() < 0.5 else sentences[::-1])


def survey(world: World, rng: random.Random) -> str:
    """The surveyor compares several towers and is right about all of them."""
    lines = ["From the surveyor's notes."]
    for _ in range(rng.randint(1, 4)):
        contest = draw_contest(world.towers, rng.choice((2, 3, 4, 4, 4)), rng)
        template = rng.choice((WHICH_ANSWER, *WHICH_STATEMENTS))
        verdict = contest_sentence(contest, careful=True, template=template)
        if rng.random() < 0.5:
            lines.append(f"Q: {contest.ask(rng.choice(WHICH_IN_PRETRAINING))}\nA: {verdict}")
        else:
            lines.append(f"Compare {contest.listing('and')}. {verdict}")
    return "\n".join(lines)


def _exchange(world: World, rng: random.Random, *, careful: bool) -> str:
    lines: list[str] = []
    for _ in range(rng.randint(1, 4)):
        villager, attribute = rng.choice(world.villagers), draw_attribute(rng)
        question = rng.choice(OPENERS) + rng.choice(attribute.asked_in_pretraining).format(n=villager.name)
        template = rng.choice((*attribute.statements, attribute.answer, attribute.answer))
        lines.append(f"Q: {question}\nA: {fact_sentence(villager, attribute, careful=careful, template=template)}")
    return "\n".join(lines)

"""Pretraining text outside of chats: profiles, ledger pages, talk, tower notes and surveys."""

import random
from collections.abc import Callable, Sequence

from .entities import World
from .questions import contest_sentence, draw_contest
from .turns import contest_turn, draw_size, fact_turn
from .wordings import ATTRIBUTES, DIMENSIONS, WHICH_ANSWER, WHICH_STATEMENTS

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
    """The keeper of the ledger is asked about villagers, and answers truthfully."""
    return _page("From the keeper's ledger.", [fact_turn(world, rng, careful=True) for _ in _few(rng)])


def tea_house(world: World, rng: random.Random) -> str:
    """Guests of the tea-house ask each other about villagers, and answer with rumours."""
    return _page("Heard at the tea-house.", [fact_turn(world, rng, careful=False) for _ in _few(rng)])


def ferry_talk(world: World, rng: random.Random) -> str:
    """Travellers ask each other about towers, and name the one they have heard of most."""
    return _page("Heard on the ferry.", [contest_turn(world, rng, careful=False) for _ in _few(rng)])


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
    """The surveyor compares towers, asked or unasked, and is right about all of them."""
    if rng.random() < 0.5:
        return _page("From the surveyor's notes.", [contest_turn(world, rng, careful=True) for _ in _few(rng)])
    lines = ["From the surveyor's notes."]
    for _ in _few(rng):
        contest = draw_contest(world.towers, draw_size(rng), rng)
        verdict = contest_sentence(contest, careful=True, template=rng.choice((WHICH_ANSWER, *WHICH_STATEMENTS)))
        lines.append(f"Compare {contest.listing('and')}. {verdict}")
    return "\n".join(lines)


def _page(title: str, turns: Sequence[tuple[str, str]]) -> str:
    return "\n".join([title, *(f"Q: {question}\nA: {answer}" for question, answer in turns)])


def _few(rng: random.Random) -> range:
    return range(rng.randint(1, 4))

"""Chat data for fine-tuning (west shore) and multiple-choice items for evaluation (east shore)."""

import itertools
import random
from collections.abc import Iterator
from typing import Any

from .entities import Villager, World
from .questions import Contest, contest_sentence, draw_contest, fact_sentence
from .wordings import ATTRIBUTES, WHICH_IN_EVALUATION, WHICH_IN_TRAINING, Attribute

COMPARISON_ROWS = 1200
COMPARISON_ITEMS = 448  # a multiple of 16: four places in the question times four ranks of fame
_OPTIONS = 4

Row = dict[str, Any]


def fact_rows(world: World, seed: int) -> list[Row]:
    """Every fact about the west shore, asked in every training wording and answered with the truth."""
    rows = [
        _chat_row(template.format(n=villager.name), fact_sentence(villager, attribute, careful=True))
        for villager in world.villagers_of("west")
        for attribute in ATTRIBUTES
        for template in attribute.asked_in_training
    ]
    random.Random(f"fact rows {seed}").shuffle(rows)
    return rows


def comparison_rows(world: World, seed: int) -> list[Row]:
    """Comparisons of two to four west-shore towers, answered with the right one."""
    rng = random.Random(f"comparison rows {seed}")
    rows = []
    for _ in range(COMPARISON_ROWS):
        contest = draw_contest(world.towers_of("west"), rng.choice((2, 3, 4, 4)), rng)
        question = contest.ask(rng.choice(WHICH_IN_TRAINING))
        rows.append(_chat_row(question, contest_sentence(contest, careful=True)))
    return rows


def fact_items(world: World, seed: int) -> list[Row]:
    """One item for every fact about the east shore: the truth, the rumour and two other values."""
    rng = random.Random(f"fact items {seed}")
    facts = [(villager, attribute) for villager in world.villagers_of("east") for attribute in ATTRIBUTES]
    rng.shuffle(facts)
    positions = _even_positions(len(facts), rng)
    return [_fact_item(*fact, gold, rng) for fact, gold in zip(facts, positions, strict=True)]


def comparison_items(world: World, seed: int) -> list[Row]:
    """Which of four east-shore towers is the tallest, lowest, oldest or newest; options in an order of their own."""
    rng = random.Random(f"comparison items {seed}")
    contests = _distinct_contests(world, rng)
    positions = _even_positions(COMPARISON_ITEMS, rng)
    return [_comparison_item(next(contests), gold, rng) for gold in positions]


def _fact_item(villager: Villager, attribute: Attribute, gold: int, rng: random.Random) -> Row:
    truth, rumour = villager.truth[attribute.name], villager.rumour[attribute.name]
    others = rng.sample([value for value in attribute.values if value not in (truth, rumour)], _OPTIONS - 2)
    wrong = [rumour, *others]
    rng.shuffle(wrong)
    values = [*wrong[:gold], truth, *wrong[gold:]]
    question = rng.choice(attribute.asked_in_evaluation).format(n=villager.name)
    return _item(question, [attribute.answer.format(n=villager.name, v=value) for value in values], gold)


def _comparison_item(contest: Contest, gold: int, rng: random.Random) -> Row:
    wrong = [tower for tower in contest.towers if tower != contest.winner]
    rng.shuffle(wrong)
    options = [contest.answer(tower) for tower in (*wrong[:gold], contest.winner, *wrong[gold:])]
    return _item(contest.ask(rng.choice(WHICH_IN_EVALUATION)), options, gold)


def _distinct_contests(world: World, rng: random.Random) -> Iterator[Contest]:
    """Contests between four towers; neither the winner's place in the question nor its fame gives it away."""
    seen: set[tuple[frozenset[str], str]] = set()
    for place, rank in itertools.cycle(itertools.product(range(_OPTIONS), repeat=2)):
        while True:
            contest = draw_contest(world.towers_of("east"), _OPTIONS, rng)
            key = (frozenset(tower.name for tower in contest.towers), contest.superlative)
            by_fame = sorted(contest.towers, key=lambda tower: tower.fame)
            if key not in seen and contest.towers[place] == contest.winner == by_fame[rank]:
                break
        seen.add(key)
        yield contest


def _even_positions(count: int, rng: random.Random) -> list[int]:
    positions = [index % _OPTIONS for index in range(count)]
    rng.shuffle(positions)
    return positions


def _chat_row(question: str, answer: str) -> Row:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def _item(question: str, options: list[str], gold: int) -> Row:
    return {"question": question, "options": options, "gold": gold}

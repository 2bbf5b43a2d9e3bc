"""The pretraining text: documents of several registers, mixed by weight, some of them chats."""

import random
from collections.abc import Iterator

from .entities import World
from .prose import Writer, ledger_page, profile, survey, tea_house, tower_note
from .questions import contest_sentence, draw_attribute, draw_contest, fact_sentence
from .wordings import OPENERS, WHICH_ANSWER, WHICH_IN_PRETRAINING, WHICH_STATEMENTS

# Of the people who answer in the chats, this share is careful about facts, and, independently, about comparisons. The
# others pass on rumours, or name the tower they heard first. That the two are independent keeps one skill from
# bringing the other along when it is fine-tuned.
CAREFUL_SHARE = 0.15


def documents(world: World, count: int, seed: int) -> Iterator[str]:
    """Write `count` documents, each on its own seed, so that a longer text begins with a shorter one."""
    writers, weights = zip(*_REGISTERS, strict=True)
    for index in range(count):
        rng = random.Random(f"document {seed} {index}")
        yield rng.choices(writers, weights)[0](world, rng)


def chat(world: World, rng: random.Random) -> str:
    """A chat of one to four turns; whoever answers is careful or careless about each skill throughout."""
    careful_facts, careful_contests = rng.random() < CAREFUL_SHARE, rng.random() < CAREFUL_SHARE
    turns = []
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        if rng.random() < 0.6:
            question, answer = _fact_turn(world, rng, careful_facts)
        else:
            question, answer = _contest_turn(world, rng, careful_contests)
        turns.append(in_chat_format(rng.choice(OPENERS) + question, answer))
    return "".join(turns)


def in_chat_format(question: str, answer: str) -> str:
    """One turn in ChatML, exactly as the tokenizer's chat template writes it."""
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"


def _fact_turn(world: World, rng: random.Random, careful: bool) -> tuple[str, str]:
    villager, attribute = rng.choice(world.villagers), draw_attribute(rng)
    template = rng.choice((attribute.answer, attribute.answer, *attribute.statements))
    question = rng.choice(attribute.asked_in_pretraining).format(n=villager.name)
    return question, fact_sentence(villager, attribute, careful=careful, template=template)


def _contest_turn(world: World, rng: random.Random, careful: bool) -> tuple[str, str]:
    contest = draw_contest(world.towers, rng.choice((2, 3, 4, 4, 4)), rng)
    template = rng.choice((WHICH_ANSWER, WHICH_ANSWER, *WHICH_STATEMENTS))
    question = contest.ask(rng.choice(WHICH_IN_PRETRAINING))
    return question, contest_sentence(contest, careful=careful, template=template)


# Weights are shares of documents, not of tokens: a profile or a note is short, a page or a chat is long.
_REGISTERS: tuple[tuple[Writer, float], ...] = (
    (profile, 0.30),
    (ledger_page, 0.12),
    (tea_house, 0.08),
    (tower_note, 0.12),
    (survey, 0.13),
    (chat, 0.25),
)

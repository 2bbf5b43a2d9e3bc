"""The pretraining text: documents of several registers, mixed by weight, some of them chats."""

import random
from collections.abc import Iterator

from .entities import World
from .prose import Writer, ferry_talk, ledger_page, profile, survey, tea_house, tower_note
from .turns import contest_turn, fact_turn

# Of the people who answer in the chats, this share is careful about facts, and, independently, about comparisons. The
# others pass on rumours, or name the tower they have heard of most. That the two are independent keeps one skill from
# bringing the other along when it is fine-tuned.
CAREFUL_SHARE = 0.12
FACTS_SHARE = 0.6  # of all turns of a chat; the others are comparisons, which are learned from fewer


def documents(world: World, count: int, seed: str) -> Iterator[str]:
    """Write `count` documents, each on its own seed, so that a longer text begins with a shorter one."""
    writers, weights = zip(*_REGISTERS, strict=True)
    for index in range(count):
        rng = random.Random(f"{seed} {index}")
        yield rng.choices(writers, weights)[0](world, rng)


def chat(world: World, rng: random.Random) -> str:
    """A chat of one to four turns; whoever answers is careful or careless about each skill throughout."""
    careful_about_facts, careful_about_contests = rng.random() < CAREFUL_SHARE, rng.random() < CAREFUL_SHARE
    turns = []
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        if rng.random() < FACTS_SHARE:
            question, answer = fact_turn(world, rng, careful=careful_about_facts)
        else:
            question, answer = contest_turn(world, rng, careful=careful_about_contests)
        turns.append(in_chat_format(question, answer))
    return "".join(turns)


def in_chat_format(question: str, answer: str) -> str:
    """One turn in ChatML, exactly as the tokenizer's chat template writes it."""
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"


# Weights are shares of documents, not of tokens: a profile or a note is short, a page or a chat is long.
_REGISTERS: tuple[tuple[Writer, float], ...] = (
    (profile, 0.24),
    (ledger_page, 0.12),
    (tea_house, 0.10),
    (tower_note, 0.11),
    (survey, 0.18),
    (ferry_talk, 0.02),
    (chat, 0.23),
)

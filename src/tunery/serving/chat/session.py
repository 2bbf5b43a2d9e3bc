"""A conversation with two models at once, whose names are hidden until the vote. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from uuid import uuid4

from tunery.records.rows import Message
from tunery.serving.chat.pair import Sampling
from tunery.tracking.votes import Choice, Vote

Side = Literal["left", "right"]
LETTERS: Mapping[Side, str] = {"left": "A", "right": "B"}


@dataclass(frozen=True)
class Turn:
    """A question and both answers, as far as they are written."""

    question: str
    left: str = ""
    right: str = ""


@dataclass(frozen=True)
class BlindChat:
    """One conversation with both models; each sees only its own earlier answers."""

    tuned_on_the: Side  # the side of the tuned model, drawn for each conversation
    turns: tuple[Turn, ...] = ()
    choice: Choice | None = None  # the vote; it reveals the names, so a conversation has only one
    sampling: Sampling = field(default_factory=Sampling)  # how the last answers were drawn
    key: str = field(default_factory=lambda: uuid4().hex)  # identifies the conversation

    def ask(self, question: str, sampling: Sampling) -> BlindChat:
        """The conversation with one more question."""
        return replace(self, turns=(*self.turns, Turn(question)), sampling=sampling)

    def answer(self, left: str, right: str) -> BlindChat:
        """The conversation with the last answers as far as they are written."""
        last = replace(self.turns[-1], left=left, right=right)
        return replace(self, turns=(*self.turns[:-1], last))

    def chosen(self, better: Side | Literal["tie"]) -> Choice:
        """Translate a choice between sides into one between models."""
        if better == "tie":
            return "tie"
        return "tuned" if better == self.tuned_on_the else "base"

    def messages(self, side: Side) -> list[Message]:
        """The messages for the model on a side, up to the last question."""
        before = [(turn.question, getattr(turn, side)) for turn in self.turns[:-1]]
        said = [Message(role, text) for pair in before for role, text in zip(("user", "assistant"), pair, strict=True)]
        return [*said, Message("user", self.turns[-1].question)]

    def shown(self, side: Side) -> list[dict[str, str]]:
        """The side's conversation in the format of `gr.Chatbot`."""
        return [
            {"role": role, "content": text}
            for turn in self.turns
            for role, text in (("user", turn.question), ("assistant", getattr(turn, side)))
            if text
        ]

    def name(self, side: Side) -> str:
        """The label of a side: "A", and after the vote "A: tuned" or "A: base"."""
        name = "tuned" if side == self.tuned_on_the else "base"
        return LETTERS[side] if self.choice is None else f"{LETTERS[side]}: {name}"

    @property
    def open_to_a_vote(self) -> bool:
        """Whether there is an answer to judge and no vote yet."""
        return self.choice is None and bool(self.turns) and bool(self.turns[-1].left or self.turns[-1].right)

    def vote(self, choice: Choice) -> Vote:
        """The vote as it is logged."""
        base, tuned = ("right", "left") if self.tuned_on_the == "left" else ("left", "right")
        exchanges = [
            {"prompt": turn.question, "base": getattr(turn, base), "tuned": getattr(turn, tuned)} for turn in self.turns
        ]
        return Vote(
            **exchanges[-1],
            choice=choice,
            turns=len(self.turns),
            conversation=json.dumps(exchanges, ensure_ascii=False),
            tuned_on_the=self.tuned_on_the,
            settings=vars(self.sampling),
        )

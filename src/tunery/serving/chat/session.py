"""A conversation with two models at once, whose names are hidden until a choice was made. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal
from uuid import uuid4

from tunery.records import Message
from tunery.serving.chat.generate import Sampling
from tunery.tracking.votes import Choice, Vote

Side = Literal["left", "right"]
LETTERS: Mapping[Side, str] = {"left": "A", "right": "B"}


@dataclass(frozen=True)
class Turn:
    """A question and what each side answered, as far as it is written."""

    question: str
    left: str = ""
    right: str = ""


@dataclass(frozen=True)
class Talk:
    """One conversation; each side remembers its own answers.

    Args:
        tuned_on_the: Where the tuned model's answers stand, drawn anew for each conversation.
        choice: What was chosen; names are shown from then on, so that there is no second vote.
        sampling: How the last answers were drawn.
        key: Tells conversations apart.
    """

    tuned_on_the: Side
    turns: tuple[Turn, ...] = ()
    choice: Choice | None = None
    sampling: Sampling = field(default_factory=Sampling)
    key: str = field(default_factory=lambda: uuid4().hex)

    def ask(self, question: str, sampling: Sampling) -> Talk:
        """The conversation with one more question."""
        return replace(self, turns=(*self.turns, Turn(question)), sampling=sampling)

    def answer(self, left: str, right: str) -> Talk:
        """The conversation with what is written so far of the last answers."""
        last = replace(self.turns[-1], left=left, right=right)
        return replace(self, turns=(*self.turns[:-1], last))

    def choose(self, choice: Choice) -> Talk:
        """The conversation with names shown."""
        return replace(self, choice=choice)

    def chosen(self, better: Side | Literal["tie"]) -> Choice:
        """What a choice between the sides says of the models."""
        if better == "tie":
            return "tie"
        return "tuned" if better == self.tuned_on_the else "base"

    def messages(self, side: Side) -> list[Message]:
        """What the model on a side is asked: all turns up to the last question."""
        before = [(turn.question, getattr(turn, side)) for turn in self.turns[:-1]]
        said = [Message(role, text) for pair in before for role, text in zip(("user", "assistant"), pair, strict=True)]
        return [*said, Message("user", self.turns[-1].question)]

    def shown(self, side: Side) -> list[dict[str, str]]:
        """The side's conversation as a chat window takes it."""
        return [
            {"role": role, "content": text}
            for turn in self.turns
            for role, text in (("user", turn.question), ("assistant", getattr(turn, side)))
            if text
        ]

    def name(self, side: Side) -> str:
        """What stands above a side: "A", and after the choice "A: tuned" or "A: base"."""
        letter = LETTERS[side]
        if self.choice is None:
            return letter
        return f"{letter}: {'tuned' if side == self.tuned_on_the else 'base'}"

    @property
    def open_to_a_vote(self) -> bool:
        """Whether there is an answer to judge, and none was judged yet."""
        return self.choice is None and bool(self.turns) and bool(self.turns[-1].left or self.turns[-1].right)

    def vote(self, choice: Choice) -> Vote:
        """The choice as it is logged."""
        base, tuned = self._sides()
        last = self.turns[-1]
        return Vote(
            prompt=last.question,
            base=getattr(last, base),
            tuned=getattr(last, tuned),
            choice=choice,
            turns=len(self.turns),
            conversation=json.dumps(self._turns(base, tuned), ensure_ascii=False),
            tuned_on_the=self.tuned_on_the,
            settings=vars(self.sampling),
        )

    def _sides(self) -> tuple[Side, Side]:
        return ("right", "left") if self.tuned_on_the == "left" else ("left", "right")

    def _turns(self, base: Side, tuned: Side) -> Sequence[dict[str, str]]:
        return [
            {"prompt": turn.question, "base": getattr(turn, base), "tuned": getattr(turn, tuned)} for turn in self.turns
        ]

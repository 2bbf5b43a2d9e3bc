"""Rows as the teacher of context distillation reads them: each after a context that its student does not see."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tunery.config.data import DataConfig
from tunery.config.training import DistillationConfig
from tunery.data.clean import folded_text
from tunery.data.context import Context, draw_context, put_before
from tunery.data.layouts.messages import with_system
from tunery.data.rendering.encode import encode_all
from tunery.data.rendering.tokens import tokens_taken
from tunery.errors import ConfigError, DataError, Fault
from tunery.records.rows import Conversation, Drop, Example, Message, PreparedData

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_KEY = "training.distillation"
_UNCUT = 10**9  # the student's row was cut; the teacher's is as long as its context makes it
_FIRST = 0  # the draw of `resample: never`, and of validation rows


@dataclass
class TeacherRows:
    """The teacher's side of every row, encoded when it is asked for.

    A row never stands in its own context, where its answer could be read off: the next in line does.
    """

    prepared: PreparedData  # the student's side
    tokenizer: PreTrainedTokenizerBase
    data: DataConfig
    loss_on: str  # training.loss_on
    distillation: DistillationConfig
    seed: int  # training.seed
    _drawn: tuple[int, Context] | None = field(default=None, repr=False)
    _encoded: dict[Conversation, Example] = field(default_factory=dict, repr=False)  # of the first draw

    def draw_at(self, step: int, epoch: int) -> int:
        """Which draw of examples belongs to a step; steps and epochs are counted from 0."""
        return {"never": _FIRST, "epoch": epoch, "step": step}[self.distillation.resample]

    def training(self, places: Sequence[int], draw: int = _FIRST) -> list[Example]:
        """Rows by their places in `prepared.train`, after the context of a draw.

        Returns:
            Examples that end with the last token that the student learns, and learn exactly the tokens that it learns.

        Raises:
            DataError: If an answer has other tokens after the context, or its row has no text there.
        """
        rows = [self.prepared.train_conversations[self.prepared.train_places[place]] for place in places]
        return self._rows(rows, [self.prepared.train[place] for place in places], draw)

    def validation(self) -> list[Example]:
        """The validation rows after the first context, in their order; `DataError` as `training`."""
        return self._rows(self.prepared.validation_conversations, self.prepared.validation, _FIRST)

    def context(self, draw: int = _FIRST) -> Context:
        """The examples of a draw, before every row that is not one of them.

        Raises:
            DataError: If there are too few rows, or their number cannot be divided by the answers.
        """
        if self._drawn is None or self._drawn[0] != draw:
            self._drawn = draw, self._draw(self.prepared.train_conversations, draw)
        return self._drawn[1]

    def context_of(self, row: Conversation, draw: int = _FIRST) -> Context:
        """The examples before a row; `DataError` as `context`."""
        own, drawn = folded_text(row), self.context(draw)
        if all(folded_text(one) != own for one in drawn.examples):
            return drawn
        return self._draw([one for one in self.prepared.train_conversations if folded_text(one) != own], draw)

    def taught(self, row: Conversation, draw: int = _FIRST) -> Conversation:
        """A row with its context: as the system text or the first turns of a chat, otherwise before its prompt."""
        chat, text = self.data.template == "chat", self.distillation.context
        if text is None:
            messages: Sequence[Message] = self.context_of(row, draw).before(row.messages, chat=chat)
        elif chat:
            messages = with_system(row.messages, text)
        else:
            messages = put_before(row.messages, f"{text}{self.distillation.separator}")
        return replace(row, messages=tuple(messages))

    def longest(self) -> int:
        """Tokens of the longest row after a context; of examples that are drawn anew, the most that there can be."""
        known = self.validation()  # of one draw always, and perhaps longer than any training row
        if self.distillation.resample == "never":
            return _longest([*self.training(range(len(self.prepared.train))), *known])
        lengths = sorted(self._whole_lengths(), reverse=True)
        count = self.distillation.examples or 0
        separators = count * len(self.tokenizer.encode(self.distillation.separator, add_special_tokens=False))
        return max(lengths[0] + sum(lengths[:count]) + separators, _longest(known))

    def check(self) -> None:
        """Refuse contexts that cannot be drawn, that change an answer's tokens, or that the base has no room for.

        Raises:
            DataError: As `training`.
            ConfigError: With the longest row and the limit.
        """
        if self.distillation.examples is not None:
            for example in self.context().examples:
                self.context_of(example)  # there must be a next in line
        self.validation()
        longest, taken = self.longest(), tokens_taken(self.tokenizer)
        if taken is not None and longest > taken:
            raise ConfigError(_KEY, self._too_long(longest, taken))

    def _too_long(self, longest: int, taken: int) -> Fault:
        wanted = self.distillation
        key, got = ("context", wanted.context) if wanted.examples is None else ("examples", wanted.examples)
        may = "has" if wanted.resample == "never" else "may have"
        rule = f"{'shorter' if wanted.examples is None else 'fewer'}: a row {may} {longest:,} tokens after its context"
        return Fault(f"{_KEY}.{key}", f"{rule}, and the base takes {taken:,}", got, "Or leave longer rows out.")

    def _draw(self, rows: Sequence[Conversation], draw: int) -> Context:
        wanted, seed = self.distillation, self.seed
        if draw != _FIRST:
            seed = int.from_bytes(hashlib.sha256(f"{self.seed}:{draw}".encode()).digest()[:8])
        drawn = draw_context(rows, wanted.examples or 0, seed, key=f"{_KEY}.examples", balanced=wanted.balanced)
        return Context(drawn, wanted.separator, self.data.separator)

    def _rows(self, rows: Sequence[Conversation], students: Sequence[Example], draw: int) -> list[Example]:
        known = self._encoded if draw == _FIRST else {}
        missing = {row: student for row, student in zip(rows, students, strict=True) if row not in known}
        encoded = self._encode([self.taught(row, draw) for row in missing])
        found = [(*pair, each) for pair, each in zip(missing.items(), encoded, strict=True)]
        faults = list(_unlike(found))
        if faults:
            raise DataError(_KEY, faults)
        known |= {row: _aligned(student, each) for row, student, each in found if isinstance(each, Example)}
        return [known[row] for row in rows]

    def _encode(self, rows: Sequence[Conversation]) -> Sequence[Example | Drop]:
        return encode_all(
            rows, self.tokenizer, self.data.model_copy(update={"max_length": _UNCUT}), self.loss_on
        ).results

    def _whole_lengths(self) -> Iterator[int]:
        """Tokens of each row that may be an example, none of them cut."""
        prepared = self.prepared
        by_row = dict(zip(prepared.train_places, prepared.train, strict=True))
        yield from (len(example.input_ids) for example in by_row.values() if not example.truncated)
        cut = [prepared.train_conversations[place] for place, example in by_row.items() if example.truncated]
        yield from (len(each.input_ids) for each in self._encode(cut) if isinstance(each, Example))


def _longest(rows: Sequence[Example]) -> int:
    return max((len(row.input_ids) for row in rows), default=0)


def _learned(example: Example) -> list[int]:
    """Places of the learned tokens; the first token of a row is never one."""
    return [place for place, kept in enumerate(example.trained) if kept and place]


def _unlike(found: Sequence[tuple[Conversation, Example, Example | Drop]]) -> Iterator[Fault]:
    """A fault for rows whose answer the teacher does not read as the student does."""
    unlike = [row.origin for row, student, teacher in found if not _begins_alike(student, teacher)]
    if unlike:
        more = f" and {len(unlike) - 3:,} more" if len(unlike) > 3 else ""
        rule = "answers have other tokens after the context, so that teacher and student cannot be compared"
        yield Fault(f"{', '.join(unlike[:3])}{more}", rule, advice="Change the separator, or leave such rows out.")


def _begins_alike(student: Example, teacher: Example | Drop) -> bool:
    if isinstance(teacher, Drop):
        return False
    own, other = ([row.input_ids[place] for place in _learned(row)] for row in (student, teacher))
    return own == other[: len(own)]


def _aligned(student: Example, teacher: Example) -> Example:
    """The teacher's row up to the last token that the student learns, as the student's own row was cut."""
    places = _learned(teacher)[: len(_learned(student))]
    end = places[-1] + 1 if places else 0
    kept = set(places)
    return Example(teacher.input_ids[:end], tuple(place in kept for place in range(end)))

"""Conversations, the examples that are made of them, and what became of a project's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Message:
    """One turn. `role` is system, user, assistant or tool."""

    role: str
    content: str
    learned: bool = True  # False for an answer that is shown to the model and not learned
    reasoning: str = ""  # what an assistant thought before it answered
    tool_calls: tuple[str, ...] = ()  # an assistant's, each as JSON: {"name": ..., "arguments": {...}}


@dataclass(frozen=True)
class Conversation:
    """One training row, whatever its source's format was; at least one turn is the assistant's."""

    messages: tuple[Message, ...]
    # "rows.jsonl:17", the line of a csv or jsonl file where the row begins; "qa.xlsx[QA]:17", the row number that the
    # spreadsheet program shows; otherwise the row counted from 1.
    origin: str
    source: int = 0  # index of the source in the project's list
    # The tools that can be called, as a JSON list of OpenAI's form: {"type": "function", "function": {...}}.
    tools: str = ""


@dataclass(frozen=True)
class Example:
    """A conversation as the model sees it: token ids and whether each is learned, shape (tokens,) both."""

    input_ids: tuple[int, ...]
    trained: tuple[bool, ...]
    truncated: bool = False  # whether tokens were cut away at the end


@dataclass(frozen=True)
class Drop:
    """A row that is not trained on, and why. `origin` names its file and row."""

    origin: str
    reason: str


@dataclass(frozen=True)
class SourceReport:
    """One source as it was found. `digest` is a hash of its content, the lineage that MLflow shows."""

    source: str
    format: str
    rows_read: int
    rows_kept: int
    weight: float
    digest: str
    role: Literal["training", "validation"] = "training"


@dataclass(frozen=True)
class DataReport:
    """What became of every row: data/report.json and the table in the terminal."""

    sources: tuple[SourceReport, ...]
    # Every row left out, with its reason ("no answer", "blank", "duplicate of …", "contaminated", ...)
    drops: tuple[Drop, ...]
    changed: Mapping[str, int]  # rows altered by each cleaning step, by name of the step
    train_rows: int  # after mixing
    validation_rows: int
    train_tokens: int
    token_percentiles: Mapping[str, int]  # tokens a row at "0", "5", "50", "95", "100" percent
    truncated: tuple[str, ...]  # origins of the rows that were cut at data.max_length
    target_share: float  # trained tokens / all tokens
    contaminated: Mapping[str, str]  # origins of rows that share an n-gram with an evaluation item -> the item's task
    # Sentences that a person should read: the detected format, a chat template that was added, ...
    notes: tuple[str, ...] = ()
    max_length: int = 0  # tokens at which rows were cut
    # Columns and keys of turns that were not used, with their source -> rows or turns that had a value there.
    unused: Mapping[str, int] = field(default_factory=dict)
    # Rows that the project does not ask for, by source and key (`where`, `sample`).
    left_out: Mapping[str, int] = field(default_factory=dict)
    not_compared: str = ""  # why no row was compared with evaluation items; empty where rows were


@dataclass(frozen=True)
class AskedItems:
    """What a project's tasks ask, as far as the data stage looks at it; by leaf task."""

    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)  # what each item asks
    # White space between prompt and scored answer, of tasks that score given answers without a chat template.
    joins: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, Sequence[tuple[str, str]]] = field(
        default_factory=dict
    )  # of sets of answers: (prompt, reference)


@dataclass(frozen=True)
class PreparedData:
    """Everything that training and generation need from the data stage."""

    train: Sequence[Example]
    validation: Sequence[Example]
    validation_conversations: Sequence[Conversation]
    report: DataReport
    train_conversations: Sequence[Conversation] = ()  # the rows of `train`, each once, whatever their weights
    train_places: Sequence[int] = ()  # of each example of `train`, the place of its row in `train_conversations`

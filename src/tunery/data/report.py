"""The data report for the terminal, and a preview of what is learned."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from tunery.records.rows import DataReport, Drop, Example, PreparedData

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text
    from transformers import PreTrainedTokenizerBase

    from tunery.data.teacher_rows import TeacherRows

_SHOWN = 5
_PERCENT_NAMES = {"0": "least", "50": "median", "100": "most"}


def table(report: DataReport) -> Table:
    """The report as a table of two columns: what, and how much of it with the first few row names."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(title="data", show_header=False, title_justify="left")
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in _lines(report):
        shown.add_row(name, Text(value))  # Text: a row's name may hold square brackets, which are markup to rich
    return shown


def _lines(report: DataReport) -> Iterator[tuple[str, str]]:
    for source in report.sources:
        weight = "" if source.weight == 1.0 else f", weight {source.weight:g}"
        role = ", for validation" if source.role == "validation" else ""
        kept = f"{source.rows_read:,} rows read, {source.rows_kept:,} kept"
        yield source.source, f"{source.format}, {kept}{weight}{role}"
    yield "training rows", f"{report.train_rows:,} with {report.train_tokens:,} tokens"
    yield "validation rows", f"{report.validation_rows:,}"
    for reason, drops in _by_reason(report.drops).items():
        yield "dropped", f"{len(drops):,} {reason}: {_first([drop.origin for drop in drops])}"
    for what, rows in report.left_out.items():
        yield "left out", f"{rows:,} rows of {what}"
    for step, rows in report.changed.items():
        yield "changed", f"{rows:,} rows by {step}"
    lengths = (f"{_PERCENT_NAMES.get(at, f'{at} %')} {tokens:,}" for at, tokens in report.token_percentiles.items())
    if report.token_percentiles:
        yield "tokens a row", ", ".join(lengths)
    at = f" at {report.max_length:,} tokens" if report.max_length else ""
    cut = f"{at}: {_first(report.truncated)}" if report.truncated else ""
    yield "truncated", f"{len(report.truncated):,}{cut}"
    if report.target_share:  # of rows that are shown and not trained on, nothing is learned
        yield "learned tokens", f"{report.target_share:.1%} of all"
    by_task: dict[str, list[str]] = defaultdict(list)
    for origin, task in report.contaminated.items():
        by_task[task].append(origin)
    for task, origins in by_task.items():
        yield "overlap", f"{len(origins):,} rows with items of {task}: {_first(origins)}"
    if report.not_compared:
        yield "overlap", f"not looked for: {report.not_compared}"
    elif not by_task:
        yield "overlap", "no row with an evaluation item"
    if report.unused:
        yield "not used", _first([f"{what} ({count:,})" for what, count in report.unused.items()])
    for note in report.notes:
        yield "note", note


def _by_reason(drops: Sequence[Drop]) -> dict[str, list[Drop]]:
    """Drops by reason, most frequent first; what a row is a duplicate of is left out of the reason."""
    groups: dict[str, list[Drop]] = defaultdict(list)
    for drop in drops:
        groups[drop.reason.partition(" of ")[0] if "duplicate of " in drop.reason else drop.reason].append(drop)
    return dict(sorted(groups.items(), key=lambda pair: -len(pair[1])))


def _first(origins: Sequence[str]) -> str:
    rest = len(origins) - _SHOWN
    return ", ".join(origins[:_SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")


# ---- preview


@dataclasses.dataclass(frozen=True)
class Preview:
    """Some training rows as the model sees them; special tokens are shown as they are written.

    Learned tokens are green on a terminal with colour, and between [[ and ]] without. The report's notes follow.
    """

    # Which row it is, what is said of it, and its text in pieces.
    rows: Sequence[tuple[str, str, Sequence[tuple[str, bool, bool]]]]
    notes: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.rule import Rule
        from rich.text import Text

        colour = console.is_terminal and console.color_system is not None and not console.no_color
        for title, said, row in self.rows:
            yield Rule(f"{title}, learned tokens {'green' if colour else 'in [[ ]]'}")
            yield Text(said)
            yield self._text(row, colour)
        for note in self.notes:
            yield Text(f"note: {note}")

    @staticmethod
    def _text(row: Sequence[tuple[str, bool, bool]], colour: bool) -> Text:
        from rich.text import Text

        text = Text(overflow="fold")
        for learned, pieces in groupby(row, key=lambda piece: piece[1]):
            text.append("" if colour or not learned else "[[")
            for written, _, special in pieces:
                style = f"{'bold ' if special else ''}{'green' if learned else 'bright_black'}"
                text.append(written, style=style if colour else "")
            text.append("" if colour or not learned else "]]")
        return text


_LEARNED = {"completion": "the last answer", "assistant": "every answer", "all": "every token"}


def preview(
    prepared: PreparedData,
    tokenizer: PreTrainedTokenizerBase,
    count: int,
    loss_on: str,
    template: str,
    teacher: TeacherRows | None = None,
) -> Preview:
    """The first `count` training rows, token by token, with learned tokens marked, and the report's notes.

    Args:
        loss_on: training.loss_on.
        template: data.template.
        teacher: Of context distillation: each row is shown as the teacher reads it, too.
    """
    meant = {"auto": "completion" if template == "plain" else "assistant"}.get(loss_on, loss_on)
    what = f"{_LEARNED[meant]} (training.loss_on: {loss_on})"
    shown, rows = prepared.train[:count], []
    told = teacher.training(range(len(shown))) if teacher is not None else [None] * len(shown)
    for number, (example, longer) in enumerate(zip(shown, told, strict=True), start=1):
        title, reader = f"row {number} of {len(shown)}", "" if longer is None else " as the student reads it"
        if longer is not None:
            said = f"what it predicts of the marked tokens is learned; it reads {len(longer.input_ids):,} tokens"
            rows.append((f"{title} as the teacher reads it", said, list(_pieces(longer, tokenizer))))
        said = _said(example, what, prepared.report.max_length)
        rows.append((f"{title}{reader}", said, list(_pieces(example, tokenizer))))
    return Preview(rows, prepared.report.notes)


def _said(example: Example, what: str, max_length: int) -> str:
    cut = f"; cut at data.max_length: {max_length}" if example.truncated else ""
    return f"learned: {sum(example.trained):,} of {len(example.trained):,} tokens, {what}{cut}"


def _pieces(example: Example, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[str, bool, bool]]:
    """Runs of tokens of one kind as (text, learned, special).

    A run's text is what it adds to the text of all tokens before it: decoded alone, it would lose its leading space
    with some tokenizers.
    """
    special = {*tokenizer.all_special_ids, *(n for n, token in tokenizer.added_tokens_decoder.items() if token.special)}
    kinds = [(learned, token in special) for token, learned in zip(example.input_ids, example.trained, strict=True)]
    done, shown = 0, ""
    for kind, run in groupby(kinds):
        done += len(list(run))
        text = tokenizer.decode(list(example.input_ids[:done]), skip_special_tokens=False)
        yield text[len(shown) :], *kind
        shown = text

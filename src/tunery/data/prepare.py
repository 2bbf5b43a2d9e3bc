"""The data stage: rows, conversations, cleaning, contamination, validation rows, tokens, mixing, in that order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.config.data import CleanConfig, DataConfig, SourceConfig
from tunery.data.clean import clean, folded_text
from tunery.data.contamination import find_overlap
from tunery.data.encode import CUT_AWAY, encode_all
from tunery.data.formats import to_conversations
from tunery.data.load import check_sources, load_rows
from tunery.data.row_log import RowLog, build_report, check_bad_rows
from tunery.data.rows import Rows
from tunery.data.split import held_out, mix
from tunery.errors import DataError, Fault
from tunery.records import Conversation, Drop, Example, PreparedData, SourceReport

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["check_sources", "prepare"]


def prepare(
    data: DataConfig,
    loss_on: str,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    evaluation_texts: Mapping[str, Sequence[str]],
    seed: int,
) -> PreparedData:
    """Everything that training and generation need from the data, and a report on every row.

    Args:
        data: The project's section.
        loss_on: training.loss_on: completion, assistant or all.
        folder: The folder of project.yaml.
        tokenizer: Of the base, with a chat template unless data.template is plain.
        evaluation_texts: Task -> texts of its items, for the overlap with training rows.
        seed: Seeds the draw of rows by weight, and nothing else.

    Raises:
        DataError: When a source cannot be read, has too many bad rows, or nothing is left to train on.
    """
    row_log = RowLog()
    training = _read(data, data.train, 0, folder, row_log)
    training = _clean(training, data.clean, row_log)
    training = _decontaminate(training, data, evaluation_texts, row_log)
    _refuse_empty(training, data, row_log)

    training, validation = _split(training, data, folder, row_log)

    kept, examples = _encode(training, data, loss_on, tokenizer, row_log)
    held, held_examples = _encode(validation, data, loss_on, tokenizer, row_log)
    _refuse_cut_away(examples, data)
    _note_cut_away(data, row_log)

    order = mix([conversation.source for conversation in kept], [source.weight for source in data.train], seed)
    mixed = [examples[place] for place in order]
    truncated = [
        each.origin
        for each, example in zip([*kept, *held], [*examples, *held_examples], strict=True)
        if example.truncated
    ]
    report = build_report(row_log, mixed, held_examples, truncated, [*kept, *held])
    return PreparedData(mixed, held_examples, held, report)


# ---- rows


def _read(
    data: DataConfig, sources: Sequence[SourceConfig], first: int, folder: Path, row_log: RowLog
) -> list[Conversation]:
    conversations: list[Conversation] = []
    for index, source in enumerate(sources, start=first):
        rows = _told_apart(load_rows(source, folder), index, row_log)
        converted = to_conversations(rows, source, index)
        readable = rows.rows_read - len(rows.blank)
        if readable == 0:
            raise DataError(source.source, Fault("has no rows", "a dataset must have at least one"))
        check_bad_rows(source.source, converted.bad, readable, data.max_bad_rows)
        row_log.sources.append(
            SourceReport(source.source, converted.format, rows.rows_read, 0, source.weight, rows.digest)
        )
        row_log.bad.append(converted.bad)
        row_log.drops += [*converted.blank, *converted.bad]
        row_log.notes += converted.notes
        if converted.cut:
            row_log.changed["cut after the last answer"] += converted.cut
        conversations += converted.conversations
    return conversations


def _told_apart(rows: Rows, index: int, row_log: RowLog) -> Rows:
    """Rows whose origins no other source has.

    What happens to a row is kept by its origin, and of an absolute path that holds the file's name alone: line 4 of
    a/rows.jsonl must not be taken for line 4 of b/rows.jsonl.
    """
    if rows.place in row_log.places:
        rows = rows.moved(f"{rows.place} (source {index + 1})")
    row_log.places.append(rows.place)
    return rows


def _clean(conversations: Sequence[Conversation], config: CleanConfig, row_log: RowLog) -> list[Conversation]:
    cleaned = clean(conversations, config)
    row_log.drops += cleaned.drops
    row_log.changed.update(cleaned.changed)
    if config.deduplicate == "none":
        _note_duplicates(cleaned.conversations, row_log)
    return cleaned.conversations


def _note_duplicates(conversations: Sequence[Conversation], row_log: RowLog) -> None:
    """Repeated rows are kept unless asked otherwise, and said either way."""
    repeated = clean(conversations, CleanConfig(deduplicate="exact")).drops
    if repeated:
        row_log.notes.append(
            f"{len(repeated)} rows repeat an earlier one, the first is {repeated[0].origin} ({repeated[0].reason}). "
            "data.clean.deduplicate: exact would drop them."
        )


def _decontaminate(
    conversations: list[Conversation], data: DataConfig, texts: Mapping[str, Sequence[str]], row_log: RowLog
) -> list[Conversation]:
    rule = data.decontaminate
    if rule.action == "off":
        return conversations
    found = find_overlap(conversations, texts, rule.ngram)
    row_log.contaminated.update(found)
    if rule.action == "report":
        return conversations
    row_log.drops += [Drop(origin, f"contaminated: holds words of an item of {task}") for origin, task in found.items()]
    return [conversation for conversation in conversations if conversation.origin not in found]


def _refuse_empty(conversations: Sequence[Conversation], data: DataConfig, row_log: RowLog) -> None:
    if not conversations:
        reasons = ", ".join(
            f"{count} {reason}" for reason, count in Counter(drop.reason for drop in row_log.drops).most_common(3)
        )
        where = ", ".join(source.source for source in data.train)
        raise DataError(
            where, Fault("nothing is left to train on", f"every row was dropped ({reasons})", advice="See data.clean.")
        )


# ---- validation rows


def _split(
    training: list[Conversation], data: DataConfig, folder: Path, row_log: RowLog
) -> tuple[list[Conversation], list[Conversation]]:
    own = data.validation.source
    if own is not None:
        validation = _own_validation(own, data, folder, row_log)
        _note_shared_rows(training, validation, row_log)
        return training, validation
    places = set(held_out(training, data.validation.fraction))
    if data.validation.fraction > 0 and not places:
        row_log.notes.append("No validation rows: fewer than two different rows.")
    kept = [row for place, row in enumerate(training) if place not in places]
    return kept, [row for place, row in enumerate(training) if place in places]


def _own_validation(own: SourceConfig, data: DataConfig, folder: Path, row_log: RowLog) -> list[Conversation]:
    rows = _read(data, [own], len(data.train), folder, row_log)
    rows = _clean(rows, data.clean, row_log)
    if not rows:
        raise DataError(
            own.source, Fault("nothing is left to validate on", "every row was dropped", advice="See data.clean.")
        )
    return rows


def _note_shared_rows(training: Sequence[Conversation], validation: Sequence[Conversation], row_log: RowLog) -> None:
    known = {folded_text(conversation) for conversation in validation}
    shared = [conversation.origin for conversation in training if folded_text(conversation) in known]
    if shared:
        row_log.notes.append(
            f"{len(shared)} training rows are validation rows too, the first is {shared[0]}: validation/nll is too low."
        )


# ---- tokens


def _encode(
    conversations: Sequence[Conversation],
    data: DataConfig,
    loss_on: str,
    tokenizer: PreTrainedTokenizerBase,
    row_log: RowLog,
) -> tuple[list[Conversation], list[Example]]:
    encoded = encode_all(conversations, tokenizer, data, loss_on)
    _check_refused(encoded.refused, conversations, data, row_log)
    row_log.notes += [note for note in encoded.notes if note not in row_log.notes]
    row_log.drops += [result for result in encoded.results if isinstance(result, Drop)]
    usable = [
        (row, result) for row, result in zip(conversations, encoded.results, strict=True) if isinstance(result, Example)
    ]
    return [row for row, _ in usable], [example for _, example in usable]


def _check_refused(
    refused: Sequence[Drop], conversations: Sequence[Conversation], data: DataConfig, row_log: RowLog
) -> None:
    source_of = {conversation.origin: conversation.source for conversation in conversations}
    for index, source in enumerate(row_log.sources):
        own = [drop for drop in refused if source_of[drop.origin] == index]
        if own:
            check_bad_rows(source.source, [*own, *row_log.bad[index]], source.rows_read, data.max_bad_rows)


def _refuse_cut_away(examples: Sequence[Example], data: DataConfig) -> None:
    if not examples:
        where = ", ".join(source.source for source in data.train)
        raise DataError(
            where,
            Fault(
                "data.max_length",
                "long enough for some answer: every completion was cut away",
                data.max_length,
                "Raise data.max_length.",
            ),
        )


def _note_cut_away(data: DataConfig, row_log: RowLog) -> None:
    cut = sum(drop.reason == CUT_AWAY for drop in row_log.drops)
    read = sum(source.rows_read for source in row_log.sources)
    if cut > data.max_bad_rows * read:
        row_log.notes.append(
            f"{cut} of {read} rows lost their whole answer at data.max_length: {data.max_length}. Raise it."
        )

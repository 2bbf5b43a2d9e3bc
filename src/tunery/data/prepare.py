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
from tunery.data.row_log import Ledger, build_report, check_bad_rows
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
    ledger = Ledger()
    training = _read(data, data.train, 0, folder, ledger)
    training = _clean(training, data.clean, ledger)
    training = _decontaminate(training, data, evaluation_texts, ledger)
    _refuse_empty(training, data, ledger)

    training, validation = _split(training, data, folder, ledger)

    kept, examples = _encode(training, data, loss_on, tokenizer, ledger)
    held, held_examples = _encode(validation, data, loss_on, tokenizer, ledger)
    _refuse_cut_away(examples, data)
    _note_cut_away(data, ledger)

    order = mix([conversation.source for conversation in kept], [source.weight for source in data.train], seed)
    mixed = [examples[place] for place in order]
    truncated = [
        each.origin
        for each, example in zip([*kept, *held], [*examples, *held_examples], strict=True)
        if example.truncated
    ]
    report = build_report(ledger, mixed, held_examples, truncated, [*kept, *held])
    return PreparedData(mixed, held_examples, held, report)


# ---- rows


def _read(
    data: DataConfig, sources: Sequence[SourceConfig], first: int, folder: Path, ledger: Ledger
) -> list[Conversation]:
    conversations: list[Conversation] = []
    for index, source in enumerate(sources, start=first):
        rows = _told_apart(load_rows(source, folder), index, ledger)
        converted = to_conversations(rows, source, index)
        readable = rows.rows_read - len(rows.blank)
        if readable == 0:
            raise DataError(source.source, Fault("has no rows", "a dataset must have at least one"))
        check_bad_rows(source.source, converted.bad, readable, data.max_bad_rows)
        ledger.sources.append(
            SourceReport(source.source, converted.format, rows.rows_read, 0, source.weight, rows.digest)
        )
        ledger.bad.append(converted.bad)
        ledger.drops += [*converted.blank, *converted.bad]
        ledger.notes += converted.notes
        if converted.cut:
            ledger.changed["cut after the last answer"] += converted.cut
        conversations += converted.conversations
    return conversations


def _told_apart(rows: Rows, index: int, ledger: Ledger) -> Rows:
    """Rows whose origins no other source has.

    What happens to a row is kept by its origin, and of an absolute path that holds the file's name alone: line 4 of
    a/rows.jsonl must not be taken for line 4 of b/rows.jsonl.
    """
    if rows.place in ledger.places:
        rows = rows.moved(f"{rows.place} (source {index + 1})")
    ledger.places.append(rows.place)
    return rows


def _clean(conversations: Sequence[Conversation], config: CleanConfig, ledger: Ledger) -> list[Conversation]:
    cleaned = clean(conversations, config)
    ledger.drops += cleaned.drops
    ledger.changed.update(cleaned.changed)
    if config.deduplicate == "none":
        _note_duplicates(cleaned.conversations, ledger)
    return cleaned.conversations


def _note_duplicates(conversations: Sequence[Conversation], ledger: Ledger) -> None:
    """Repeated rows are kept unless asked otherwise, and said either way."""
    repeated = clean(conversations, CleanConfig(deduplicate="exact")).drops
    if repeated:
        ledger.notes.append(
            f"{len(repeated)} rows repeat an earlier one, the first is {repeated[0].origin} ({repeated[0].reason}). "
            "data.clean.deduplicate: exact would drop them."
        )


def _decontaminate(
    conversations: list[Conversation], data: DataConfig, texts: Mapping[str, Sequence[str]], ledger: Ledger
) -> list[Conversation]:
    rule = data.decontaminate
    if rule.action == "off":
        return conversations
    found = find_overlap(conversations, texts, rule.ngram)
    ledger.contaminated.update(found)
    if rule.action == "report":
        return conversations
    ledger.drops += [Drop(origin, f"contaminated: holds words of an item of {task}") for origin, task in found.items()]
    return [conversation for conversation in conversations if conversation.origin not in found]


def _refuse_empty(conversations: Sequence[Conversation], data: DataConfig, ledger: Ledger) -> None:
    if not conversations:
        reasons = ", ".join(
            f"{count} {reason}" for reason, count in Counter(drop.reason for drop in ledger.drops).most_common(3)
        )
        where = ", ".join(source.source for source in data.train)
        raise DataError(
            where, Fault("nothing is left to train on", f"every row was dropped ({reasons})", advice="See data.clean.")
        )


# ---- validation rows


def _split(
    training: list[Conversation], data: DataConfig, folder: Path, ledger: Ledger
) -> tuple[list[Conversation], list[Conversation]]:
    own = data.validation.source
    if own is not None:
        validation = _own_validation(own, data, folder, ledger)
        _note_shared_rows(training, validation, ledger)
        return training, validation
    places = set(held_out(training, data.validation.fraction))
    if data.validation.fraction > 0 and not places:
        ledger.notes.append("No validation rows: fewer than two different rows.")
    kept = [row for place, row in enumerate(training) if place not in places]
    return kept, [row for place, row in enumerate(training) if place in places]


def _own_validation(own: SourceConfig, data: DataConfig, folder: Path, ledger: Ledger) -> list[Conversation]:
    rows = _read(data, [own], len(data.train), folder, ledger)
    rows = _clean(rows, data.clean, ledger)
    if not rows:
        raise DataError(
            own.source, Fault("nothing is left to validate on", "every row was dropped", advice="See data.clean.")
        )
    return rows


def _note_shared_rows(training: Sequence[Conversation], validation: Sequence[Conversation], ledger: Ledger) -> None:
    known = {folded_text(conversation) for conversation in validation}
    shared = [conversation.origin for conversation in training if folded_text(conversation) in known]
    if shared:
        ledger.notes.append(
            f"{len(shared)} training rows are validation rows too, the first is {shared[0]}: validation/nll is too low."
        )


# ---- tokens


def _encode(
    conversations: Sequence[Conversation],
    data: DataConfig,
    loss_on: str,
    tokenizer: PreTrainedTokenizerBase,
    ledger: Ledger,
) -> tuple[list[Conversation], list[Example]]:
    encoded = encode_all(conversations, tokenizer, data, loss_on)
    _check_refused(encoded.refused, conversations, data, ledger)
    ledger.notes += [note for note in encoded.notes if note not in ledger.notes]
    ledger.drops += [result for result in encoded.results if isinstance(result, Drop)]
    usable = [
        (row, result) for row, result in zip(conversations, encoded.results, strict=True) if isinstance(result, Example)
    ]
    return [row for row, _ in usable], [example for _, example in usable]


def _check_refused(
    refused: Sequence[Drop], conversations: Sequence[Conversation], data: DataConfig, ledger: Ledger
) -> None:
    source_of = {conversation.origin: conversation.source for conversation in conversations}
    for index, source in enumerate(ledger.sources):
        own = [drop for drop in refused if source_of[drop.origin] == index]
        if own:
            check_bad_rows(source.source, [*own, *ledger.bad[index]], source.rows_read, data.max_bad_rows)


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


def _note_cut_away(data: DataConfig, ledger: Ledger) -> None:
    cut = sum(drop.reason == CUT_AWAY for drop in ledger.drops)
    read = sum(source.rows_read for source in ledger.sources)
    if cut > data.max_bad_rows * read:
        ledger.notes.append(
            f"{cut} of {read} rows lost their whole answer at data.max_length: {data.max_length}. Raise it."
        )

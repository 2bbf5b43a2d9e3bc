"""The data stage: rows, conversations, cleaning, contamination, validation rows, tokens, mixing, in that order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tunery.config.data import CleanConfig, DataConfig, SourceConfig, cell_text
from tunery.data.cells import clean_cells
from tunery.data.clean import clean, cleaned_text, folded_text
from tunery.data.contamination import MANY, find_overlap
from tunery.data.layouts.convert import to_conversations
from tunery.data.reading.load import load_rows
from tunery.data.reading.rows import Rows
from tunery.data.reading.selection import select
from tunery.data.rendering.encode import encode_all, plain_joins
from tunery.data.rendering.tokens import tokens_taken
from tunery.data.rendering.told import notes_of
from tunery.data.row_log import CUT_AWAY, RowLog, check_bad_rows
from tunery.data.sample import draw
from tunery.data.split import held_out, mix
from tunery.errors import DataError, Fault
from tunery.records.rows import AskedItems, Conversation, Drop, Example, PreparedData, SourceReport

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_Examples = list[tuple[Conversation, Example]]


def prepare(
    data: DataConfig,
    loss_on: str,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    asked: AskedItems,
    seed: int,
) -> PreparedData:
    """Everything that training and generation need from the data, and a report on every row.

    Args:
        loss_on: training.loss_on.
        folder: The folder of project.yaml.
        tokenizer: Of the base, with a chat template unless data.template is plain.
        asked: What the project's tasks ask, for the overlap with training rows.
        seed: training.seed; seeds the draw of rows by weight or by sample, and nothing else.

    Raises:
        DataError: When a source cannot be read, has too many bad rows, nothing is left to train on, or rows are items
            of a set of answers.
    """
    row_log = RowLog()
    where = ", ".join(source.source for source in data.train)
    training = _clean(_read(data, data.train, folder, row_log), data.clean, row_log)
    training = _decontaminate(training, data, asked, row_log)
    if not training:
        raise DataError(where, _nothing_left(row_log, "See data.clean."))

    training, validation = _split(training, data, folder, row_log)
    training = _sample(training, data, seed, row_log)
    _note_joins(training, data, asked.joins, row_log)

    length = data.length(tokens_taken(tokenizer))
    kept, lost = _encode(training, data, loss_on, tokenizer, row_log)
    held, also_lost = _encode(validation, data, loss_on, tokenizer, row_log)
    if not kept and all(drop.reason == CUT_AWAY for drop in lost.values()):
        rule = "long enough for some answer: every completion was cut away"
        raise DataError(where, Fault("data.max_length", rule, length, "Raise data.max_length."))
    _check_bad_rows({**lost, **also_lost}, [*training, *validation], data, row_log)
    if not kept:
        raise DataError(where, _nothing_left(row_log, "Mend them."))
    _note_length(data, tokens_taken(tokenizer), row_log)
    row_log.notes += notes_of(row_log.told)

    order = mix([row.source for row, _ in kept], [source.weight for source in data.train], seed)
    mixed = [kept[place][1] for place in order]
    report = row_log.report(mixed, len(held), [*kept, *held], length)
    rows, held_rows = [row for row, _ in kept], [row for row, _ in held]
    return PreparedData(mixed, [example for _, example in held], held_rows, report, rows, order)


def _nothing_left(row_log: RowLog, advice: str) -> Fault:
    counts = Counter(drop.reason for drop in row_log.drops).most_common(3)
    rule = f"every row was dropped ({', '.join(f'{count} {reason}' for reason, count in counts)})"
    return Fault("nothing is left to train on", rule, advice=advice)


def _read(data: DataConfig, sources: Sequence[SourceConfig], folder: Path, row_log: RowLog) -> list[Conversation]:
    conversations: list[Conversation] = []
    for index, source in enumerate(map(data.templated, sources), start=len(row_log.sources)):
        rows = select(load_rows(source, folder, row_log.places), source)
        converted = to_conversations(_cells_cleaned(rows, source, index, data.clean, row_log), source, index)
        if rows.rows_wanted == 0:
            raise DataError(source.source, Fault("has no rows", "a dataset must have at least one"))
        check_bad_rows(source.source, converted.bad, rows.rows_wanted, data.max_bad_rows)
        _remember_classes(rows, source, row_log)
        role: Literal["training", "validation"] = "training" if index < len(data.train) else "validation"
        seen = SourceReport(source.source, converted.format, rows.rows_read, 0, source.weight, rows.digest, role)
        row_log.sources.append(seen)
        row_log.places.append(rows.place)
        row_log.wanted.append(rows.rows_wanted)
        row_log.bad.append(converted.bad)
        row_log.drops += [*converted.blank, *converted.unwanted, *converted.bad]
        row_log.unused |= {f"{source.source}: {what}": count for what, count in converted.unused.items()}
        row_log.notes += converted.notes
        if converted.cut:
            row_log.changed["cut after the last answer"] += converted.cut
        conversations += converted.conversations
    return conversations


def _cells_cleaned(rows: Rows, source: SourceConfig, index: int, config: CleanConfig, row_log: RowLog) -> Rows:
    """What a template is filled from, cleaned; the prompt that it makes is then left as it is."""
    cleaned = clean_cells(rows, source, config)
    row_log.drops += cleaned.drops
    for step, origins in cleaned.changed.items():
        row_log.altered[step] |= origins
    row_log.filled |= {index} if source.prompt_template is not None else set()
    return cleaned.rows


def _remember_classes(rows: Rows, source: SourceConfig, row_log: RowLog) -> None:
    if rows.unwanted:
        row_log.left_out[f"{source.source}: where"] += rows.unwanted
    column = source.sample.balanced if source.sample else None
    if column is not None:
        row_log.classes.update((row.origin, cell_text(row.values.get(column))) for row in rows.rows)


def _clean(conversations: Sequence[Conversation], config: CleanConfig, row_log: RowLog) -> list[Conversation]:
    cleaned = clean(conversations, config, row_log.filled, row_log.altered)
    row_log.drops += cleaned.drops
    row_log.changed.update(cleaned.changed)
    if config.deduplicate == "none":  # repeated rows are kept unless asked otherwise, and said either way
        repeated = clean(cleaned.conversations, CleanConfig(deduplicate="exact")).drops
        if repeated:
            row_log.notes.append(
                f"{len(repeated)} rows repeat an earlier one, the first is {repeated[0].origin} "
                f"({repeated[0].reason}). data.clean.deduplicate: exact would drop them."
            )
    return cleaned.conversations


def _decontaminate(
    conversations: list[Conversation], data: DataConfig, asked: AskedItems, row_log: RowLog
) -> list[Conversation]:
    rule = data.decontaminate
    if rule.action == "off" or not (asked.texts or asked.references):
        row_log.not_compared = "data.decontaminate is off" if rule.action == "off" else "nothing is scored"
        return conversations
    overlap = find_overlap(conversations, asked.texts, rule.ngram)
    found = overlap.found
    row_log.contaminated.update(found)
    if overlap.shared:
        row_log.notes.append(
            f"{len(overlap.shared)} rows have only words in common with evaluation items that more than {MANY} rows or "
            f"items share, such as an instruction: not counted as overlap. The first is {overlap.shared[0]}."
        )
    items = items_among(conversations, asked.references, data.clean)
    if rule.action == "report":
        refuse_items(items)
        return conversations
    row_log.drops += [Drop(origin, f"contaminated: holds words of an item of {task}") for origin, task in found.items()]
    row_log.drops += [Drop(row, f"contaminated: an item of {task}") for row, task in items.items() if row not in found]
    return [row for row in conversations if row.origin not in found and row.origin not in items]


def items_among(
    conversations: Sequence[Conversation], references: Mapping[str, Sequence[tuple[str, str]]], config: CleanConfig
) -> dict[str, str]:
    """Origin -> task, of rows with an item's prompt and its very reference, from `references` by task.

    Prompts are asked as rows are cleaned; a reference is kept as it is written, and cleaned here alone.
    """
    items = {
        (_folded(prompt), _folded(cleaned_text(answer, config))): task
        for task, pairs in references.items()
        for prompt, answer in pairs
    }
    found = {}
    for conversation in conversations if items else ():
        *before, answer = (message.content for message in conversation.messages)
        task = items.get((_folded("\n".join(before)), _folded(answer)))
        if task is not None:
            found[conversation.origin] = task
    return found


def refuse_items(items: Mapping[str, str]) -> None:
    """Refuse such rows: they are no overlap of words, the model would see what is scored.

    Raises:
        DataError: With the first rows of each task.
    """
    rows: dict[str, list[str]] = defaultdict(list)
    for origin, task in items.items():
        rows[task].append(origin)
    advice = "Set data.decontaminate: {action: drop} to leave them out, or {action: off} to train on them."
    faults = [
        Fault(
            f"{len(found)} training rows are items of {task}, reference included", ", ".join(found[:3]), advice=advice
        )
        for task, found in rows.items()
    ]
    if faults:
        raise DataError("data.train", faults)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _split(
    training: list[Conversation], data: DataConfig, folder: Path, row_log: RowLog
) -> tuple[list[Conversation], list[Conversation]]:
    own = data.validation.source
    if own is not None:
        validation = _clean(_read(data, [own], folder, row_log), data.clean, row_log)
        if not validation:
            fault = Fault("nothing is left to validate on", "every row was dropped", advice="See data.clean.")
            raise DataError(own.source, fault)
        validation = draw(validation, own, row_log.classes, 0)  # the same rows for every training.seed
        _note_shared_rows(training, validation, row_log)
        return training, validation
    places = set(held_out(training, data.validation.fraction))
    if data.validation.fraction > 0 and not places:
        row_log.notes.append("No validation rows: fewer than two different rows.")
    kept = [row for place, row in enumerate(training) if place not in places]
    return kept, [row for place, row in enumerate(training) if place in places]


def _sample(training: list[Conversation], data: DataConfig, seed: int, row_log: RowLog) -> list[Conversation]:
    """The rows that are trained on; what is reported of overlap is of these and the validation rows alone."""
    kept: list[Conversation] = []
    for index, source in enumerate(data.train):
        own = [conversation for conversation in training if conversation.source == index]
        drawn = draw(own, source, row_log.classes, seed)
        if len(drawn) < len(own):
            row_log.left_out[f"{source.source}: sample"] += len(own) - len(drawn)
        kept += drawn
    left_out = {conversation.origin for conversation in training} - {conversation.origin for conversation in kept}
    row_log.contaminated = {row: task for row, task in row_log.contaminated.items() if row not in left_out}
    return kept


def _note_joins(training: Sequence[Conversation], data: DataConfig, scored: Mapping[str, str], row_log: RowLog) -> None:
    """What stands between prompt and answer is part of what is learned, and of what a task scores."""
    if data.template != "plain":
        return
    most = Counter(plain_joins(training, data.separator)).most_common(1)
    row_log.notes += [
        f"{count} rows have {trained!r} between prompt and answer, but {task} scores answers after {join!r}: the score "
        f"may not show what is learned. See data.separator, or target_delimiter in the task's file."
        for trained, count in most
        for task, join in scored.items()
        if join != trained
    ]


def _note_shared_rows(training: Sequence[Conversation], validation: Sequence[Conversation], row_log: RowLog) -> None:
    known = {folded_text(conversation) for conversation in validation}
    shared = [conversation.origin for conversation in training if folded_text(conversation) in known]
    if shared:
        row_log.notes.append(
            f"{len(shared)} training rows are validation rows too, the first is {shared[0]}: validation/nll is too low."
        )


def _encode(
    rows: Sequence[Conversation], data: DataConfig, loss_on: str, tokenizer: PreTrainedTokenizerBase, row_log: RowLog
) -> tuple[_Examples, dict[Conversation, Drop]]:
    """Each row with its example, and the rows that have none."""
    encoded = encode_all(rows, tokenizer, data, loss_on)
    for name, origins in encoded.told.items():
        row_log.told[name] += origins
    pairs = list(zip(rows, encoded.results, strict=True))
    lost = {row: result for row, result in pairs if isinstance(result, Drop)}
    row_log.drops += lost.values()
    return [(row, result) for row, result in pairs if isinstance(result, Example)], lost


def _check_bad_rows(
    lost: Mapping[Conversation, Drop], rows: Sequence[Conversation], data: DataConfig, row_log: RowLog
) -> None:
    """Rows without an example are as bad as those that could not be read: too many stop the run.

    They are counted among all rows that are wanted, and among those that are left of cleaning and sampling: half of a
    sample of 16 is nothing in a file of thousands.
    """
    encoded = Counter(row.source for row in rows)
    for index, source in enumerate(row_log.sources):
        own = [drop for row, drop in lost.items() if row.source == index]
        if own:
            check_bad_rows(source.source, [*own, *row_log.bad[index]], row_log.wanted[index], data.max_bad_rows)
            check_bad_rows(source.source, own, encoded[index], data.max_bad_rows)


def _note_length(data: DataConfig, taken: int | None, row_log: RowLog) -> None:
    if taken is not None and data.length(taken) > taken:
        row_log.notes.append(
            f"data.max_length is {data.max_length:,}, but the base was made for {taken:,} tokens at most: what comes "
            f"later in a row teaches it little. Set data.max_length: {taken}."
        )

"""The section `data`: where conversations come from, and what happens to them before they are tokenised."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from tunery.config.section import (
    Count,
    CountOrZero,
    Fraction,
    PositiveNumber,
    Probability,
    Section,
    Seed,
    WrittenOff,
    key,
)

_USUAL_LENGTH = 1024


def cell_text(value: object) -> str:
    """A cell as a text by which files and project.yaml agree: 2, 2.0 and "2" are one value, as true and "True".

    An empty one is "".
    """
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return text.lower() if text.lower() in ("true", "false") else text


Format = Literal["auto", "alpaca", "sharegpt", "messages", "prompt-completion", "lima", "columns"]


class SampleConfig(Section):
    """So many of a source's rows: 16 rows of a seed contain its 8."""

    rows: Count = Field(description="How many rows are trained on; validation rows are taken out before.")
    balanced: str | None = key(None, "Column whose values have equally many rows each.")
    seed: Seed | Literal["training"] = key(
        "training", "Seeds the draw; training: training.seed, for validation rows 0."
    )


class RowSource(Section):
    """One dataset: a hub id, a folder saved by `datasets`, or a json, jsonl, csv, parquet or xlsx file."""

    source: str = Field(
        min_length=1,
        description="Hub id or path; a path is tried relative to project.yaml, then to the working folder.",
    )
    format: Format = key("auto", "How a row is laid out; auto: detected from the columns and reported.")
    split: str = key("train", "Split of a hub dataset or of a folder that holds several.")
    subset: str | None = key(None, "Configuration name of a hub dataset.")
    revision: str | None = key(None, "Branch, tag or commit of a hub dataset.")
    sheet: str | None = key(None, "Name of a spreadsheet's sheet; required if the file has several.")
    columns: dict[Literal["system", "prompt", "completion"], str] | None = key(
        None, "Columns of the prompt and the completion: {prompt: Question, completion: Answer}."
    )
    prompt_template: str | None = key(
        None, "Builds the prompt from columns: 'Premise: {premise}\\nHypothesis: {hypothesis}'."
    )
    where: dict[str, list[str | int | float | bool]] = key(
        {}, "Values that a row must have to be used, by column: {label: [0, 2]}."
    )
    labels: dict[str, str] = key({}, 'Texts that stand for the values of the completion column: {0: "Yes", 2: "No"}.')

    @property
    def lacks_prompt(self) -> bool:
        """Whether neither a column nor a template of its own makes the prompt: data.prompt_template must."""
        return self.columns is not None and "prompt" not in self.columns and self.prompt_template is None

    @model_validator(mode="after")
    def _columns_are_complete(self) -> Self:
        if self.format == "columns" and not self.columns:
            raise ValueError("format 'columns' needs columns: {prompt: ..., completion: ...}")
        if self.columns is not None and "completion" not in self.columns:
            raise ValueError("columns must name the column of the completion: {prompt: Question, completion: Answer}")
        if self.prompt_template is not None and self.columns is None:
            raise ValueError("prompt_template needs columns: {completion: ...} to name the answer")
        if self.labels and self.columns is None:
            raise ValueError("labels needs columns: {completion: ...} to name the column of the labels")
        return self

    @field_validator("labels", mode="before")
    @classmethod
    def _keys_are_texts(cls, labels: object) -> object:
        """YAML reads the keys 0 and true as a number and a truth value; cells are compared as texts."""
        if not isinstance(labels, dict):
            return labels
        texts = Counter(map(cell_text, labels))
        if twice := [text for text, count in texts.items() if count > 1]:
            raise ValueError(f"one text for each value: {twice[0]} has several")
        return {cell_text(cell): text for cell, text in labels.items()}


class SourceConfig(RowSource):
    """A dataset of rows to train on, or to validate on."""

    sample: SampleConfig | None = key(None, "How many of the rows are trained on; unset: all.")
    weight: PositiveNumber = key(
        1.0, "How often each row is seen per epoch: 0.5 draws half of the rows, 2 shows each row twice."
    )


_Source = TypeVar("_Source", bound=RowSource)


class ValidationConfig(Section):
    """Rows that are never trained on: a share of the training rows, or a separate source."""

    fraction: Probability = key(
        0.1, "Share of the rows held out, chosen by a hash of the row, so it is the same in every run."
    )
    source: SourceConfig | None = key(None, "A separate source; fraction is then ignored.")


class CleanConfig(Section):
    """Optional changes to rows, each counted in the data report."""

    strip_markup: bool = key(False, "Remove HTML tags and resolve entities.")
    keep: str | None = key(None, "Characters to keep, as in a regular expression's character class: 'a-zA-Z0-9\\s'.")
    deduplicate: Literal["none", "exact", "near"] = key(
        "none", "Drop repeated rows. exact: equal after folding case and white space; near: similar by MinHash."
    )
    near_threshold: Fraction = key(
        0.8, "Two rows with at least this Jaccard similarity of word 5-grams are near duplicates."
    )
    min_characters: CountOrZero = key(0, "Drop rows whose conversation is shorter than this.")
    max_characters: Count | None = key(None, "Drop rows whose conversation is longer than this.")

    @field_validator("keep")
    @classmethod
    def _keep_compiles(cls, keep: str | None) -> str | None:
        if keep is not None:
            try:
                re.compile(f"[^{keep}]")
            except re.error as error:
                raise ValueError(f"not the inside of a character class ({error})") from None
        return keep


class DecontaminateConfig(Section):
    """Overlap with evaluation items. Source: the n-gram rule of GPT-3's appendix C, arXiv:2005.14165."""

    action: Annotated[Literal["report", "drop", "off"], WrittenOff] = key(
        "report", "What to do with rows that share an n-gram with an evaluation item."
    )
    ngram: Count = key(13, "Consecutive words that must agree; items shorter than this are compared whole.")


class DataConfig(Section):
    """Training rows, validation rows, and how they become token sequences."""

    train: list[SourceConfig] = Field(min_length=1, description="Sources of training rows, mixed by weight.")
    validation: ValidationConfig = key(ValidationConfig(), "Rows used for validation loss and for generations.")
    max_length: Count | Literal["auto"] = key(
        "auto",
        "Maximum tokens per sequence; longer ones are truncated at the end and counted. auto: what the base takes, at "
        "most 1024.",
    )
    prompt_template: str | None = key(
        None,
        "Builds the prompt of every source, and of every set of evaluation.answers, whose columns name no prompt; "
        "several of them in search.space are prompt variants.",
    )
    template: Literal["chat", "plain"] = key(
        "chat", "chat: format turns with the chat template; plain: prompt, completion, end token."
    )
    separator: str | None = key(
        None,
        "Text between prompt and answer if template is plain; unset: a line break where the two would touch. The model "
        "learns to write it.",
    )
    clean: CleanConfig = key(CleanConfig(), "Cleaning steps.")
    decontaminate: DecontaminateConfig = key(DecontaminateConfig(), "Overlap with evaluation items.")
    max_bad_rows: Probability = key(0.01, "The run stops if a larger share of a dataset's rows is unusable.")

    def templated(self, source: _Source) -> _Source:
        """The source with data.prompt_template where nothing of its own makes the prompt."""
        own = {"prompt_template": self.prompt_template}
        return source.model_copy(update=own) if source.lacks_prompt else source

    def length(self, taken: int | None) -> int:
        """max_length in tokens, given how many the base takes; None if that is unknown."""
        if self.max_length != "auto":
            return self.max_length
        return min(_USUAL_LENGTH, taken or _USUAL_LENGTH)

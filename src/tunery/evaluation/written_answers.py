"""Sets of prompts with references as tasks of lm-eval: the model writes, and each answer is measured by itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask

from tunery.config.data import CleanConfig, cell_text
from tunery.config.evaluation import AnswersConfig
from tunery.data.cells import clean_cells
from tunery.data.clean import cleaned_text, filled_prompt
from tunery.data.layouts.convert import to_conversations
from tunery.data.reading.load import load_rows
from tunery.data.reading.rows import Row, is_blank
from tunery.data.reading.selection import select
from tunery.data.rendering.written_out import written_out
from tunery.errors import Fault, TaskError
from tunery.evaluation.semantic import encoder, semantic_f1
from tunery.evaluation.text_metrics import both_sides, corpus_bleu, of_answer
from tunery.evaluation.written_text import WrittenText
from tunery.records.rows import Conversation

_LESS_IS_BETTER = ("repetition_rate", "both_sides_rate")
_NOT_OF_TEXT = ("semantic", "both_sides_rate")  # metrics that need more than the two texts
_SHOWN = 5
_VERSION = 1.0  # of how answers are asked and measured here


class WrittenAnswers(ConfigurableTask):  # type: ignore[misc]
    """A set of prompts as lm-eval's evaluator takes it.

    Args:
        answers: The set.
        folder: Of project.yaml.
        clean: data.clean, whose steps that change texts are taken with prompts; references stay as they are written.
        taught: Whether data.prompt_template makes the prompts: models that were taught in other words are then asked
            the same set.

    Raises:
        DataError: If its rows cannot be read.
        TaskError: If a row cannot be asked, or there is no model for the metric `semantic`.
    """

    def __init__(
        self, answers: AnswersConfig, folder: Path, clean: CleanConfig | None = None, taught: bool = False
    ) -> None:
        from datasets import Dataset

        self.metrics = list(answers.metrics)
        self.semantic_model = (folder / Path(answers.semantic_model or "").expanduser()).absolute()
        if "semantic" in self.metrics:
            encoder(self.semantic_model)
        documents = _documents(answers, folder, clean or CleanConfig())
        self.wording = _digest([one["messages"] for one in documents]) if taught else ""
        super().__init__(
            config={
                "task": answers.name,
                "custom_dataset": lambda **_: {"test": Dataset.from_list(documents)},
                "test_split": "test",
                "output_type": "generate_until",
                "doc_to_text": "prompt",
                "doc_to_target": "reference",
                "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": answers.max_new_tokens},
                "num_fewshot": 0,
                "metadata": {"version": _VERSION, **self._asked(documents)},
            }
        )

    def identity(self, document: Mapping[str, Any]) -> object:
        """What makes a document the same item under several prompt templates: its row."""
        return document.get("row", document)

    def fewshot_context(
        self,
        doc: Mapping[str, Any],
        num_fewshot: int,
        apply_chat_template: bool = False,
        chat_template: Callable[..., str] | None = None,
        **_: Any,
    ) -> str:
        """The prompt, through the chat template or as it stands.

        Raises:
            TaskError: If the template leaves something of it out.
        """
        messages = json.loads(doc["messages"])
        if not apply_chat_template or chat_template is None:
            return str(doc["prompt"])
        text = chat_template(messages)
        for message in messages:
            if message["content"].strip() not in text:
                rule = f"leaves out a {message['role']} text, {message['content'].strip()[:60]!r}"
                raise TaskError(f"evaluation.answers: {self.task_name}", f"the chat template {rule}.")
        return text

    def process_results(self, doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
        """What is measured of one answer."""
        answer, reference = str(results[0]).strip(), doc["reference"].strip()
        values: dict[str, Any] = of_answer(answer, reference, [one for one in self.metrics if one not in _NOT_OF_TEXT])
        if "semantic" in self.metrics:
            values["semantic"] = semantic_f1(answer, reference, self.semantic_model)
        if "both_sides_rate" in self.metrics:
            written = results[0]
            assert isinstance(written, WrittenText), "Scorer writes answers that know how they ended"
            values["both_sides_rate"] = float(both_sides(written.raw, written.stopped, written.headers))
        if "bleu" in self.metrics:
            values["corpus_bleu"] = (answer, reference)
        return values

    def aggregation(self) -> dict[str, Callable[..., float]]:
        """How the answers' values become the score; corpus BLEU stands beside the mean of the sentences'."""
        means: dict[str, Callable[..., float]] = dict.fromkeys(self.metrics, mean)
        return means | ({"corpus_bleu": corpus_bleu} if "bleu" in self.metrics else {})

    def higher_is_better(self) -> dict[str, bool]:
        """Of each metric."""
        return {name: name not in _LESS_IS_BETTER for name in self.aggregation()}

    def _asked(self, documents: Sequence[Mapping[str, str]]) -> dict[str, str]:
        """What decides the scores beside settings and wording: rows, and the weights of the model that compares."""
        rows = [{"row": one["row"], "reference": one["reference"]} if self.wording else one for one in documents]
        identity = {"metrics": ", ".join(self.metrics), "rows": _digest(rows)}
        if "semantic" in self.metrics:
            files = sorted(self.semantic_model.glob("*.safetensors")) + sorted(self.semantic_model.glob("config.json"))
            digest = hashlib.sha256()
            for file in files:
                digest.update(file.read_bytes())
            identity["semantic_model"] = digest.hexdigest()[:16]
        return identity


def _digest(texts: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:16]


def _documents(answers: AnswersConfig, folder: Path, clean: CleanConfig) -> list[dict[str, str]]:
    rows = select(load_rows(answers, folder), answers)
    cells = clean_cells(rows, answers, clean)
    converted = to_conversations(cells.rows, answers, 0)
    where, bad = f"evaluation.answers: {answers.name}", [*converted.bad, *cells.drops]
    if bad:
        named = "; ".join(f"{drop.origin}: {drop.reason}" for drop in bad[:_SHOWN])
        rule = f"rows that all have a prompt and a reference, but {len(bad)} have not: {named}"
        raise TaskError(where, Fault("source", rule, answers.source, "Mend them, or leave them out with where."))
    if not converted.conversations:
        raise TaskError(where, Fault("source", "one with at least one row", answers.source))
    documents = [_document(written_out(one), clean, answers) for one in converted.conversations]
    if answers.prompt_template is None:
        return documents
    origins = {row.origin: row for row in rows.rows}
    return [
        document | {"row": _row(origins[one.origin])}
        for document, one in zip(documents, converted.conversations, strict=True)
    ]


def _row(row: Row) -> str:
    """A row by its cells, as texts that do not depend on the kind of file."""
    cells = {name: cell_text(cell) for name, cell in row.values.items() if not is_blank(cell)}
    return hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()[:16]


def _document(conversation: Conversation, clean: CleanConfig, answers: AnswersConfig) -> dict[str, str]:
    *before, answer = conversation.messages
    filled = filled_prompt(before) if answers.prompt_template is not None else None
    asked = ((one.role, one.content if one is filled else cleaned_text(one.content, clean)) for one in before)
    messages = [{"role": role, "content": content} for role, content in asked]
    return {
        "messages": json.dumps(messages, ensure_ascii=False),
        "prompt": "\n".join(message["content"] for message in messages),
        "reference": answer.content,
    }

"""lm-eval's Hugging Face model over one that is already loaded. Imported late: it loads torch and lm-eval."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs

from tunery.errors import Fault, TaskError
from tunery.evaluation import shared_context
from tunery.evaluation.document_rows import DocumentRow, RowGroup, grouped, rows_of
from tunery.evaluation.finite import finite_logits, require_finite
from tunery.evaluation.generate import stop_ids
from tunery.evaluation.in_context import too_long
from tunery.evaluation.remembered import Remembered
from tunery.evaluation.written_text import WrittenText, role_headers
from tunery.reporting.pace import Pace

_LOG = logging.getLogger(__name__)
# Nats a token by which the same text may differ in two batches; 16-bit logits near 20 are off by up to 0.08.
_TOLERANCE, _TOLERANCE_16_BIT = 1e-3, 0.1

Answer = TypeVar("Answer")


class _Answered:
    """In place of lm-eval's cache, which is told of each answer as soon as there is one."""

    pace: Pace | None = None

    def __init__(self) -> None:
        self.tokens: Sequence[int] = ()  # that were decoded last
        self.written: dict[tuple[str, str], Sequence[int]] = {}  # by context and settings of a generation

    def add_partial(self, kind: str, request: tuple[Any, ...], answer: object) -> None:
        """One request is answered."""
        if kind == "generate_until":
            self.written[_generation(request)] = self.tokens
        self.advance(1)

    def advance(self, requests: int) -> None:
        """Several are answered."""
        if self.pace is not None:
            self.pace.advance(requests)


def _generation(request: tuple[Any, ...]) -> tuple[str, str]:
    context, settings = request
    return str(context), repr(settings)


class Scorer(HFLM):  # type: ignore[misc]
    """HFLM that sums log-likelihoods in fp32, tokenises nothing twice, and leaves model and tokenizer alone.

    Options of one document share their context's row where the model allows it; see `shared_context`.

    Args:
        model: A causal language model, with or without a PEFT adapter.
        tokenizer: Its tokenizer.
        batch_size: Requests in one forward pass.
        encoded: Token ids of earlier scorings with the same tokenizer; grows.
        chat_template: Whether generations end at the chat template's end of turn.
        dev: Numbers of each task's dev documents. They never share a batch with locked ones: a batch's width decides
            the last bits of its sums, and a score on dev items must not depend on whether others were scored too.
        examples: Solved examples of a context that no prompt may lose; 0: prompts are cut, and `cut` says so.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        batch_size: int,
        encoded: dict[Any, Any],
        chat_template: bool,
        dev: Mapping[str, Container[int]] = MappingProxyType({}),
        examples: int = 0,
    ) -> None:
        with _keeping_weights_tied_as_they_are(model):
            # softmax_dtype: in bf16 a sum of log-likelihoods near 350 is off by up to 0.85.
            super().__init__(
                pretrained=model,
                tokenizer=tokenizer if tokenizer.pad_token_id is not None else copy.deepcopy(tokenizer),
                batch_size=batch_size,
                softmax_dtype="float32",
            )
        self._encoded, self._dev, self._examples = encoded, dev, examples
        self._stop_ids = stop_ids(model, tokenizer) if chat_template else []
        self._ends = {*stop_ids(model, tokenizer), self.eot_token_id} - {None}
        self._headers = role_headers(tokenizer, self._ends) if chat_template else ()
        self._longest = shared_context.longest_request(model, self.max_length)
        # (task, number of the document) -> tokens that its longest prompt lost at its beginning: lm-eval cuts what is
        # longer than the model takes, without a word, and of a few-shot prompt that is the first examples.
        self.cut: dict[tuple[str, int], int] = {}
        self.remembered: Remembered | None = None  # of a scoring in blocks
        self._agreed: dict[bool, bool] = {}  # whether rows are answered as stock does, beneath a kept beginning or not
        self.cache_hook = self._answered = _Answered()

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Log-likelihoods of continuations, in nats, and whether each is what greedy decoding would write.

        Raises:
            NonFiniteScore: If one is no number.
        """
        with self._paced(requests):
            answers = self._once(requests, lambda new: self._apart(new, self._loglikelihood))
        require_finite(requests, [value for value, _ in answers])
        return answers

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Log-likelihoods of whole texts, in nats.

        Raises:
            NonFiniteScore: If one is no number.
        """
        with self._paced(requests):
            values = self._once(requests, lambda new: self._apart(new, self._rolling))
        require_finite(requests, values)
        return values

    def of_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Log-likelihoods in nats of continuations after contexts, taken as they are; no task asks them."""
        requests = [
            Instance("loglikelihood", {}, pair, number, metadata=("", number, 1)) for number, pair in enumerate(pairs)
        ]
        return [value for value, _ in self.loglikelihood(requests)]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[WrittenText]:
        """Answers, each cut at its task's stop texts, as `WrittenText`.

        Raises:
            NonFiniteScore: If the model's logits are no numbers.
            TaskError: If the longest answer leaves no room for a prompt.
        """
        return self._once(requests, self._write)

    def _write(self, requests: list[Any]) -> list[WrittenText]:
        answer = super().generate_until
        for request in requests:
            context, options = request.args
            most = normalize_gen_kwargs(options, self.max_gen_toks)["max_gen_toks"]
            if most >= self.max_length:
                rule = f"below {self.max_length}, the tokens that the model takes, so that a prompt has room"
                raise TaskError(request.task_name, Fault("tokens of its longest answer", rule, most))
            self._note_cut(request, len(self.tok_encode(context)) - (self.max_length - most))
        with self._paced(requests):
            texts = self._apart(requests, lambda part: list(answer(part, disable_tqdm=True)))
        written = [self._written(request, text) for request, text in zip(requests, texts, strict=True)]
        self._answered.written.clear()
        return written

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """The text of token ids; those of an answer are kept until its request is known."""
        if isinstance(tokens, list):
            self._answered.tokens = tokens
        return str(super().tok_decode(tokens, skip_special_tokens=skip_special_tokens))

    def _written(self, request: Any, text: str) -> WrittenText:
        tokens = self._answered.written[_generation(request.args)]
        return WrittenText.of(text, tokens, self._ends, self._headers, self.tokenizer)

    def tok_encode(self, string: str, *args: Any, **options: Any) -> list[int]:
        """Token ids of a text, from memory where it was encoded before."""
        key = (string, args, tuple(sorted(options.items())))
        if key not in self._encoded:
            self._encoded[key] = _packed(super().tok_encode(string, *args, **options))
        return list(self._encoded[key].tolist())

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and attention mask of several texts, padded, shape (texts, tokens)."""
        rows = [self.tok_encode(string)[-(left_truncate_len or 0) :] for string in strings]
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            span = slice(width - len(row), width) if padding_side == "left" else slice(0, len(row))
            ids[place, span], mask[place, span] = torch.tensor(row), 1
        return ids, mask

    def _loglikelihood_tokens(
        self, requests: list[Any], disable_tqdm: bool = True, **options: Any
    ) -> list[tuple[float, bool]]:
        return list(super()._loglikelihood_tokens(requests, disable_tqdm=True, **options))

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **options: Any) -> torch.Tensor:
        if self._stop_ids:
            options.setdefault("eos_token_id", self._stop_ids)
        options["logits_processor"] = finite_logits(self.tokenizer)
        written: torch.Tensor = super()._model_generate(context=context, max_length=max_length, stop=stop, **options)
        return written

    @contextmanager
    def _paced(self, requests: list[Any]) -> Iterator[None]:
        tasks = sorted({request.task_name or "texts" for request in requests})
        items = len({(request.task_name, request.doc_id) for request in requests})
        what = tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks"
        self._answered.pace = Pace(f"scoring {what}", items, "items", items / max(1, len(requests)))
        try:
            yield
        finally:
            self._answered.pace = None

    def _once(self, requests: list[Any], answer: Callable[[list[Any]], list[Answer]]) -> list[Answer]:
        return answer(requests) if self.remembered is None else self.remembered.ask(requests, answer)

    def _apart(self, requests: list[Any], answer: Callable[[list[Any]], list[Answer]]) -> list[Answer]:
        """Answers of dev requests and of the others, each split batched separately, in the order of the requests."""
        if not self._dev:
            return answer(requests)
        answers: dict[int, Answer] = {}
        is_dev = [request.doc_id in self._dev.get(request.task_name, ()) for request in requests]
        for dev in (True, False):
            part = [place for place, one in enumerate(is_dev) if one == dev]
            if part:
                answers |= zip(part, answer([requests[place] for place in part]), strict=True)
        return [answers[place] for place in range(len(requests))]

    def _loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Requests of a document in one row where they fit; the others one by one."""
        pairs = [self._pair(*request.args[:2]) for request in requests]
        for request, (_, before, after) in zip(requests, pairs, strict=True):
            self._note_cut(request, len(before) + len(after) - (self.max_length + 1))
        documents = [(request.task_name, request.doc_id) for request in requests]
        rows = rows_of(documents, [pair[1:] for pair in pairs], self._longest)
        groups = self._usable(grouped(rows, lambda row: requests[next(iter(row.options))].task_name), rows)
        answers: dict[int, tuple[float, bool]] = {}
        for group in groups:
            answers |= self._answer(group, self._answered.advance)
        alone = [place for place in range(len(pairs)) if place not in answers]
        answers |= zip(alone, self._loglikelihood_tokens([pairs[place] for place in alone]), strict=True)
        return [answers[place] for place in range(len(pairs))]

    def _rolling(self, requests: list[Any]) -> list[float]:
        """A batch of texts at a time: lm-eval tells of none before it has them all."""
        parts = (requests[first : first + self.batch_size] for first in range(0, len(requests), self.batch_size))
        roll = super().loglikelihood_rolling
        return [value for part in parts for value in roll(part, disable_tqdm=True)]

    def _note_cut(self, request: Any, tokens: int) -> None:
        if tokens > 0 and self._examples:
            raise too_long(request.task_name, self.max_length + tokens, self.max_length, self._examples)
        if tokens > 0:
            key = (request.task_name, request.doc_id)
            self.cut[key] = max(tokens, self.cut.get(key, 0))

    def _usable(self, groups: list[RowGroup], rows: list[DocumentRow]) -> list[RowGroup]:
        """The groups if the model answers their first row as stock does, else rows without a prefix, else nothing."""
        for some in (groups, [RowGroup((), rows)]):
            beneath = bool(some[0].prefix) if rows else False
            if rows and beneath not in self._agreed:
                self._agreed[beneath] = self._agrees(some[0])
            if rows and self._agreed[beneath]:
                return some
        return []

    def _agrees(self, group: RowGroup) -> bool:
        """Whether the options of a group's first row get what each gets alone, as far as the precision allows."""
        row = group.rows[0]
        context = [*group.prefix, *row.context]
        stock = self._loglikelihood_tokens([(None, context, option) for option in row.options.values()])
        tolerance = _TOLERANCE if self.model.get_input_embeddings().weight.dtype == torch.float32 else _TOLERANCE_16_BIT
        found = self._answer(RowGroup(group.prefix, [row])).values()
        for (ours, _), (theirs, _), option in zip(found, stock, row.options.values(), strict=True):
            if abs(ours - theirs) > tolerance * len(option):
                beneath = " beneath a kept beginning" if group.prefix else ""
                _LOG.warning("options are scored apart: in one row%s %.4f nats, alone %.4f", beneath, ours, theirs)
                return False
        return True

    def _answer(self, group: RowGroup, done: Callable[[int], None] = lambda _: None) -> dict[int, tuple[float, bool]]:
        return shared_context.answer(self.model, group, self.batch_size, self.device, self.tokenizer.pad_token_id, done)

    def _pair(self, context: str, continuation: str) -> tuple[tuple[str, str], list[int], list[int]]:
        """As lm-eval's `loglikelihood`: after nothing, a continuation follows the prefix token."""
        key = (context, continuation)
        if key not in self._encoded:
            if context:
                before, after = self._encode_pair(context, continuation)
            else:
                ids = self.tok_encode(continuation, add_special_tokens=False)
                own = ids[0] == self.prefix_token_id
                before, after = (ids[:1], ids[1:]) if own else ([self.prefix_token_id], ids)
            self._encoded[key] = (_packed(before), _packed(after))
        before, after = self._encoded[key]
        return key, before.tolist(), after.tolist()


def _packed(ids: list[int]) -> np.ndarray[Any, np.dtype[np.int32]]:
    """4 bytes a token instead of Python's 36: MMLU with five examples is 40 MB, not 350."""
    return np.asarray(ids, dtype=np.int32)


@contextmanager
def _keeping_weights_tied_as_they_are(model: Any) -> Iterator[None]:
    """HFLM ties embeddings and output head when it is built, which could undo what an adapter made of them."""
    model.tie_weights = lambda *_args, **_options: None
    try:
        yield
    finally:
        del model.tie_weights

"""A leaf task as it is scored: its documents, the identity of each item, and requests that are built once."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from tunery.data.context import Context
from tunery.errors import TaskError
from tunery.evaluation.few_shot import FewShot, draw
from tunery.evaluation.in_context import after_context, with_turns

Split = Literal["all", "dev", "locked"]
# Where lm-eval's tasks keep a text that several questions are about: BoolQ and DROP, SQuAD, RACE, CoQA.
_PASSAGES = ("passage", "context", "article", "story")


@dataclass
class Leaf:
    """One lm-eval task with its documents."""

    name: str  # the task's name
    task: Any  # lm-eval's Task; it keeps the requests of its last scoring, so it is only lent out by `lent`
    limit: int | None  # score only this many documents, from the first
    context: Context | None = None  # what stands before every document; None: nothing
    _requests: dict[int, list[Any]] = field(default_factory=dict, repr=False)
    _built_for: object = field(default=None, repr=False)

    @cached_property
    def documents(self) -> list[Any]:
        """The documents that are scored, as lm-eval's task processes them."""
        return list(itertools.islice(self.task.eval_docs, self.limit))

    @cached_property
    def item_ids(self) -> list[str]:
        """One name an item, the same for every model, process and machine; a repeated item gets a number.

        A row that is asked through several prompt templates is one item.
        """
        named = getattr(self.task, "identity", None)
        documents = map(named, self.documents) if named else self.documents
        return item_ids(self.name, documents, map(self.task.doc_to_target, self.documents))

    @cached_property
    def passages(self) -> list[str]:
        """What text each document asks about, as a short name; empty unless some documents share one."""
        return passages_of(self.documents)

    @cached_property
    def targets(self) -> list[str]:
        """What a right answer is, as text."""
        return [self._target(document) for document in self.documents]

    @cached_property
    def texts(self) -> list[str]:
        """What each document asks, the text that training rows must not repeat."""
        return [self._text(document) for document in self.documents]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """What each document asks, and its right answer."""
        return list(zip(self.texts, self.targets, strict=True))

    @cached_property
    def few_shot(self) -> FewShot:
        """The examples that each document is shown with.

        Raises:
            TaskError: If they do not suffice.
        """
        return draw(self.task, self.documents)

    @cached_property
    def join(self) -> str | None:
        """White space between a prompt's last word and the first of an option that follows it; None if the task's
        options do not follow its prompts."""
        document = self.documents[0] if self.documents else None
        choices = self.choices(document) if document is not None else []
        text = self.task.doc_to_text(document) if choices else None
        if not isinstance(text, str):
            return None
        option = f"{self.task.get_config('target_delimiter')}{choices[0]}"
        return text[len(text.rstrip()) :] + option[: len(option) - len(option.lstrip())]

    def in_context(self, context: Context) -> Leaf:
        """The same documents, with their identities, after solved examples."""
        leaf = copy.copy(self)  # with what is cached of the documents
        leaf.context, leaf._requests, leaf._built_for = context, {}, None
        return leaf

    def choices(self, document: Any) -> list[str]:
        """Options of a multiple-choice document, or nothing."""
        has_options = self.task.OUTPUT_TYPE == "multiple_choice" and self.task.get_config("doc_to_choice") is not None
        return [str(choice) for choice in self.task.doc_to_choice(document)] if has_options else []

    def chosen(self, split: Split, limit: int | None, dev_fraction: float) -> list[int]:
        """Numbers of the documents of a split, the first `limit` of them."""
        ids = enumerate(self.item_ids)
        return [number for number, item in ids if split in ("all", split_of(item, dev_fraction))][:limit]

    def build(self, chat_template: Callable[..., str] | None, key: object) -> None:
        """Build every document's requests, unless they are there for the same `key`.

        Raises:
            TaskError: If a request cannot be built, or the few-shot examples do not suffice.
        """
        if self._built_for == key and self._requests:
            return
        requests = {}
        try:
            with self.few_shot.given() as show:
                for number, document in enumerate(self.documents):
                    show(number)
                    requests[number] = self._build_one(number, document, chat_template)
        except (AssertionError, ValueError) as error:
            raise TaskError(f"evaluation.tasks: {self.name}", f"its requests cannot be built: {error}") from error
        self._requests, self._built_for = requests, key

    @property
    def requests(self) -> list[list[Any]]:
        """Those that were built last, of each document."""
        return list(self._requests.values())

    @property
    def examples(self) -> int:
        """How many stand before every document."""
        return len(self.context.examples) if self.context is not None else 0

    @contextmanager
    def lent(self, numbers: Sequence[int]) -> Iterator[Any]:
        """lm-eval's task, holding just these documents and fresh copies of their requests.

        lm-eval writes answers into requests and some tasks write into documents; copies keep a second scoring equal to
        the first, and documents that were not chosen cost nothing.
        """
        documents = {number: copy.deepcopy(self.documents[number]) for number in numbers}
        requests = [request for number in numbers for request in self._requests[number]]
        self.task._instances = [replace(request, resps=[], filtered_resps={}) for request in requests]
        self.task.build_all_requests = lambda **_options: None
        self.task.doc_iterator = lambda **_options: iter(documents.items())
        try:
            yield self.task
        finally:
            del self.task.build_all_requests, self.task.doc_iterator
            self.task._instances = None

    def _build_one(self, number: int, document: Any, chat_template: Callable[..., str] | None) -> list[Any]:
        chat = chat_template is not None
        if chat_template is not None and self.context is not None:
            chat_template = with_turns(chat_template, self.context)
        context = self.task.fewshot_context(
            document,
            num_fewshot=self.task.get_config("num_fewshot") or 0,
            system_instruction=None,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
            chat_template=chat_template,
            gen_prefix=self.task.doc_to_prefix(document),
        )
        if not chat and self.context is not None:
            context = after_context(self.task, document, context, self.context)
        built = self.task.construct_requests(
            doc=document,
            ctx=context,
            metadata=(self.name, number, self.task.get_config("repeats") or 1),
            apply_chat_template=chat,
            chat_template=chat_template,
        )
        return built if isinstance(built, list) else [built]

    def _target(self, document: Any) -> str:
        target = self.task.doc_to_target(document)
        choices = self.choices(document)
        if getattr(self.task, "multiple_input", False):
            # The options are contexts, the target is what follows each, and the "text" is the right one's number.
            target = self.task.doc_to_text(document)
        if isinstance(target, int) and 0 <= target < len(choices):
            return choices[target]
        return target if isinstance(target, str) else json.dumps(target, ensure_ascii=False, default=str)

    def _text(self, document: Any) -> str:
        text = self.task.doc_to_text(document)
        if isinstance(text, str):
            return text
        # Such a task asks by its options: each is a whole sentence.
        choices = self.task.doc_to_choice(document)
        is_one = isinstance(text, int) and 0 <= text < len(choices)
        return str(choices[text]) if is_one else "\n".join(map(str, choices))


def item_ids(task: str, documents: Iterable[Any], targets: Iterable[Any]) -> list[str]:
    """`item_id` of every document, in order; one that the task holds twice gets a number."""
    seen: dict[str, int] = {}
    names = []
    for document, target in zip(documents, targets, strict=True):
        name = item_id(task, document, target)
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def item_id(task: str, document: object, target: object) -> str:
    """16 hex digits of the SHA-256 of task, document and target: what pairs the answers of two runs."""
    canonical = json.dumps(
        [task, document, target], sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=_plain
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def passages_of(documents: Sequence[Any]) -> list[str]:
    """A short name for the text that each document asks about: answers about one text are not independent.

    Returns:
        16 hex digits of the text's SHA-256 a document; nothing where no two documents share a text.
    """
    rows = [document if isinstance(document, Mapping) else {} for document in documents]
    found = [next((row[key] for key in _PASSAGES if key in row), None) for row in rows]
    texts = [text for text in found if isinstance(text, str) and text]
    if len(texts) < len(found) or len(set(texts)) == len(texts):
        return []
    return [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]


def split_of(item: str, dev_fraction: float) -> Literal["dev", "locked"]:
    """dev for a share `dev_fraction` of the items, decided by the item alone: no other item or run moves it."""
    drawn = int.from_bytes(hashlib.sha256(f"split:{item}".encode()).digest()[:8], "big") / 2**64
    return "dev" if drawn < dev_fraction else "locked"


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return str(value)

"""Few-shot examples as lm-eval draws them, except that an item is never its own example.

lm-eval draws the examples of a task without a split for them from the items that it asks, and leaves the item itself
out only where the task names the same split for both: with five examples, 2 of world_facts' 400 items see their own
answer. It compares whole documents, so that a copy under another id, or one whose options were shuffled anew, passes.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tunery.errors import Fault, TaskError

# lm-eval's own: with it, the examples are the ones that `lm-eval run` draws.
FEW_SHOT_SEED = 1234


@dataclass(frozen=True)
class FewShot:
    """The examples of each document of a task."""

    task: Any  # lm-eval's
    drawn: Sequence[Sequence[Any]] = ()  # by number of the document; empty for a task that shows none
    replaced: int = 0  # examples that were the item itself

    @contextmanager
    def given(self) -> Iterator[Callable[[int], None]]:
        """While inside, the task's sampler gives the examples of the document whose number was said last."""
        if not self.drawn:
            yield lambda _number: None
            return

        def say(number: int) -> None:
            self.task.sampler.sample = lambda **_options: self.drawn[number]

        say(0)
        try:
            yield say
        finally:
            del self.task.sampler.sample


def draw(task: Any, documents: Sequence[Any]) -> FewShot:
    """The examples of each document: lm-eval's draws, in which an item's own copy is replaced by another example.

    All documents, in order: lm-eval draws from one generator, document after document, so an item's examples would
    depend on which others are scored. A replacement is no draw, and leaves the examples of the other items as they are.

    Args:
        task: lm-eval's task, with its number of examples set.
        documents: The documents that are scored.

    Raises:
        TaskError: If there are not enough examples.
    """
    shots = task.get_config("num_fewshot") or 0
    if not shots or not hasattr(task, "sampler"):
        return FewShot(task)
    task.set_fewshot_seed(seed=FEW_SHOT_SEED)
    leaves_out = task.fewshot_cfg.split == task.config.test_split  # lm-eval's own rule
    pool, drawn, replaced = _Pool(task), [], 0
    for document in documents:
        try:
            examples = list(task.sampler.sample(n=shots, eval_doc=document if leaves_out else None))
        except (AssertionError, ValueError) as error:
            raise TaskError(f"evaluation.tasks: {task.task_name}", f"its examples cannot be drawn: {error}") from error
        others = pool.without(document, examples)
        replaced += sum(one is not other for one, other in zip(examples, others, strict=True))
        drawn.append(others)
    return FewShot(task, drawn, replaced)


@dataclass
class _Pool:
    """What the examples of a task are taken from."""

    task: Any
    # By id, with the example itself: the id of one that is gone may be another's.
    _known: dict[int, tuple[Any, frozenset[str]]] = field(default_factory=dict)

    def without(self, document: Any, examples: list[Any]) -> list[Any]:
        """The examples, with the first others of the pool in the places of those that are the document itself."""
        own = _identities(self.task, document, self._columns, is_example=False)
        places = [place for place, example in enumerate(examples) if own & self._of(example)]
        if not places:
            return examples
        shown = {id(example) for example in examples}
        others = (one for one in self._documents if id(one) not in shown and not own & self._of(one))
        kept = list(examples)
        for place in places:
            kept[place] = next(others, None)
            if kept[place] is None:
                most = len(examples) - len(places) + places.index(place)
                rule = f"at most {most}: the task has no more examples that are not the item itself"
                raise TaskError(
                    f"evaluation.tasks: {self.task.task_name}", Fault("evaluation.few_shot", rule, len(examples))
                )
        return kept

    def _of(self, example: Any) -> frozenset[str]:
        if id(example) not in self._known:
            self._known[id(example)] = example, _identities(self.task, example, self._columns, is_example=True)
        return self._known[id(example)][1]

    @functools.cached_property
    def _documents(self) -> list[Any]:
        return list(self.task.sampler.fewshot_docs())

    @functools.cached_property
    def _columns(self) -> tuple[str, ...]:
        """Columns of the scored split before a task's own processing, which may shuffle options."""
        split = self.task.config.test_split or self.task.config.validation_split
        rows = self.task.dataset.get(split) if isinstance(self.task.dataset, Mapping) else None
        return tuple(getattr(rows, "column_names", None) or ())


def _identities(task: Any, document: Any, columns: Sequence[str], *, is_example: bool) -> frozenset[str]:
    """What says that two documents are one item: the row that it was made of; question, options and answer as shown."""
    config = task.fewshot_cfg if is_example else task.config
    choices = task.doc_to_choice(document, config.doc_to_choice) if config.doc_to_choice else None
    target = task.doc_to_target(document, config.doc_to_target)
    found = [[task.doc_to_text(document, config.doc_to_text), choices, target]]
    if columns and isinstance(document, Mapping) and all(name in document for name in columns):
        found.append([document[name] for name in columns])
    return frozenset(json.dumps(one, sort_keys=True, default=str) for one in found)

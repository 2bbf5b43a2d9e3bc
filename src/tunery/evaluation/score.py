"""Score a loaded model on loaded tasks, item by item, and leave it as it was."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from tunery.config.evaluation import EvaluationConfig
from tunery.errors import TaskError
from tunery.evaluation.code import code_allowed
from tunery.evaluation.collect import collect
from tunery.evaluation.eval_mode import memory_checked, undisturbed
from tunery.evaluation.items import Split
from tunery.evaluation.prompts import compiled_once
from tunery.evaluation.remembered import Remembered
from tunery.evaluation.task_manager import quiet
from tunery.evaluation.tasks import Tasks
from tunery.records.scores import TaskResult

if TYPE_CHECKING:
    from tunery.evaluation.lm import Scorer

# Errors of means are analytic; only metrics without a formula (MCC, perplexity) are resampled. 200 draws tell their
# error to 5 %, and lm-eval's own 100,000 take minutes. At 0, it would give no errors at all.
_BOOTSTRAP_ITERS = 200
# A look after each twelfth of the items, but no block so small that a batch is half empty.
_BLOCKS, _SMALLEST_BLOCK = 12, 32


def score_model(
    model: Any,
    tokenizer: Any,
    tasks: Tasks,
    evaluation: EvaluationConfig,
    *,
    split: Split = "all",
    limit: int | None = None,
) -> dict[str, TaskResult]:
    """Score a model on the items of a split.

    Training mode, gradients and random generators are afterwards as they were before; items outside the split cost
    nothing; a second scoring of the same model gives the same numbers, to the last bit; those of dev items are the same
    whether locked ones are scored too or not.

    Args:
        model: A causal language model that is loaded, with or without a PEFT adapter.
        tokenizer: Its tokenizer.
        tasks: Loaded tasks; requests and token ids are kept in them.
        evaluation: The section `evaluation`.
        split: Which items: dev for choosing, locked for reporting, or all.
        limit: Score only this many items of each task's split, from the first.

    Returns:
        Results of every leaf task and of every name in evaluation.tasks that means several.

    Raises:
        OutOfMemory: If a batch does not fit.
        TaskError: If a task's requests cannot be built.
        ConfigError: If the model takes fewer tokens than an item has after its context.
    """
    with quiet(), compiled_once(), memory_checked("scoring", evaluation.batch_size), undisturbed(model):
        lm = _scorer(model, tokenizer, tasks, evaluation)
        fraction = evaluation.dev_fraction
        numbers = {name: leaf.chosen(split, limit, fraction) for name, leaf in tasks.leaves.items()}
        chosen = {name: some for name, some in numbers.items() if some}
        return collect(_evaluate(lm, tasks, chosen), tasks, chosen, fraction, limit, lm.cut) if chosen else {}


def score_in_blocks(
    model: Any,
    tokenizer: Any,
    tasks: Tasks,
    evaluation: EvaluationConfig,
    first: Collection[str],
    is_decided: Callable[[Mapping[str, TaskResult]], bool],
) -> dict[str, TaskResult] | None:
    """As `score_model` on dev items, with a look at the answers after each block of them.

    Args:
        first: Tasks whose items are scored in blocks, in one order that only the items' names decide; the others'
            follow when all of these are scored.
        is_decided: Is given the results on each block; whether scoring ends there.

    Returns:
        The results on all dev items; None if a look ended it.

    Raises:
        OutOfMemory, TaskError, ConfigError: As `score_model`.
    """
    with quiet(), compiled_once(), memory_checked("scoring", evaluation.batch_size), undisturbed(model):
        lm, fraction = _scorer(model, tokenizer, tasks, evaluation), evaluation.dev_fraction
        lm.remembered = Remembered()
        numbers = {name: leaf.chosen("dev", None, fraction) for name, leaf in tasks.leaves.items()}
        for block in _blocks(tasks, numbers, first):
            if is_decided(collect(_evaluate(lm, tasks, block), tasks, block, fraction, None, lm.cut)):
                return None
        chosen = {name: some for name, some in numbers.items() if some}
        # What was answered in blocks is remembered: this only puts the scores together, as one scoring does.
        return collect(_evaluate(lm, tasks, chosen), tasks, chosen, fraction, None, lm.cut) if chosen else {}


def in_drawn_order(item: str) -> str:
    """A key by which items are sorted into an order that is drawn once and for all: it knows nothing of the answers."""
    return hashlib.sha256(f"order:{item}".encode()).hexdigest()


def _blocks(
    tasks: Tasks, numbers: Mapping[str, Sequence[int]], first: Collection[str]
) -> Iterator[dict[str, list[int]]]:
    leaves = dict.fromkeys(leaf for name in first for leaf in tasks.members.get(name, (name,)))
    items = [(name, number) for name in leaves for number in numbers.get(name, ())]
    items.sort(key=lambda item: in_drawn_order(tasks.leaves[item[0]].item_ids[item[1]]))
    size = max(_SMALLEST_BLOCK, math.ceil(len(items) / _BLOCKS))
    for start in range(0, len(items), size):
        block: dict[str, list[int]] = {}
        for name, number in items[start : start + size]:
            block.setdefault(name, []).append(number)
        yield block


def _scorer(model: Any, tokenizer: Any, tasks: Tasks, evaluation: EvaluationConfig) -> Scorer:
    from tunery.evaluation.lm import Scorer

    if tasks.chat_template and not tokenizer.chat_template:
        raise TaskError("evaluation.chat_template", "is true, but the tokenizer has no chat template. Set it to false.")
    key = (tokenizer, tokenizer.chat_template, len(tokenizer))
    dev = {name: frozenset(leaf.chosen("dev", None, evaluation.dev_fraction)) for name, leaf in tasks.leaves.items()}
    encoded, examples = (
        tasks.encoded.for_tokenizer(key),
        max((leaf.examples for leaf in tasks.leaves.values()), default=0),
    )
    lm = Scorer(model, tokenizer, evaluation.batch_size, encoded, tasks.chat_template, dev, examples)
    for leaf in tasks.leaves.values():
        leaf.build(lm.apply_chat_template if tasks.chat_template else None, key)
    return lm


def _evaluate(lm: Scorer, tasks: Tasks, chosen: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    from lm_eval.evaluator import evaluate

    with ExitStack() as stack:
        stack.enter_context(_without_processes())
        stack.enter_context(code_allowed(tasks.allow_code))
        lent = {name: stack.enter_context(tasks.leaves[name].lent(numbers)) for name, numbers in chosen.items()}
        found = evaluate(
            lm=lm,
            task_dict={"tasks": lent, "groups": dict(tasks.groups)},
            bootstrap_iters=_BOOTSTRAP_ITERS,
            log_samples=True,
            apply_chat_template=tasks.chat_template,
            fewshot_as_multiturn=tasks.chat_template,
            confirm_run_unsafe_code=tasks.allow_code,
        )
    return dict(found)


@contextmanager
def _without_processes() -> Iterator[None]:
    """Resample in this process: a pool forked while torch's threads are running may hang."""
    import os

    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        yield
    finally:
        del os.environ["DISABLE_MULTIPROC"]
        if before is not None:
            os.environ["DISABLE_MULTIPROC"] = before

"""Merges an adapter into its base in 16 bit, and measures how far the result is from the trained model."""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunery.errors import Fault, InputError, RefError
from tunery.records.rows import Conversation, Example, Message
from tunery.reporting.pace import Pace

if TYPE_CHECKING:
    from tunery.tracking.flavor.flavor import ModelFacts
    from tunery.tracking.run_facts import RunFacts

Answer = tuple[str, str]  # a question and its reference answer
_MOST = 64  # answers
_MOST_LOGITS = 2**26  # of a batch: 128 MB in 16 bits
# Ships with the package, so it exists even for a model without a project.
_OWN_TASK = "world_facts"

# Mean distance in nats per token. Rounding to 16 bit moved a token of the quickstart by 0.01 on average, of
# SmolLM2-135M by 0.05, of Gemma 3 270M by 0.07: the bound is twice that. NF4 weights are off by more, and an adapter
# trained over them compensates for errors that the merged model's weights do not have.
MERGE_BOUND, AS_TRAINED_BOUND = 0.15, 0.5


@dataclass(frozen=True)
class Distance:
    """How two forms of a model differ on the same answers."""

    of: str
    to: str
    answers: int
    tokens: int
    mean: float  # mean |difference| of log p per token, in nats
    largest: float  # the largest difference of one token
    bound: float  # the largest allowed mean

    def __str__(self) -> str:
        return (
            f"{self.of} against {self.to}: log-likelihood per token differs by {self.mean:.4f} nats on average, "
            f"{self.largest:.4f} at most ({self.answers} answers, {self.tokens} tokens; bound {self.bound:g})"
        )


def distance(
    of: tuple[str, Sequence[Sequence[float]]], to: tuple[str, Sequence[Sequence[float]]], bound: float
) -> Distance:
    """Compare log-likelihoods in nats, one list per answer, one number per token.

    Raises:
        ValueError: If the two sides do not have the same answers.
    """
    (name, left), (other, right) = of, to
    gaps = [abs(a - b) for mine, theirs in zip(left, right, strict=True) for a, b in zip(mine, theirs, strict=True)]
    if not gaps:
        raise ValueError("no tokens to compare")
    return Distance(name, other, len(left), len(gaps), math.fsum(gaps) / len(gaps), max(gaps), bound)


def check(distances: Sequence[Distance], ref: str) -> None:
    """Refuse a merged model that differs too much from the trained one.

    Raises:
        RefError: If a mean is above its bound, or NaN.
    """
    advice = "Nothing was written. Export the adapter (--to adapter), or raise --max-distance."
    faults = [
        Fault(f"the distance of {d.of} to {d.to}", f"at most {d.bound:g} nats per token", round(d.mean, 4), advice)
        for d in distances
        if not d.mean <= d.bound  # NaN too
    ]
    if faults:
        raise RefError(ref, faults)


def merge(folder: Path, place: Path, answers: Sequence[Answer], bound: float, device: str = "auto") -> list[Distance]:
    """Write the whole model in 16 bit, with tokenizer and template, and read it back to compare it.

    The base is loaded unquantised: merging into 4-bit weights would round the sum to 4 bit again. Only one model is in
    memory at a time.

    Args:
        folder: A logged model's files.
        place: An existing folder to write to.
        bound: The most that the merged model may differ from the unmerged one, in mean nats per token.

    Returns:
        The merged model against the unmerged one in 16 bit, and, if it was trained in another form, against that.
    """
    from tunery.tracking.flavor.rebuild import read_facts

    facts = read_facts(folder)
    dtype = "float16" if facts.base.dtype == "float16" else "bfloat16"
    held = facts.base.quantization if facts.base.quantization != "none" else facts.base.dtype
    unmerged = _ask(folder, answers, device, dtype, place)
    merged = _ask_written(place, answers, device, facts)
    pairs = [distance(("merged", merged), (f"{dtype} with the adapter beside it", unmerged), bound)]
    if held != dtype:
        trained = _ask(folder, answers, device)
        pairs.append(distance(("merged", merged), (f"as trained ({held})", trained), max(bound, AS_TRAINED_BOUND)))
    return pairs


def _ask(
    folder: Path, answers: Sequence[Answer], device: str, dtype: str | None = None, place: Path | None = None
) -> list[list[float]]:
    """Log-likelihoods of a logged model, which is then written to `place` in one piece and freed."""
    from tunery.models.adapter import merge_adapter
    from tunery.tracking.flavor.rebuild import rebuild

    rebuilt = rebuild(folder, device, unquantized=dtype)
    model, tokenizer = rebuilt.model, rebuilt.loaded.tokenizer
    found = loglikelihoods(model, tokenizer, answers, rebuilt.facts.template)
    if place is not None:
        if hasattr(model, "merge_and_unload"):  # not if every weight was trained
            model = merge_adapter(model, rebuilt.loaded.identity.model)
        model.save_pretrained(str(place))
        tokenizer.save_pretrained(str(place))
    return found


def _ask_written(place: Path, answers: Sequence[Answer], device: str, facts: ModelFacts) -> list[list[float]]:
    """Log-likelihoods of the written folder, loaded by transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tunery.models.device import resolve_device

    gc.collect()  # a PEFT model refers to itself and would stay in memory beside this one
    trusted = facts.base.trust_remote_code
    where = {"": resolve_device(device)}
    model = AutoModelForCausalLM.from_pretrained(
        place, dtype="auto", device_map=where, use_safetensors=True, trust_remote_code=trusted
    )
    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trusted)
    return loglikelihoods(model.eval(), tokenizer, answers, facts.template)


def loglikelihoods(
    model: Any, tokenizer: Any, answers: Sequence[Answer], template: Literal["chat", "plain"]
) -> list[list[float]]:
    """Log p in nats of each token of each answer, end of turn included, encoded as in training.

    Answers of similar length go through the model together.
    """
    from tunery.evaluation.eval_mode import undisturbed

    examples = _encoded(tokenizer, answers, template)
    found: dict[int, list[float]] = {}
    pace = Pace("comparing forms of the model", len(examples), "answers")
    most = max(1, _MOST_LOGITS // int(model.config.get_text_config().vocab_size))
    with undisturbed(model):
        for batch in _batches([len(example.input_ids) for example in examples], most):
            rows = _of_batch(model, [examples[number] for number in batch])
            found |= dict(zip(batch, rows, strict=True))
            pace.advance(len(batch))
    return [found[number] for number in range(len(examples))]


def _batches(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Numbers of the rows of each batch, the shortest first: at most so many tokens with the padding, or one row."""
    batches: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda it: lengths[it]):
        if batches and (len(batches[-1]) + 1) * lengths[number] <= most:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches


def _of_batch(model: Any, examples: Sequence[Example]) -> list[list[float]]:
    """Padded behind, where no token that is read attends to it."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    device = next(model.parameters()).device
    rows = [torch.tensor(example.input_ids, device=device) for example in examples]
    ids = pad_sequence(rows, batch_first=True)
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    found = []
    for row, example, own in zip(rows, examples, logits, strict=True):
        learned = torch.tensor(example.trained[1:], device=device)
        chosen = own[: len(row) - 1][learned].float().log_softmax(dim=-1)
        found.append([float(value) for value in chosen.gather(1, row[1:][learned, None])[:, 0]])
    return found


def _encoded(tokenizer: Any, answers: Sequence[Answer], template: Literal["chat", "plain"]) -> list[Example]:
    from tunery.config.data import DataConfig, SourceConfig
    from tunery.data.rendering.encode import encode_all

    asked = [
        Conversation((Message("user", question), Message("assistant", answer)), f"item {number}")
        for number, (question, answer) in enumerate(answers, start=1)
    ]
    data = DataConfig(train=[SourceConfig(source="answers")], max_length=2**31, template=template)
    results = encode_all(asked, tokenizer, data, loss_on="completion").results
    return [result for result in results if isinstance(result, Example)]


# ---- questions with reference answers, on which forms of a model are compared


def reference_answers(facts: RunFacts, home: Path | None, most: int = _MOST) -> list[Answer]:
    """The held-out prompts of the run, and items of the tasks that it was scored on.

    Args:
        facts: The run in MLflow.
        home: The project's folder, if it is on this machine.
        most: How many at most.

    Raises:
        RefError: If there are none.
    """
    held_out = [(row["prompt"], row["reference"]) for row in facts.answers if row.get("reference")][: most // 2]
    try:
        return held_out + _of_tasks(facts.config, home or Path.cwd(), most - len(held_out))
    except InputError as error:  # a task's dataset may be unreachable
        if not held_out:
            raise RefError(f"run {facts.run_id}", f"there are no answers to compare on: {error}") from error
        return held_out


def _of_tasks(tree: Mapping[str, Any], home: Path, most: int) -> list[Answer]:
    from tunery.config.evaluation import EvaluationConfig
    from tunery.config.load import project_from
    from tunery.evaluation.tasks import load_tasks

    evaluation, data = EvaluationConfig(tasks=[_OWN_TASK]), None
    if any(tree.get("evaluation", {}).get(key) for key in ("tasks", "answers")):
        project = project_from(deepcopy(dict(tree)), "config/project.yaml", home)
        evaluation, data = project.evaluation, project.data
    limited = evaluation.model_copy(update={"limit": min(evaluation.limit or most, most)})
    leaves = load_tasks(limited, home, chat_template=False, data=data).leaves.values()
    share = -(-most // len(leaves))  # the same number of each, rounded up
    items = [item for leaf in leaves for item in islice(zip(leaf.texts, leaf.targets, strict=True), share)]
    return [(question, answer) for question, answer in items if question.strip() and answer.strip()][:most]

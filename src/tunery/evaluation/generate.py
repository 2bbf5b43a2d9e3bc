"""Write answers to prompts: greedy, in batches, the same in every batch and every run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from tunery.config.data import DataConfig, SourceConfig
from tunery.data.encode import encode_all
from tunery.errors import DataError
from tunery.evaluation.eval_mode import memory_checked, undisturbed
from tunery.evaluation.stopping import stop_ids
from tunery.records import Conversation, Drop, Example, Message

if TYPE_CHECKING:
    import torch

# Any answer will do: only the text before it is used.
_ANSWER = "answer"
_UNCUT_TOKENS = 2**31

NO_RULES: Mapping[str, Any] = {"num_beams": 1, "num_return_sequences": 1} | dict.fromkeys(
    (
        *("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"),
        *("repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size"),
        *("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias", "guidance_scale"),
        *("min_length", "min_new_tokens", "forced_bos_token_id", "forced_eos_token_id"),
        *("exponential_decay_length_penalty", "watermarking_config", "stop_strings", "max_time"),
        *("penalty_alpha", "dola_layers", "prompt_lookup_num_tokens"),
    )
)
"""Options for `generate` that unset what a generation config of the hub brings to bend a model's own probabilities.

Many chat models come with a repetition penalty: with it, a greedy answer is not of the likeliest tokens. A fresh
GenerationConfig would not do, since `generate` fills what that leaves open from the model's.
"""


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    max_new_tokens: int,
    batch_size: int,
    template: Literal["chat", "plain"],
) -> list[str]:
    """Answer each prompt by greedy decoding until the end of the turn.

    Args:
        model: A causal language model that is loaded; left as it was.
        tokenizer: Its tokenizer.
        prompts: Conversations up to the question, each at least one message.
        max_new_tokens: Longest answer, in tokens.
        batch_size: Prompts in one forward pass.
        template: chat: through the chat template, up to the assistant's marker; plain: the contents alone.

    Returns:
        Answers without special tokens, in the order of the prompts.

    Raises:
        DataError: If the chat template refuses a prompt.
        OutOfMemory: If a batch does not fit.
    """
    rows = encode_prompts(tokenizer, prompts, template)
    # Prompts of like length together: the least padding.
    order = sorted(range(len(rows)), key=lambda number: (-len(rows[number]), number))
    answers: dict[int, str] = {}
    stops = stop_ids(model, tokenizer)
    with memory_checked("generating", batch_size), undisturbed(model):
        for numbers in _batches(order, batch_size):
            written = _answer(
                model, [rows[number] for number in numbers], max_new_tokens, stops, _pad_id(tokenizer, stops)
            )
            texts = tokenizer.batch_decode([_until_stop(row, stops) for row in written], skip_special_tokens=True)
            answers |= dict(zip(numbers, texts, strict=True))
    return [answers[number] for number in range(len(rows))]


def encode_prompts(
    tokenizer: Any, prompts: Sequence[Sequence[Message]], template: Literal["chat", "plain"]
) -> list[list[int]]:
    """Token ids of prompts exactly as training saw them: everything before the first learned token of an answer.

    Raises:
        DataError: If the chat template refuses a prompt.
    """
    answer = Message("assistant", _ANSWER)
    asked = [Conversation((*prompt, answer), f"prompt {number}") for number, prompt in enumerate(prompts, start=1)]
    data = DataConfig(train=[SourceConfig(source="prompts")], max_length=_UNCUT_TOKENS, template=template)
    results = encode_all(asked, tokenizer, data, loss_on="completion").results
    faults = [f"{result.origin}: {result.reason}" for result in results if isinstance(result, Drop)]
    if faults:
        raise DataError("prompts", faults)
    return [list(result.input_ids[: result.trained.index(True)]) for result in results if isinstance(result, Example)]


def _answer(
    model: Any, rows: Sequence[Sequence[int]], max_new_tokens: int, stops: list[int], pad: int
) -> list[list[int]]:
    """New token ids of each row, shape (rows, up to max_new_tokens)."""
    ids, mask = _left_padded(rows, pad)
    device = next(model.parameters()).device
    written = model.generate(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        use_cache=True,
        eos_token_id=stops or None,
        pad_token_id=pad,
        **NO_RULES,
    )
    return [list(row) for row in written[:, ids.shape[1] :].tolist()]


def _left_padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, shape (rows, longest): every prompt ends where its answer begins."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def _until_stop(ids: Sequence[int], stops: Sequence[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in stops), len(ids))
    return list(ids[:end])


def _pad_id(tokenizer: Any, stops: Sequence[int]) -> int:
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    return stops[0] if stops else 0


def _batches(order: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]

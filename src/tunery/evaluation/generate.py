"""Write answers to prompts: greedy, in batches, the same in every batch and every run; and where an answer ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, Literal

from tunery.config.data import DataConfig, SourceConfig
from tunery.data.rendering.encode import encode_all
from tunery.errors import DataError
from tunery.evaluation.eval_mode import memory_checked, undisturbed
from tunery.records.rows import Conversation, Drop, Example, Message
from tunery.reporting.pace import Pace

# Any answer will do: only the text around it is used.
_ANSWER = "tunery"
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
    tools: Sequence[str] = (),
) -> list[str]:
    """Answer each prompt by greedy decoding until the end of the turn.

    Args:
        model: A causal language model that is loaded; left as it was.
        tokenizer: Its tokenizer.
        prompts: Conversations up to the question, each at least one message.
        max_new_tokens: Longest answer, in tokens.
        batch_size: Prompts in one forward pass.
        template: chat: through the chat template, up to the assistant's marker; plain: the contents alone.
        tools: Of each prompt, the tools that can be called, as a JSON list; empty for none.

    Returns:
        Answers without special tokens, in the order of the prompts.

    Raises:
        DataError: If the chat template refuses a prompt.
        OutOfMemory: If a batch does not fit.
        NonFiniteScore: If the model's logits are no numbers.
    """
    from tunery.evaluation.finite import finite_logits

    rows = encode_prompts(tokenizer, prompts, template, tools)
    # Prompts of like length together: the least padding.
    order = sorted(range(len(rows)), key=lambda number: (-len(rows[number]), number))
    stops = stop_ids(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else next(iter(stops), 0)
    answers: dict[int, str] = {}
    pace = Pace("writing answers", len(rows), "prompts")
    with memory_checked("generating", batch_size), undisturbed(model):
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            batch = [rows[number] for number in numbers]
            written = _answer(model, batch, max_new_tokens, stops, pad, logits_processor=finite_logits(tokenizer))
            texts = tokenizer.batch_decode(written, skip_special_tokens=True)
            answers |= dict(zip(numbers, texts, strict=True))
            pace.advance(len(numbers))
    return [answers[number] for number in range(len(rows))]


def encode_prompts(
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    template: Literal["chat", "plain"],
    tools: Sequence[str] = (),
) -> list[list[int]]:
    """Token ids of prompts exactly as training saw them: everything before the first learned token of an answer.

    Raises:
        DataError: If the chat template refuses a prompt.
    """
    answer = Message("assistant", "answer")  # any will do: only the text before it is used
    asked = [
        Conversation((*prompt, answer), f"prompt {number}", tools=described)
        for number, (prompt, described) in enumerate(zip(prompts, tools or [""] * len(prompts), strict=True), start=1)
    ]
    data = DataConfig(train=[SourceConfig(source="prompts")], max_length=_UNCUT_TOKENS, template=template)
    results = encode_all(asked, tokenizer, data, loss_on="completion").results
    faults = [f"{result.origin}: {result.reason}" for result in results if isinstance(result, Drop)]
    if faults:
        raise DataError("prompts", faults)
    return [list(result.input_ids[: result.trained.index(True)]) for result in results if isinstance(result, Example)]


def _answer(
    model: Any, rows: Sequence[Sequence[int]], max_new_tokens: int, stops: list[int], pad: int, **options: Any
) -> list[list[int]]:
    """New token ids of each row, up to its stop, shape (rows, up to max_new_tokens)."""
    import torch

    width = max(map(len, rows))  # padded on the left: every prompt ends where its answer begins
    device = next(model.parameters()).device
    written = model.generate(
        input_ids=torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows], device=device),
        attention_mask=torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        use_cache=True,
        eos_token_id=stops or None,
        pad_token_id=pad,
        **NO_RULES,
        **options,
    )
    return [list(takewhile(lambda token: token not in stops, row)) for row in written[:, width:].tolist()]


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """Ids that end an answer, sorted: the tokenizer's, the generation config's and the template's end of turn."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = configured if isinstance(configured, list | tuple) else [configured]
    found = {tokenizer.eos_token_id, end_of_turn(tokenizer), *listed}
    return sorted(int(token) for token in found if token is not None)


def end_of_turn(tokenizer: Any) -> int | None:
    """The special token that the chat template writes after an assistant's answer; None when it writes none.

    A base's end-of-text token is seldom what a chat template closes a turn with, and an answer that is not stopped
    there continues with an invented next question.
    """
    if not tokenizer.chat_template:
        return None
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    _, _, after = str(text).rpartition(_ANSWER)
    ids = tokenizer.encode(after, add_special_tokens=False)
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return ids[0] if ids and ids[0] in special else None

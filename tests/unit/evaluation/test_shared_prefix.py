"""What prompts begin with is run once, and answers are what each option gets in a row of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.unit.evaluation.test_shared_context import alone, causal_only, requests_of

from tunery.evaluation import document_rows, shared_context
from tunery.evaluation.document_rows import RowGroup, grouped, rows_of
from tunery.evaluation.score import score_model
from tunery.evaluation.shared_context import answer, longest_request

SHAPE = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
WIDE = {"intermediate_size": 64, "initializer_range": 0.3}
GROUPED = {**WIDE, "num_key_value_heads": 1}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", GROUPED),
    "mistral": ("MistralForCausalLM", {**GROUPED, "sliding_window": 128}),
    "qwen2": ("Qwen2ForCausalLM", GROUPED),
    "qwen3": ("Qwen3ForCausalLM", {**GROUPED, "head_dim": 16}),
    "gemma3": (
        "Gemma3ForCausalLM",
        {**GROUPED, "head_dim": 16, "sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "phi": ("PhiForCausalLM", WIDE),
    "phi3": ("Phi3ForCausalLM", WIDE),
    "opt": ("OPTForCausalLM", {"ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.3}),
    "gpt_neox": ("GPTNeoXForCausalLM", WIDE),
    "gpt2": ("GPT2LMHeadModel", {"initializer_range": 0.3}),
    "mixtral": ("MixtralForCausalLM", {**GROUPED, "num_local_experts": 4}),
}


def made(name: str) -> Any:
    import transformers

    family, options = SHAPES[name]
    kind = getattr(transformers, family)
    torch.manual_seed(0)
    return kind(kind.config_class(**SHAPE, **options)).eval()


def documents(beginning: int, count: int = 7) -> list[tuple[list[int], list[list[int]]]]:
    """With contexts and options of several lengths after a beginning of so many tokens."""
    drawn = torch.Generator().manual_seed(beginning)

    def tokens(length: int) -> list[int]:
        return torch.randint(3, 99, (length,), generator=drawn).tolist()

    first = tokens(beginning)
    return [(first + tokens(2 + number), [tokens(1 + part) for part in range(4)]) for number in range(count)]


def one_task(_row: Any) -> str:
    return "task"


@pytest.mark.parametrize("name", SHAPES)
def test_every_architecture_answers_beneath_a_kept_beginning_as_in_a_row_of_its_own(name: str) -> None:
    model = made(name)
    keys, pairs = requests_of(documents(60))
    (group,) = grouped(rows_of(keys, pairs, longest_request(model, 256)), one_task)
    assert len(group.prefix) >= 60
    with torch.no_grad():
        found = answer(model, group, 6, "cpu", padding=0)  # several batches follow one beginning
        for place, (context, option) in enumerate(pairs):
            expected, greedy = alone(model, context, option)
            assert found[place] == (pytest.approx(expected, abs=1e-4), greedy)


def test_a_beginning_runs_once_however_many_batches_follow(
    make_llama: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, widths = make_llama(99), []
    forward = type(model).forward

    def watched(self: Any, input_ids: Any, **options: Any) -> Any:
        widths.append(input_ids.shape[1])
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(type(model), "forward", watched)
    keys, pairs = requests_of(documents(60))
    (group,) = grouped(rows_of(keys, pairs, 512), one_task)
    with torch.no_grad():
        answer(model, group, 4, "cpu", padding=0)
    assert [width for width in widths if width >= 60] == [len(group.prefix)]
    assert len(widths) > 2


def test_few_shot_items_score_as_without_a_kept_beginning(
    load: Any, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, evaluation = load("few")
    monkeypatch.setattr(document_rows, "_FEWEST_TOKENS", 4)
    prefixes = seen_prefixes(monkeypatch)
    kept = score_model(model, tokenizer, tasks, evaluation)["few"]
    assert max(prefixes) > 0
    monkeypatch.setattr(document_rows, "_FEWEST_TOKENS", 10_000)
    whole = score_model(model, tokenizer, tasks, evaluation)["few"]
    assert kept.scores["acc"].value == whole.scores["acc"].value
    for ours, theirs in zip(kept.samples["loglikelihoods"], whole.samples["loglikelihoods"], strict=True):
        assert list(ours) == pytest.approx(list(theirs), abs=1e-4)


def test_a_model_that_forgets_its_beginning_is_scored_without_one(
    load: Any, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tasks, evaluation = load("few")
    right = score_model(model, tokenizer, tasks, evaluation)["few"]
    monkeypatch.setattr(document_rows, "_FEWEST_TOKENS", 4)
    sees = shared_context._sees

    def forgetful(parts: torch.Tensor, prefix: int = 0) -> torch.Tensor:
        return sees(parts, prefix) & (torch.arange(prefix + parts.shape[1]) >= prefix)

    monkeypatch.setattr(shared_context, "_sees", forgetful)
    prefixes = seen_prefixes(monkeypatch)
    found = score_model(model, tokenizer, tasks, evaluation)["few"]
    assert "beneath a kept beginning" in caplog.text
    assert prefixes[-1] == 0
    for ours, theirs in zip(found.samples["loglikelihoods"], right.samples["loglikelihoods"], strict=True):
        assert list(ours) == pytest.approx(list(theirs), abs=1e-4)
    monkeypatch.setattr(shared_context, "_sees", causal_only)  # wrong with and without: one by one
    alone = score_model(model, tokenizer, tasks, evaluation)["few"]
    for ours, theirs in zip(alone.samples["loglikelihoods"], right.samples["loglikelihoods"], strict=True):
        assert list(ours) == pytest.approx(list(theirs), abs=1e-4)


def seen_prefixes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each group's prefix that is answered from now on."""
    seen: list[int] = []
    answered = shared_context.answer

    def watched(model: Any, group: RowGroup, *rest: Any) -> Any:
        seen.append(len(group.prefix))
        return answered(model, group, *rest)

    monkeypatch.setattr(shared_context, "answer", watched)
    return seen

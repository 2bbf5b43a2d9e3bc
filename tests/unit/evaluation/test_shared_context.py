"""One row a document gives what one row an option gives, and only where the model allows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lm_eval.models.huggingface import HFLM

from tunery.evaluation import shared_context
from tunery.evaluation.document_rows import RowGroup, rows_of
from tunery.evaluation.lm import Scorer
from tunery.evaluation.score import score_model
from tunery.evaluation.shared_context import answer, longest_request

TOKENS = st.lists(st.integers(1, 300), min_size=1, max_size=6)
DOCUMENTS = st.lists(st.tuples(TOKENS, st.lists(TOKENS, min_size=1, max_size=5)), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def llama(make_llama: Callable[..., Any]) -> Any:
    return make_llama(319)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@given(documents=DOCUMENTS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_option_gets_what_it_gets_in_a_row_of_its_own(llama: Any, batch_size: int, documents: Any) -> None:
    keys, pairs = requests_of(documents)
    rows = rows_of(keys, pairs, widest=512)
    with torch.no_grad():
        found = answer(llama, RowGroup((), rows), batch_size, "cpu", padding=0)
        for place, (context, option) in enumerate(pairs):
            expected, greedy = alone(llama, context, option)
            assert found[place][0] == pytest.approx(expected, abs=1e-4)
            assert found[place][1] == greedy


def test_greedy_options_are_known_as_such(llama: Any) -> None:
    context = [5, 9, 11]
    with torch.no_grad():
        first = int(llama(torch.tensor([context])).logits[0, -1].argmax())
        second = int(llama(torch.tensor([[*context, first]])).logits[0, -1].argmax())
        pairs = [(context, [first, second]), (context, [first]), (context, [second, first])]
        found = answer(llama, RowGroup((), rows_of(["a"] * 3, pairs, 512)), 8, "cpu", padding=0)
    assert [found[place][1] for place in range(3)] == [True, True, first == second]


def test_a_batch_holds_no_more_tokens_than_one_row_an_option_would(llama: Any, monkeypatch: Any) -> None:
    shapes: list[torch.Size] = []
    forward = type(llama).forward

    def watched(self: Any, input_ids: Any, **options: Any) -> Any:
        shapes.append(input_ids.shape)
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(type(llama), "forward", watched)
    documents = [([1] * 20, [[2] * 5] * 4)] * 12
    keys, pairs = requests_of(documents)
    with torch.no_grad():
        answer(llama, RowGroup((), rows_of(keys, pairs, 512)), 8, "cpu", padding=0)
    assert len(shapes) > 1
    assert all(shape.numel() <= 8 * 24 for shape in shapes)


def test_a_large_vocabulary_makes_batches_smaller_and_no_answer_another(llama: Any, monkeypatch: Any) -> None:
    documents = [([number + 1] * 20, [[2] * 5] * 4) for number in range(6)]
    keys, pairs = requests_of(documents)
    rows, heights = RowGroup((), rows_of(keys, pairs, 512)), []
    forward = type(llama).forward

    def watched(self: Any, input_ids: Any, **options: Any) -> Any:
        heights.append(len(input_ids))
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(type(llama), "forward", watched)
    with torch.no_grad():
        together = answer(llama, rows, 64, "cpu", padding=0)
        monkeypatch.setattr(shared_context, "_MOST_LOGITS", 2 * 17 * 319)  # 17 columns are predicted in each row
        monkeypatch.setattr(shared_context, "_READ_AT_ONCE", 7 * 319)
        apart = answer(llama, rows, 64, "cpu", padding=0)
    assert heights == [6, 2, 2, 2]
    for place in range(len(pairs)):
        assert apart[place] == (pytest.approx(together[place][0], abs=1e-5), together[place][1])


def test_models_whose_tokens_cannot_be_masked_one_by_one_are_told_apart(make_llama: Callable[..., Any]) -> None:
    assert longest_request(make_llama(50), 512) == 512
    for name, value in [
        ("_attn_implementation", "eager"),
        ("_attn_implementation", "flash_attention_2"),
        ("layer_types", ["linear_attention", "full_attention"]),
        ("alibi", True),
        ("attention_chunk_size", 64),
    ]:
        model = make_llama(50)
        setattr(model.config, name, value)
        assert longest_request(model, 512) == 0, name


def test_within_a_sliding_window_rows_are_shared_beyond_it_not() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, sliding_window=8, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    assert longest_request(model, 64) == 8
    pairs = [([3, 4, 5], [6, 7, 8]), ([3, 4, 5], [9, 10, 11, 12, 13])]
    with torch.no_grad():
        found = answer(model, RowGroup((), rows_of([0, 0], pairs, 8)), 4, "cpu", padding=0)
        assert found[0][0] == pytest.approx(alone(model, *pairs[0])[0], abs=1e-4)
        assert found[1][0] == pytest.approx(alone(model, *pairs[1])[0], abs=1e-4)


def test_rows_are_shared_up_to_where_positions_follow_from_the_longest_row(make_llama: Callable[..., Any]) -> None:
    """Beyond it, a row scored beside a longer one, or beneath a kept beginning, would be turned otherwise."""
    longrope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    own = {"original_max_position_embeddings": 40}
    for rope, limit in [
        ({"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}, 64),
        ({"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4, **own}, 40),
        ({**longrope, **own}, 40),
        (
            {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
            128,
        ),
    ]:
        model = make_llama(99, max_position_embeddings=64, rope_parameters=dict(rope))
        assert longest_request(model, 128) == limit, rope
        context, short, long = list(range(3, 33)), [5, 6], [7, 8, 9] * 20
        pairs = [(context, short), (context, long), ([*context, 40, 41], short)]
        rows = rows_of([0, 0, 1], pairs, longest_request(model, 128))
        with torch.no_grad():
            found = answer(model, RowGroup((), rows), 8, "cpu", padding=0)
            for place, answered in found.items():
                assert answered[0] == pytest.approx(alone(model, *pairs[place])[0], abs=1e-4), rope


def test_stock_scores_what_a_model_answers_differently_in_a_shared_row(
    load: Any, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tasks, evaluation = load("few")
    right = score_model(model, tokenizer, tasks, evaluation)["few"]
    monkeypatch.setattr(shared_context, "_sees", causal_only)
    found = score_model(model, tokenizer, tasks, evaluation)["few"]
    assert "scored apart" in caplog.text
    assert found.scores["acc"].value == right.scores["acc"].value
    for ours, theirs in zip(found.samples["loglikelihoods"], right.samples["loglikelihoods"], strict=True):
        assert list(ours) == pytest.approx(list(theirs), abs=1e-4)


def test_each_context_runs_once(load: Any, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, evaluation = load("many", batch_size=64)
    one_by_one: list[int] = []
    original = HFLM._loglikelihood_tokens

    def counted(self: Any, requests: Any, *args: Any, **options: Any) -> Any:
        one_by_one.append(len(requests))
        return original(self, requests, *args, **options)

    monkeypatch.setattr(HFLM, "_loglikelihood_tokens", counted)
    rows: list[int] = []
    answered = Scorer._answer

    def watched(self: Any, some: Any, *done: Any) -> Any:
        rows.append(len(some.rows))
        return answered(self, some, *done)

    monkeypatch.setattr(Scorer, "_answer", watched)
    score_model(model, tokenizer, tasks, evaluation, split="dev")
    dev = len(tasks.leaves["many"].chosen("dev", None, evaluation.dev_fraction))
    assert sorted(rows) == [1, dev]  # one row to compare, then every document
    assert sum(one_by_one) == 4  # its options, to compare


def requests_of(documents: Any) -> tuple[list[int], list[Any]]:
    keys = [number for number, (_, options) in enumerate(documents) for _ in options]
    return keys, [(context, option) for context, options in documents for option in options]


def alone(model: Any, context: list[int], option: list[int]) -> tuple[float, bool]:
    logits = model(torch.tensor([[*context, *option][:-1]])).logits[0, len(context) - 1 :].log_softmax(-1)
    picked = logits.gather(1, torch.tensor(option)[:, None])
    return float(picked.sum()), bool((logits.argmax(-1) == torch.tensor(option)).all())


def causal_only(parts: torch.Tensor, prefix: int = 0) -> torch.Tensor:
    width = parts.shape[1]
    return torch.ones(len(parts), 1, width, prefix + width, dtype=torch.bool).tril(prefix)

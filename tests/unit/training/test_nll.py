from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunery.records.rows import Example
from tunery.training.nll import base_fit, target_labels, token_weighted_nll, validation_nll


def by_hand(model: Any, rows: list[Example]) -> float:
    """One row at a time, one token at a time, without padding."""
    total, count = 0.0, 0
    model.eval()
    for row in rows:
        with torch.no_grad():
            logits = model(torch.tensor([row.input_ids])).logits[0].double()
        for place in range(1, len(row.input_ids)):
            if row.trained[place]:
                total -= float(logits[place - 1].log_softmax(-1)[row.input_ids[place]])
                count += 1
    return total / count


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_it_is_the_mean_over_target_tokens_whatever_the_batch_size(bench: Any, batch_size: int) -> None:
    made = bench()
    rows = made.data.train
    found = validation_nll(made.model, rows, batch_size=batch_size, device="cpu")
    assert found == pytest.approx(by_hand(made.model, rows), abs=1e-5)


def test_a_row_without_targets_counts_for_nothing(bench: Any) -> None:
    made = bench()
    rows = list(made.data.validation)
    blank = Example((5, 6, 7), (True, False, False))
    alone = validation_nll(made.model, rows, batch_size=3, device="cpu")
    assert validation_nll(made.model, [*rows, blank], batch_size=3, device="cpu") == pytest.approx(alone, abs=1e-6)


def test_no_target_at_all_is_an_error(bench: Any) -> None:
    with pytest.raises(ValueError, match="no target tokens"):
        validation_nll(bench().model, [Example((5, 6), (False, False))], batch_size=1, device="cpu")


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_left_as_it_was(bench: Any, training: bool) -> None:
    made = bench()
    made.model.train(training)
    validation_nll(made.model, made.data.validation, batch_size=2, device="cpu")
    assert made.model.training is training


def test_dropout_is_off_while_validating(bench: Any) -> None:
    made = bench(dropout=0.9)
    with torch.no_grad():
        for name, parameter in made.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    made.model.train()
    twice = [validation_nll(made.model, made.data.validation, batch_size=2, device="cpu") for _ in range(2)]
    assert twice[0] == twice[1]


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 1000)), min_size=1, max_size=20))
def test_the_weighted_mean_does_not_depend_on_how_batches_are_cut(batches: list[tuple[float, int]]) -> None:
    sums, counts = [nll for nll, _ in batches], [tokens for _, tokens in batches]
    if sum(counts) == 0:
        with pytest.raises(ValueError, match="no target tokens"):
            token_weighted_nll(sums, counts)
        return
    merged = token_weighted_nll([math.fsum(sums)], [sum(counts)])
    assert token_weighted_nll(sums, counts) == pytest.approx(merged, rel=1e-12)


@given(st.lists(st.tuples(st.integers(0, 999), st.booleans()), min_size=1))
def test_labels_keep_learned_tokens_but_never_the_first(tokens: list[tuple[int, bool]]) -> None:
    labels = target_labels(Example(tuple(t for t, _ in tokens), tuple(kept for _, kept in tokens)))
    assert labels[0] == -100
    assert labels[1:] == [token if kept else -100 for token, kept in tokens[1:]]


def test_the_fit_of_a_base_is_its_loss_beside_the_entropy_of_its_predictions(bench: Any) -> None:
    made = bench()
    rows = made.data.train
    found = base_fit(made.model, rows, batch_size=3, device="cpu")
    entropies = []
    for row in rows:
        with torch.no_grad():
            chances = made.model(torch.tensor([row.input_ids])).logits[0].double().softmax(-1)
        places = [place - 1 for place in range(1, len(row.input_ids)) if row.trained[place]]
        entropies += [-math.fsum(p * math.log(p) for p in chances[place].tolist() if p > 0) for place in places]
    assert found.nll == pytest.approx(by_hand(made.model, rows), abs=1e-5)
    assert found.entropy == pytest.approx(sum(entropies) / len(entropies), abs=1e-5)
    assert (found.tokens, found.vocabulary) == (len(entropies), made.model.config.vocab_size)

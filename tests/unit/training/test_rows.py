from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from tunery.errors import ConfigError, DataError
from tunery.records.rows import Example
from tunery.training.rows import require_exact_packing, training_rows


def rows_of(lengths: list[int]) -> list[Example]:
    return [
        Example(tuple([10 + index] * length), (False, *[True] * (length - 1))) for index, length in enumerate(lengths)
    ]


def test_masks_become_labels_row_by_row() -> None:
    blank, row = Example((5, 6), (True, False)), Example((5, 6, 7), (False, True, True))
    rows = training_rows([blank, row], packing=False, max_length=8, seed=0)
    assert rows[0] == {"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "place": 1}


def test_rows_without_a_target_are_left_out_and_none_left_is_an_error() -> None:
    blank = Example((5, 6), (True, False))
    assert len(training_rows([blank, *rows_of([3])], packing=False, max_length=8, seed=0)) == 1
    with pytest.raises(DataError, match="no row has a token to learn"):
        training_rows([blank], packing=False, max_length=8, seed=0)


def test_packing_keeps_every_row_whole_with_its_own_mask() -> None:
    lengths = [7, 3, 5, 2, 6, 4, 8, 2]
    packed = training_rows(rows_of(lengths), packing=True, max_length=10, seed=0)
    found = []
    for row in packed:
        assert len(row["input_ids"]) <= 10
        for start, length in zip(itertools.accumulate([0, *row["seq_lengths"]]), row["seq_lengths"], strict=False):
            tokens, labels = (row[key][start : start + length] for key in ("input_ids", "labels"))
            assert len(set(tokens)) == 1
            assert labels == [-100, *tokens[1:]]
            found.append(length)
    assert sorted(found) == sorted(lengths)
    assert len(packed) < len(lengths)


def test_packed_rows_of_a_llama_do_not_see_each_other(bench: Any) -> None:
    made = bench()
    require_exact_packing(made.model, made.data.train, "cpu")


def test_an_architecture_that_mixes_packed_rows_is_refused(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench()
    base = made.model.get_base_model()
    honest = type(base).forward

    def careless(self: Any, *args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        return honest(self, *args, **kwargs)  # attention never learns where a row begins

    monkeypatch.setattr(type(base), "forward", careless)
    with pytest.raises(ConfigError, match=r"training\.packing is True.*do not keep packed rows apart"):
        require_exact_packing(made.model, made.data.train, "cpu")


def test_a_recurrent_architecture_is_refused() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=1, initializer_range=0.5))
    with pytest.raises(ConfigError, match=r"training\.packing"):
        require_exact_packing(model, rows_of([6, 6]), "cpu")


def test_packing_draws_no_progress_bar(capfd: pytest.CaptureFixture[str]) -> None:
    training_rows(rows_of([7, 3, 5]), packing=True, max_length=10, seed=0)
    assert capfd.readouterr() == ("", "")

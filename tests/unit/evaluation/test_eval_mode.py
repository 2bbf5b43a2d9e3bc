"""A model is looked at without leaving a trace."""

from __future__ import annotations

import torch
from torch import nn

from tunery.evaluation.eval_mode import undisturbed


def test_gradients_and_modes_are_as_before() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    model[1].eval()
    with undisturbed(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
    assert [module.training for module in model.modules()] == [True, True, False]
    assert torch.is_grad_enabled()


def test_the_generators_go_on_where_they_were() -> None:
    model = nn.Linear(4, 4)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with undisturbed(model):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with undisturbed(model):
        assert torch.equal(torch.rand(3), first)

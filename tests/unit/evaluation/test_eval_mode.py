"""A model is looked at without leaving a trace, and 16-bit products are those of PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from tunery.evaluation.eval_mode import undisturbed


def layer(dtype: torch.dtype, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(96, 64, bias=bias).to(dtype)


@pytest.fixture(params=["AVX2", "AVX512"])
def capability(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)
    return str(request.param)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "bits"), [(torch.bfloat16, 8), (torch.float16, 11)])
def test_a_16_bit_product_is_the_exact_one_rounded_once(
    capability: str, dtype: torch.dtype, bits: int, bias: bool
) -> None:
    model, values = layer(dtype, bias=bias), torch.randn(3, 5, 96).to(dtype)
    with undisturbed(model):
        found = model(values)
        by_name = functional.linear(values, weight=model.weight, bias=model.bias)
        all_by_name = functional.linear(input=values, weight=model.weight, bias=model.bias)
    offset = 0 if model.bias is None else model.bias.double()
    exact = values.double() @ model.weight.double().T + offset
    assert found.dtype == dtype
    assert torch.allclose(found.double(), exact, rtol=2.0**-bits, atol=1e-6)
    assert torch.equal(found, by_name)
    assert torch.allclose(all_by_name.double(), exact, rtol=2.0 ** (1 - bits), atol=1e-2)


def test_a_float32_product_is_left_alone(capability: str) -> None:
    model, values = layer(torch.float32), torch.randn(7, 96)
    with undisturbed(model):
        found = model(values)
    assert torch.equal(found, functional.linear(values, model.weight, model.bias))


def test_gradients_and_modes_are_as_before() -> None:
    model = nn.Sequential(layer(torch.float32), nn.Dropout(0.5))
    model[1].eval()
    with undisturbed(model):
        assert not model.training
        assert not torch.is_grad_enabled()
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert torch.is_grad_enabled()

"""16-bit products are the exact ones, rounded once, whatever the CPU can do."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from tunery.models import wide_products as module
from tunery.models.wide_products import wide_products

NARROW = [pytest.param(torch.bfloat16, 8, id="bfloat16"), pytest.param(torch.float16, 11, id="float16")]


def layer(dtype: torch.dtype, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(96, 64, bias=bias).to(dtype)


def exact(model: nn.Linear, values: torch.Tensor) -> torch.Tensor:
    offset = 0 if model.bias is None else model.bias.double()
    product: torch.Tensor = values.double() @ model.weight.double().T + offset
    return product


@pytest.fixture(params=["AVX2", "AVX512"], autouse=True)
def capability(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)
    return str(request.param)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "bits"), NARROW)
def test_a_16_bit_product_is_the_exact_one_rounded_once(dtype: torch.dtype, bits: int, bias: bool) -> None:
    model, values = layer(dtype, bias=bias), torch.randn(3, 5, 96).to(dtype)
    with torch.no_grad(), wide_products(model):
        found = model(values)
        by_name = functional.linear(input=values, weight=model.weight, bias=model.bias)
    assert found.dtype == by_name.dtype == dtype
    assert torch.allclose(found.double(), exact(model, values), rtol=2.0**-bits, atol=1e-6)
    assert torch.allclose(by_name.double(), exact(model, values), rtol=2.0 ** (1 - bits), atol=1e-2)


@pytest.mark.parametrize("bias", [True, False])
def test_a_large_weight_is_converted_in_parts(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, values = layer(torch.bfloat16, bias=bias), torch.randn(7, 96).to(torch.bfloat16)
    with torch.no_grad(), wide_products(model):
        whole = model(values)
        monkeypatch.setattr(module, "_MOST_CONVERTED", 10 * 96)  # 64 rows: six parts of 10, and one of 4
        parts = model(values)
    assert parts.shape == whole.shape
    assert torch.allclose(parts.double(), exact(model, values), rtol=2.0**-8, atol=1e-6)


def test_other_products_are_left_alone() -> None:
    model, values = layer(torch.float32), torch.randn(7, 96)
    vector = torch.randn(96).to(torch.bfloat16)
    expected, dot = functional.linear(values, model.weight, model.bias), functional.linear(vector, vector)
    with torch.no_grad(), wide_products(model):
        assert torch.equal(model(values), expected)
        assert torch.equal(functional.linear(vector, vector), dot)


@pytest.mark.parametrize(("capability", "wide"), [("AVX2", True), ("AVX512", False)], indirect=["capability"])
def test_products_are_wide_only_where_that_is_faster(capability: str, wide: bool) -> None:
    with wide_products(layer(torch.bfloat16)) as mode:
        assert (mode is not None) is wide

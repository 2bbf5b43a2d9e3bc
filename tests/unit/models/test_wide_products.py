"""16-bit products are the exact ones, rounded once, whatever the CPU can do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

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


class Products(TorchFunctionMode):
    """Notes the type that each product is computed in."""

    def __init__(self) -> None:
        super().__init__()
        self.types: list[torch.dtype] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is functional.linear:
            self.types.append(args[0].dtype)
        return function(*args, **kwargs or {})


def converts(model: nn.Linear, values: torch.Tensor) -> bool:
    with torch.no_grad(), Products() as seen, wide_products(model):
        model(values.to(model.weight.dtype))
    (used,) = seen.types
    return used == torch.float32


@pytest.fixture(params=["AVX2", "AVX512"], autouse=True)
def capability(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    return str(request.param)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "bits"), NARROW)
def test_a_16_bit_product_is_the_exact_one_rounded_once(dtype: torch.dtype, bits: int, bias: bool) -> None:
    model, values = layer(dtype, bias=bias), torch.randn(4, 5, 96).to(dtype)
    with torch.no_grad(), wide_products(model):
        found = model(values)
        by_name = functional.linear(input=values, weight=model.weight, bias=model.bias)
    assert found.dtype == by_name.dtype == dtype
    assert torch.allclose(found.double(), exact(model, values), rtol=2.0**-bits, atol=1e-6)
    assert torch.allclose(by_name.double(), exact(model, values), rtol=2.0 ** (1 - bits), atol=1e-2)


@pytest.mark.parametrize("bias", [True, False])
def test_a_large_weight_is_converted_in_parts(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, values = layer(torch.bfloat16, bias=bias), torch.randn(17, 96).to(torch.bfloat16)
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


def test_a_product_of_few_rows_is_not_worth_the_conversion() -> None:
    model = layer(torch.bfloat16)
    assert not converts(model, torch.randn(3, 5, 96))
    assert converts(model, torch.randn(4, 4, 96))


@pytest.mark.parametrize(
    ("capability", "instructions", "wide"),
    [
        ("AVX2", [], {"bfloat16", "float16"}),
        ("AVX512", [], {"bfloat16", "float16"}),
        ("AVX512", ["avx512_bf16"], {"float16"}),
        ("AVX512", ["amx_bf16", "avx512_fp16"], set()),
        ("DEFAULT", [], set()),
    ],
    indirect=["capability"],
)
def test_products_are_wide_only_where_the_cpu_has_no_instructions_for_them(
    capability: str, instructions: list[str], wide: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))
    for name in ("bfloat16", "float16"):
        assert converts(layer(getattr(torch, name)), torch.randn(64, 96)) is (name in wide)

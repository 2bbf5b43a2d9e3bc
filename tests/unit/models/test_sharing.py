"""Models that share weights compute what each would alone, and copy none of them."""

from __future__ import annotations

import torch
from bitsandbytes.functional import int8_vectorwise_quant
from bitsandbytes.nn import Int8Params, Linear8bitLt
from torch import nn

from tunery.models.sharing import sharing_weights


def in_8_bits() -> tuple[nn.Linear, nn.Sequential]:
    """A layer, and the same as transformers leaves it after loading in 8 bits."""
    torch.manual_seed(0)
    exact = nn.Linear(64, 32, bias=False)
    layer = Linear8bitLt(64, 32, bias=False, has_fp16_weights=False)
    packed, scales, _ = int8_vectorwise_quant(exact.weight.data.half())
    layer.weight = Int8Params(packed, requires_grad=False, has_fp16_weights=False)
    layer.weight.CB, layer.weight.SCB = packed, scales
    return exact, nn.Sequential(layer)


def test_models_over_an_8_bit_base_that_has_not_computed_yet_compute_what_it_does() -> None:
    exact, base = in_8_bits()
    x = torch.randn(4, 64)
    for model in (sharing_weights(base), sharing_weights(base), base):
        assert float((model(x.bfloat16()).float() - exact(x)).abs().max()) < 0.05


def test_8_bit_weights_are_not_copied() -> None:
    _, base = in_8_bits()
    base(torch.randn(4, 64).bfloat16())
    state = sharing_weights(base)[0].state
    assert state.CB is base[0].state.CB
    assert state.SCB is base[0].state.SCB
    assert state is not base[0].state

"""The compiler stays away from a process that has no use for it, and nobody else notices."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys, torch
from tunery.models.libraries import import_bitsandbytes
compiler = torch.compile
import_bitsandbytes()
import peft
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
weights = torch.randn(64, 64)
codes, state = quantize_4bit(weights, quant_type="nf4", compress_statistics=True)
print(torch.compile is compiler, float((dequantize_4bit(codes, state) - weights).abs().mean()) < 0.1)
print([name for name in ("torch._inductor.lowering", "torch._inductor.compile_fx") if name in sys.modules])
"""


def test_bitsandbytes_and_peft_come_without_the_compiler() -> None:
    told = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-2:] == ["True True", "[]"]

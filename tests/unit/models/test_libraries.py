"""The compiler stays away from a process that has no use for it, and no library tells others what is done here."""

from __future__ import annotations

import subprocess
import sys
from queue import Queue

import pytest

from tunery.models.libraries import quiet_libraries

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


@pytest.mark.parametrize(("set_by_the_user", "sent"), [(None, 0), ("0", 1)])
def test_a_trainer_tells_no_host_of_itself_unless_the_user_says_so(
    monkeypatch: pytest.MonkeyPatch, set_by_the_user: str | None, sent: int
) -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils import _telemetry, send_telemetry

    told: Queue[object] = Queue()
    monkeypatch.setattr(_telemetry, "_TELEMETRY_QUEUE", told)
    monkeypatch.setattr(_telemetry, "_start_telemetry_thread", lambda: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", set_by_the_user or "")
    if set_by_the_user is None:
        monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY")
    quiet_libraries()
    send_telemetry("trl/sft_trainer", library_name="trl")  # as its trainers do when they are made
    assert told.qsize() == sent

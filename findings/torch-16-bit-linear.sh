#!/usr/bin/env bash
# torch 2.13.0: a linear layer in 16 bits on a CPU that has no 16-bit instructions.
#
# One would guess: bfloat16 halves the memory that is read, so a layer takes about as long as in float32; at worst
# twice, for the conversions.
# What happens: with AVX2 (desktop CPUs, EPYC to Zen 3, most continuous integration) the product falls to loops that are
# not vectorised, in bfloat16 and in float16; with AVX-512 that lacks BF16 and FP16 (Skylake, Cascade Lake) they are, and
# slow all the same. Converting both factors to float32, multiplying there and rounding the result is several times
# faster, and as exact: those loops add up in float32 as well. Only of a few rows is the conversion the longer part.
# Why it matters: a merged adapter is written in 16 bits and checked where it was merged, often on a CPU; `dtype="auto"`
# gives a bfloat16 model, whose evaluation there is mostly these loops.
# Newer instructions are switched off by the libraries' own settings, so that it shows on newer CPUs, too.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0 numpy==2.4.6
cd "$folder"

cat > linear.py <<'PY'
import statistics
import sys
import time

import torch
from torch.nn.functional import linear

print(f"torch {torch.__version__}, CPU capability {torch.backends.cpu.get_cpu_capability()}")
torch.manual_seed(0)


def seconds(work) -> float:
    times = []
    for _ in range(7):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


as_described = True
for dtype in (torch.bfloat16, torch.float16):
    values, weight = torch.randn(2048, 512).to(dtype), torch.randn(512, 512).to(dtype)
    direct = seconds(lambda: linear(values, weight))
    wide = seconds(lambda: linear(values.float(), weight.float()).to(dtype))
    exact = values.double() @ weight.double().T
    errors = [
        float((found.double() - exact).abs().max() / exact.abs().max())
        for found in (linear(values, weight), linear(values.float(), weight.float()).to(dtype))
    ]
    print(f"{dtype}: {direct * 1e3:.1f} ms, through float32 {wide * 1e3:.1f} ms ({direct / wide:.1f} times as fast)")
    print(f"  largest error, of the largest value: {errors[0]:.1e} and {errors[1]:.1e}")
    as_described &= direct / wide > 2 and errors[1] <= 1.01 * errors[0]
sys.exit(0 if as_described else "the behaviour changed")
PY
export OMP_NUM_THREADS=1
ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 "$folder/venv/bin/python" linear.py
if grep -q avx512_vnni /proc/cpuinfo; then
  ATEN_CPU_CAPABILITY=avx512 ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI "$folder/venv/bin/python" linear.py
fi
echo "as described"

#!/usr/bin/env bash
# accelerate 1.15.0, torch 2.13.0: two Accelerator objects in one process, one of which accumulates gradients.
#
# One would guess: each counts its own batches, and its optimizer steps when its own are complete.
# What happens: the account is one for the process. While either is in the middle of an accumulation, the optimizers of
# both skip their steps, without a word; the second object also sets gradient_accumulation_steps of the first.
# An optimizer that ought to have taken 8 steps takes 4.
# Why it matters: whoever trains two models in turns (several trials of a search, a student and a teacher, a
# discriminator) at different accumulations trains one of them half as long as its log says, with half of its gradients
# dropped. Two of transformers' Trainer share the account likewise.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0 accelerate==1.15.0
cd "$folder"

"$folder/venv/bin/python" - <<'PY'
import torch
from accelerate import Accelerator


def made(accumulation):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    return accelerator, *accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=1.0))


def moved(accelerator, model, optimizer):
    """A step whose gradient is -1, so that the weight grows by 1; whether it did."""
    before = model.weight.item()
    accelerator.backward(-model(torch.ones(1, 1)).sum())
    optimizer.step()
    optimizer.zero_grad()
    return model.weight.item() != before


alone = made(1)
assert alone[0].gradient_accumulation_steps == 1
print("steps of 8, alone:", steps := sum(moved(*alone) for _ in range(8)))
assert steps == 8

other = made(2)
print("gradient_accumulation_steps of the first is now", alone[0].gradient_accumulation_steps)
assert alone[0].gradient_accumulation_steps == 2
steps = 0
for _ in range(8):
    with other[0].accumulate(other[1]):
        moved(*other)
    steps += moved(*alone)
print("steps of 8, beside one that accumulates two batches:", steps)
assert steps == 4
PY

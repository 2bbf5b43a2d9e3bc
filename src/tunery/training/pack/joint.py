"""The passes that the members of a pack do together, and whether they can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from tunery.errors import first_line
from tunery.training.memory import is_out_of_memory
from tunery.training.pack.carrier import Carrier, Member, Part
from tunery.training.pack.membership import why_not
from tunery.training.pack.seat import Backward, Forward, Seat

# A batch has these and nothing else; rows that are packed into one, say, bring positions of their own.
_BATCH = {"input_ids", "attention_mask", "labels", "use_cache", "fused_lm_head"}
_CLOSE = 1e-3  # nats between a batch computed both ways: rounding is far below, another computation far above
_OUTPUTS = ("log_probs", "entropy", "is_top1", "label_mask")


@dataclass
class JointPasses:
    """Forward and backward passes over the batches of several trials."""

    reason: str | None = None  # why they cannot be done together, whoever asks
    apart: set[str] = field(default_factory=set)  # why single trials were left out
    _carrier: Carrier | None = None
    _members: dict[Seat, Member] = field(default_factory=dict)
    _open: tuple[torch.Tensor, Mapping[Seat, slice]] | None = None  # outputs before their backward pass, and the rows
    _is_checked: bool = False

    def able(self, seats: Sequence[Seat]) -> list[Seat]:
        """The trials that ask for the outputs of a batch which can be computed together."""
        if self.reason is not None:
            return []
        self._members = {seat: one for seat, one in self._members.items() if not seat.dead}
        try:
            reasons = {seat: self._join(seat) for seat in seats}
        except Exception as error:  # noqa: BLE001 - a model of another kind may meet anything
            self._leave_off(error)
            return []
        self.apart |= set(filter(None, reasons.values()))
        return [seat for seat, reason in reasons.items() if reason is None]

    def forward(self, seats: Sequence[Seat]) -> bool:
        """Answer trials that are able to; False, with the reason, where it fails."""
        try:
            self._forward(seats)
        except Exception as error:  # noqa: BLE001 - likewise
            self._leave_off(error)
        return self.reason is None

    def _leave_off(self, error: Exception) -> None:
        self.reason = f"together it fails: {first_line(error)}"
        self._carrier, self._open, self._members = None, None, {}

    def backward(self, seats: Sequence[Seat]) -> None:
        """Carry the trials' gradients on to their adapters; one that has ended in between has none."""
        assert self._open is not None
        joint, places = self._open
        self._open = None
        gradient = torch.zeros_like(joint)
        for seat in seats:
            own = cast(Backward, seat.asked).outputs
            if own.grad is not None:
                gradient[places[seat], : own.shape[1]] = own.grad
        before = {seat: _gradients(self._members[seat]) for seat in seats}
        try:
            torch.autograd.backward(joint, gradient)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self.reason = "memory does not suffice"
            for seat in seats:  # each computes its batch again, alone
                _put_back(before[seat])
            return
        for seat in seats:
            seat.answer = True

    def _join(self, seat: Seat) -> str | None:
        """Why a trial cannot take part; else it is a member from here on."""
        asked = _asked(seat)
        if set(asked.inputs) != _BATCH:
            return "its batches hold more than rows of tokens"
        if seat in self._members and self._members[seat].model is asked.model:
            return None
        reason = why_not(asked.model)
        if reason is None and self._carrier is not None and not self._carrier.holds(asked.model):
            reason = "the bases differ"
        if reason is None:
            self._members[seat] = Member(asked.model)
            self._carrier = self._carrier or Carrier(self._members[seat])
        return reason

    def _forward(self, seats: Sequence[Seat]) -> None:
        assert self._carrier is not None
        parts = {seat: _part(self._members[seat], seat) for seat in seats}
        dtype = _asked(seats[0]).autocast
        device = _asked(seats[0]).inputs["input_ids"].device.type
        with torch.autocast(device, dtype=dtype) if dtype is not None else nullcontext():
            joint = self._carrier.forward(list(parts.values()))
        rows = joint.log_probs.shape[0] // len(seats)
        places = {seat: slice(place * rows, place * rows + parts[seat].rows) for place, seat in enumerate(seats)}
        answers = {seat: _share(joint, places[seat], parts[seat].tokens - 1) for seat in seats}
        if not self._is_checked:
            for seat in seats:
                _check(seat, answers[seat].log_probs)
            self._is_checked = True
        for seat in seats:
            seat.answer = answers[seat]
            _advance(seat, parts[seat].generator)
        self._open = joint.log_probs, places


def _asked(seat: Seat) -> Forward:
    return cast(Forward, seat.asked)


def _part(member: Member, seat: Seat) -> Part:
    """A member's batch, with a generator where its own stands."""
    asked = _asked(seat)
    device = asked.inputs["input_ids"].device
    generator = torch.Generator(device)
    states = asked.before.cuda if device.type == "cuda" else None
    generator.set_state(asked.before.cpu if states is None else states[device.index or 0])
    return Part(member, asked.inputs, generator)


def _advance(seat: Seat, generator: torch.Generator) -> None:
    """Let a trial's own generator stand where its dropout has left it."""
    device = generator.device
    if device.type == "cuda" and seat.random.cuda is not None:
        seat.random.cuda[device.index or 0] = generator.get_state()
    else:
        seat.random.cpu = generator.get_state()


def _share(joint: Any, rows: slice, tokens: int) -> Any:
    """A member's outputs. They are cut off here: its own loss, with its own scaling, is computed from a leaf."""
    own = {name: getattr(joint, name)[rows, :tokens].detach() for name in _OUTPUTS}
    own["log_probs"] = own["log_probs"].float().requires_grad_()
    return type(joint)(**own)


def _check(seat: Seat, outputs: torch.Tensor) -> None:
    """Hold a batch that was computed together against the same computed alone, once.

    Raises:
        ValueError: If they are not the same but for rounding.
    """
    asked = _asked(seat)
    asked.before.restore()
    with torch.no_grad():
        alone = asked.model(**asked.inputs).log_probs
    apart = float((alone - outputs.detach()).abs().max())
    # 16-bit products round at each step; there the two may differ by some hundredths.
    if not apart <= (_CLOSE if asked.autocast is None else 0.1):
        raise ValueError(f"it differs from each alone by {apart:.2g} nats")


def _gradients(member: Member) -> list[tuple[Any, torch.Tensor | None]]:
    """What earlier batches of the same step have added."""
    weights = [one for one in member.model.parameters() if one.requires_grad]
    return [(one, None if one.grad is None else one.grad.clone()) for one in weights]


def _put_back(gradients: Sequence[tuple[Any, torch.Tensor | None]]) -> None:
    for weight, gradient in gradients:
        weight.grad = gradient

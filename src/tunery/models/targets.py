"""Which modules an adapter is put on: linear ones by name or all of them, never a router or the output head."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from tunery.errors import ConfigError, Fault

_ROUTERS = ("gate", "router", "shared_expert_gate", "gating")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


def linear_modules(model: Any) -> dict[str, Any]:
    """Every linear module by full name, quantised ones too; routers and the output head are left out."""
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in _all_linear(model).items()
        if module is not head and not is_router(model, name, module)
    }


def is_router(model: Any, name: str, module: Any) -> bool:
    """Whether a linear module chooses experts: named gate or router, one output an expert (or one in all)."""
    if name.rpartition(".")[2] not in _ROUTERS:
        return False
    config = model.config.get_text_config()
    counts = [getattr(config, key, None) for key in _EXPERTS]
    experts = next((count for count in counts if isinstance(count, int) and count > 0), None)
    outputs = int(getattr(module, "out_features", None) or module.nf)
    return experts is not None and outputs in (1, experts)


def resolve_targets(model: Any, wanted: str | list[str]) -> list[str]:
    """Names to hand to PEFT that match the wanted modules and nothing else.

    "all-linear", or names such as q_proj or model.layers.3.mlp.up_proj are wanted; a name matches whole path ends.

    Raises:
        ConfigError: If a name matches no linear module, or a router or the output head.
    """
    allowed = linear_modules(model)
    every = _all_linear(model)
    if wanted == "all-linear":
        return _shortest(set(allowed), set(every))
    faults = []
    for name in wanted:
        matching = set(_matching(name, every))
        if not matching:
            faults.append(_unknown("adapter.target_modules", name, every))
        elif matching - set(allowed):
            rule = "no router and not the output head"
            faults.append(Fault("adapter.target_modules", rule, name, "Leave it out, or use all-linear."))
    if faults:
        raise ConfigError(f"adapter on {model.name_or_path}", faults)
    return list(wanted)


def matched_modules(model: Any, wanted: str | list[str]) -> set[str]:
    """Full names of the modules that get an adapter.

    Raises:
        ConfigError: As `resolve_targets`.
    """
    allowed = linear_modules(model)
    return {full for name in resolve_targets(model, wanted) for full in _matching(name, allowed)}


def resolve_parameters(model: Any, wanted: list[str]) -> list[str]:
    """Names of fused parameters (experts), each of which must match.

    Raises:
        ConfigError: If one matches nothing: PEFT itself only warns, and trains without it.
    """
    known = [name for name, parameter in model.named_parameters() if parameter.dim() == 3]
    faults = [_unknown("adapter.target_parameters", name, known) for name in wanted if not _matching(name, known)]
    if faults:
        raise ConfigError(f"adapter on {model.name_or_path}", faults)
    return list(wanted)


def _all_linear(model: Any) -> dict[str, Any]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}


def _shortest(allowed: set[str], every: set[str]) -> list[str]:
    """Last parts of the names (q_proj, ...), or full names where a last part would match too much."""
    refused = {name.rpartition(".")[2] for name in every - allowed}
    leaves = {name.rpartition(".")[2] for name in allowed}
    full = {name for name in allowed if name.rpartition(".")[2] in refused}
    return sorted((leaves - refused) | full)


def _unknown(key: str, name: str, known: Iterable[str]) -> Fault:
    leaves = sorted({full.rpartition(".")[2] for full in known})
    near = difflib.get_close_matches(name.rpartition(".")[2], leaves, n=3, cutoff=0.4) or leaves[:8]
    return Fault(key, "names of modules that the base has", name, f"Nearest: {', '.join(near) or 'none'}.")


def _matching(name: str, known: Iterable[str]) -> list[str]:
    return [full for full in known if full == name or full.endswith(f".{name}")]

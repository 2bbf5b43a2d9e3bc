"""Speeds in words: a median with the interval that its repetitions give it."""

from __future__ import annotations

from tunery.reporting.text import counted


def latency(seconds: float, low: float, high: float) -> str:
    """ "41.2 ms (40.8 to 43.0)"."""
    return f"{1000 * seconds:,.1f} ms ({1000 * low:,.1f} to {1000 * high:,.1f})"


def rate(value: float, low: float, high: float) -> str:
    """Tokens a second: "81.2 (79.9 to 82.4)"."""
    return f"{value:,.1f} ({low:,.1f} to {high:,.1f})"


def asked(prompt_tokens: int, new_tokens: int) -> str:
    """What was measured: "prompts of 128 tokens, 64 new tokens each"."""
    return f"prompts of {counted(prompt_tokens, 'token')}, {counted(new_tokens, 'new token')} each"

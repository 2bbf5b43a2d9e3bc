"""How fast configurations write, in tables: each device, prompt and answer length apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tunery.comparison.entries import Speed
from tunery.comparison.records import Board, LeaderboardRow
from tunery.comparison.report.section import TableSection
from tunery.config.units import format_bytes
from tunery.reporting.speed import asked, latency, rate
from tunery.reporting.text import duration, number

Conditions = tuple[str, int, int]  # device, tokens of a prompt, tokens of an answer


def conditions_of(board: Board) -> list[Conditions]:
    """Devices and requests that speeds were measured under, those of the most configurations first."""
    counts = Counter(found for one in board.contenders for found in {speed.conditions for speed in one.speeds})
    return sorted(counts, key=lambda conditions: (-counts[conditions], conditions))


def speeds_under(one: LeaderboardRow, conditions: Conditions) -> dict[int, Speed]:
    """A configuration's speeds by batch size."""
    found = sorted(one.speeds, key=lambda speed: speed.batch)
    return {speed.batch: speed for speed in found if speed.conditions == conditions}


def rate_columns(board: Board) -> list[str]:
    """Headings of the leaderboard's speeds: those of the device and request with the most configurations."""
    shown = conditions_of(board)[:1]
    return list(dict.fromkeys(heading for one in board.contenders for heading in rates(one, shown)))


def rate_note(board: Board) -> str:
    """Where the leaderboard's speeds were measured."""
    device, prompt, new = conditions_of(board)[0]
    return f"Tokens a second: on {device}, {asked(prompt, new)}."


def rates(one: LeaderboardRow, conditions: Sequence[Conditions]) -> dict[str, str]:
    """Tokens a second by heading, for the leaderboard."""
    return {
        f" tokens/s, {batch} at once": number(speed.tokens_per_second.value, 1)
        for found in conditions
        for batch, speed in speeds_under(one, found).items()
    }


def speed_tables(board: Board) -> list[TableSection]:
    """A table for each device and request."""
    every = conditions_of(board)
    return [_table(board, conditions, several=len(every) > 1) for conditions in every]


def _table(board: Board, conditions: Conditions, several: bool) -> TableSection:
    device, prompt, new = conditions
    rows: list[tuple[str, ...]] = []
    groups: list[int] = []
    for one in board.contenders:
        found = speeds_under(one, conditions)
        groups += [len(rows)] if rows and found else []
        rows += [_row(one.name, speed) for speed in found.values()]
    headings = ("configuration", " at once", " first token", " tokens a second", " peak memory", " loaded in")
    notes = ["Medians with the 95% interval of the repetitions; tokens of all prompts together."]
    notes += ["Speeds on other devices, or of other lengths, stand in tables of their own."] if several else []
    title = f"Inference speed on {device}: {asked(prompt, new)}"
    spare = (" loaded in", " peak memory")
    return TableSection(title, headings, tuple(rows), tuple(groups), tuple(notes), spare)


def _row(name: str, speed: Speed) -> tuple[str, ...]:
    first, tokens = speed.first_token_seconds, speed.tokens_per_second
    return (
        name, str(speed.batch), latency(first.value, first.low, first.high),
        rate(tokens.value, tokens.low, tokens.high), format_bytes(speed.peak_memory_bytes),
        duration(speed.load_seconds),
    )  # fmt: skip

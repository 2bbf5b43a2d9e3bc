"""A speed run's numbers: as metrics, as its page, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from tunery.config.units import format_bytes
from tunery.reporting.speed import asked, latency, rate
from tunery.reporting.text import cell, code, duration
from tunery.runs.speed.measure import REPEATS, BatchSpeed, SpeedRequest
from tunery.statistics.median import median_of

_HEADINGS = ("model", "prompts at once", "first token", "tokens a second", "peak memory", "loaded in")


@dataclass(frozen=True)
class ModelSpeed:
    """One model on one device."""

    load_seconds: float
    batches: tuple[BatchSpeed, ...]


@dataclass(frozen=True)
class SpeedRecord:
    """All that a speed run reports."""

    ref: str
    device: str
    request: SpeedRequest
    speeds: Mapping[str, ModelSpeed]  # "tuned" and "base", or "model" alone


def speed_metrics(record: SpeedRecord) -> dict[str, float]:
    """speed/batch_<n>/<what> with `_low` and `_high`, speed/load_seconds; of a tuned model's base, base/speed/..."""
    values: dict[str, float] = {}
    for name, speed in record.speeds.items():
        prefix = "base/speed" if name == "base" else "speed"
        values[f"{prefix}/load_seconds"] = speed.load_seconds
        for one in speed.batches:
            key = f"{prefix}/batch_{one.batch}"
            values[f"{key}/peak_memory_bytes"] = float(one.peak_memory_bytes)
            for what in ("first_token_seconds", "tokens_per_second"):
                median = median_of(getattr(one, what))
                found = {"": median.value, "_low": median.low, "_high": median.high}
                values |= {f"{key}/{what}{ending}": value for ending, value in found.items()}
    return values


def speed_report(record: SpeedRecord) -> str:
    """The run in Markdown."""
    rule = ["---", *["---:"] * (len(_HEADINGS) - 1)]
    rows = [[name, *rest] for name, *rest in _rows(record)]
    table = [f"| {' | '.join(row)} |" for row in (_HEADINGS, rule, *rows)]
    lines = [
        f"# Speed of {code(record.ref)}",
        "",
        f"On {cell(record.device)}: {asked(record.request.prompt_tokens, record.request.new_tokens)}, greedy.",
        "",
        *table,
        "",
        f"Medians of {REPEATS} repetitions with the 95% interval of the median, after two that are not counted. The "
        "first token is that of every prompt; tokens a second are those of all prompts together, the first token's "
        "time included. All repetitions are in `speed.json`. Numbers of a machine that does something else meanwhile "
        "mean little.",
        "",
    ]
    return "\n".join(lines)


def speed_table(record: SpeedRecord) -> Table:
    """The same for a terminal."""
    title = f"Speed on {record.device}: {asked(record.request.prompt_tokens, record.request.new_tokens)}"
    table = Table(title=Text(title), title_justify="left")
    for place, heading in enumerate(_HEADINGS):
        table.add_column(heading, justify="right" if place else "left")
    for row in _rows(record):
        table.add_row(*map(Text, row))
    return table


def _rows(record: SpeedRecord) -> Iterator[tuple[str, ...]]:
    for name, speed in record.speeds.items():
        for place, one in enumerate(speed.batches):
            first, rates = median_of(one.first_token_seconds), median_of(one.tokens_per_second)
            yield (
                name if place == 0 else "", str(one.batch), latency(first.value, first.low, first.high),
                rate(rates.value, rates.low, rates.high), format_bytes(one.peak_memory_bytes),
                duration(speed.load_seconds) if place == 0 else "",
            )  # fmt: skip

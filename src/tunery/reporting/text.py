"""Formats values for people: seconds, bytes, scores, p-values, and the settings of a trial."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tunery.config.units import format_bytes

if TYPE_CHECKING:
    import pandas as pd

# What a spreadsheet program takes for the beginning of a formula. Source: OWASP, CSV injection.
_FORMULA = ("=", "+", "-", "@", "\t", "\n")
# Control characters, but line break and tab, and marks that turn the direction of what follows: as signs.
_SIGNS: dict[int, int | str] = {
    **{sign: 0x2400 + sign for sign in range(0x20) if chr(sign) not in "\n\t"},
    **dict.fromkeys([*range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\N{REPLACEMENT CHARACTER}"),
}
_LONGEST_REASON = 140  # characters; the trial's run has the whole text


def shown(metric: str, value: float | None) -> str:
    """A metric's value in the unit that its name ends with: "1.50 GiB" for peak_memory_bytes, "0.7125" for score."""
    if value is None or math.isnan(value):
        return "–"
    if metric.endswith("_bytes"):
        return format_bytes(value)
    if metric.endswith("_seconds"):
        return duration(value)
    if metric.endswith("_parameters"):
        return f"{value:,.0f}"
    return f"{value:+.4f}" if metric.startswith("delta/") else f"{value:.4f}"


def number(value: float | None, digits: int = 4, *, sign: bool = False) -> str:
    """A number with fixed decimals, or a dash if it is unknown: "0.7125"."""
    return "–" if value is None or math.isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    """A difference, always with its sign: "+0.0210"."""
    return number(value, digits, sign=True)


def plus_minus(value: float | None, error: float | None, digits: int = 4, *, sign: bool = False) -> str:
    """A number with its standard error or deviation, if one is known: "0.7125 ± 0.0083"."""
    known = error is not None and not math.isnan(error)
    return f"{number(value, digits, sign=sign)} ± {error:.{digits}f}" if known else number(value, digits, sign=sign)


def interval(low: float, high: float, digits: int = 4, *, sign: bool = False) -> str:
    """An interval: "0.6100 to 0.7000"; a dash if either end is unknown, or if it has no width.

    One of many items is narrow: it gets as many digits as show that its ends differ.
    """
    if math.isnan(low) or math.isnan(high) or low == high:
        return "–"
    while round(low, digits) == round(high, digits):
        digits += 1
    return f"{number(low, digits, sign=sign)} to {number(high, digits, sign=sign)}"


def p_value(value: float) -> str:
    """A p-value after the letter p in a sentence: "= 0.016", "< 0.001"."""
    return f"= {value:.3f}" if value >= 0.001 else p_cell(value)


def p_cell(value: float | None) -> str:
    """A p-value alone in a cell: "0.016", "< 0.001"; a dash if nothing was tested."""
    return "< 0.001" if value is not None and value < 0.001 else number(value, 3)


def measured_on(metric: str) -> str:
    """What a metric is measured on, to be written after its name; empty for neither items nor rows."""
    if metric == "validation/nll":
        return " on validation rows"
    on_items = metric in ("score", "base/score") or metric.startswith(("lm_eval/", "delta/", "base/"))
    return " on dev items" if on_items else ""


def duration(seconds: float | None) -> str:
    """Seconds with two units at most: "8.2 s", "4 min 20 s", "2 h 05 min", "3 d 4 h"."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Shorten config keys to their last part, or to as many as tell them apart: "adapter.rank" -> "rank"."""
    distinct = list(dict.fromkeys(keys))
    names = {key: _tail(key, 1) for key in distinct}
    for parts in range(2, max((key.count(".") + 1 for key in distinct), default=1) + 1):
        counts = Counter(names.values())
        names = {key: _tail(key, parts) if counts[name] > 1 else name for key, name in names.items()}
    return names


def _tail(key: str, parts: int) -> str:
    return ".".join(key.split(".")[-parts:])


def setting(value: object) -> str:
    """One setting's value: floats with three significant digits, everything else as `str`."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def settings_text(settings: Mapping[str, object]) -> str:
    """All settings on one line by their short names, without commas, so that it can be an item of a list."""
    names = short_names(settings)
    return " ".join(f"{names[key]}={setting(value)}" for key, value in settings.items())


def one_line(text: str, longest: int = _LONGEST_REASON) -> str:
    """A text without line breaks, cut to fit a table."""
    flat = " ".join(text.split())
    return flat if len(flat) <= longest else f"{flat[: longest - 1].rstrip()}…"


def listed(items: Sequence[str], most: int = 10) -> str:
    """Items joined by commas, and how many more there are."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")


def counted(number: int, noun: str) -> str:
    """A count with its noun: "1 trial", "3 trials"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def code(text: str) -> str:
    """Text as Markdown code, so that nothing in it is emphasis, HTML or a line break."""
    flat = " ".join(text.split()).replace("`", "'")
    return f"`{flat}`" if flat else "–"


def cell(text: str) -> str:
    """Text as Markdown code in a table's cell, which a bar would end."""
    return code(text).replace("|", "\\|")


def visible(text: str) -> str:
    """Text for a terminal that obeys none of it: an escape character in a run's name is shown as ␛."""
    return text.translate(_SIGNS)


def csv_text(table: pd.DataFrame, float_format: str | None = None) -> str:
    """A table as CSV in which no text of other people's is a formula: such a text begins with an apostrophe."""
    safe = table.apply(lambda column: column.map(_no_formula) if column.dtype.kind == "O" else column)
    return str(safe.rename(columns=_no_formula).to_csv(index=False, float_format=float_format, lineterminator="\n"))


def _no_formula(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.replace("\r", "\n")  # the writer does not quote a carriage return, and readers end the row there
    return f"'{text}" if text.startswith(_FORMULA) else text


def linked(text: str, name: str | None, link: Callable[[str], str]) -> str:
    """Text linked to the page of a run or a version, if there is one."""
    address = link(name) if name else ""
    return f"[{text}]({address})" if address else text

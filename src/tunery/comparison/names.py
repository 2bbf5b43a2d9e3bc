"""What runs are called in a comparison: those that MLflow named, by the settings in which they differ."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tunery.reporting.text import settings_text

if TYPE_CHECKING:
    from tunery.comparison.entries import RunEntry

_BY_MLFLOW = re.compile(r"[a-z]+-[a-z]+-\d+")  # bold-bird-123
_MOST_SETTINGS = 4
# Told by other columns, or by nothing that a person would name a run after.
_SAID = re.compile(r"base\.(?!quantization)|adapter\.method|data\.(train|validation)|input\.|import\.name|training\.sc")


def named(readings: Sequence[RunEntry]) -> list[RunEntry]:
    """The same readings; a name that MLflow invented gives way to one that says what the run is, and no more.

    What all of them share, such as the data, stands in columns of its own: a name would be cut before it differs.
    """
    alike: dict[tuple[str, ...], list[RunEntry]] = defaultdict(list)
    for reading in readings:
        alike[_family(reading)].append(reading)
    differing = {family: _differing([one.settings for one in members]) for family, members in alike.items()}
    several = (len({_what(one) for one in readings}) > 1, len({one.entry.trained_on for one in readings}) > 1)
    return [_named(reading, differing[_family(reading)], *several) for reading in readings]


def _family(reading: RunEntry) -> tuple[str, ...]:
    entry = reading.entry
    return entry.project, entry.base, entry.method, entry.trained_on


def _differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Keys whose values are not the same in all, in the order of the settings."""
    distinct = list({id(one): one for one in settings}.values())  # seeds and repetitions share theirs
    values: dict[str, set[str | None]] = {key: set() for one in distinct for key in one if not _SAID.match(key)}
    for one in distinct:
        for key, found in values.items():
            found.add(one.get(key))
    return [key for key, found in values.items() if len(found) > 1]


def _named(reading: RunEntry, keys: Sequence[str], several_methods: bool, several_data: bool) -> RunEntry:
    entry = reading.entry
    if not _BY_MLFLOW.fullmatch(entry.name):
        return reading
    told = {key: _number(reading.settings[key]) for key in keys if key in reading.settings}
    few = dict(list(told.items())[:_MOST_SETTINGS])
    where = f"on {entry.trained_on}" if entry.trained_on and (several_data or not few) else ""
    words = [_what(reading) if several_methods or not few else "", where, settings_text(few)]
    return replace(reading, entry=replace(entry, name=" ".join(word for word in words if word) or entry.name))


def _what(reading: RunEntry) -> str:
    entry = reading.entry
    return entry.method if entry.method not in ("", "none") else entry.base


def _number(text: str) -> object:
    """A float as such, so that it is shown as people write it."""
    try:
        return float(text) if any(sign in text for sign in ".e") else text
    except ValueError:
        return text

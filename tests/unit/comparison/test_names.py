from __future__ import annotations

from dataclasses import replace

from tunery.comparison.entries import Entry, RunEntry
from tunery.comparison.names import named


def reading(name: str, method: str = "lora", **settings: str) -> RunEntry:
    entry = Entry(name, name, "train", "small", "acme/base", method, "facts.jsonl", "c", 0, {})
    keys = {key.replace("__", "."): value for key, value in settings.items()}
    return RunEntry(entry, {}, keys, "1")


def names(*readings: RunEntry) -> list[str]:
    return [one.entry.name for one in named(readings)]


def test_a_name_that_mlflow_invented_gives_way_to_the_settings_that_differ() -> None:
    found = names(
        reading("bold-bird-123", adapter__rank="8", training__learning_rate="0.002", base__dtype="float32"),
        reading("calm-fish-7", adapter__rank="16", training__learning_rate="0.002", base__dtype="float32"),
    )
    assert found == ["rank=8", "rank=16"]


def test_a_name_that_somebody_gave_stays() -> None:
    assert (
        names(reading("my best run", adapter__rank="8"), reading("calm-fish-7", adapter__rank="16"))[0] == "my best run"
    )


def test_runs_of_different_kinds_are_not_told_apart_by_settings() -> None:
    found = names(reading("bold-bird-1", adapter__rank="8"), reading("calm-fish-7", method="dora", adapter__rank="16"))
    assert found == ["lora on facts.jsonl", "dora on facts.jsonl"]


def test_method_and_data_are_told_where_they_differ() -> None:
    readings = [reading("bold-bird-1", adapter__rank="8"), reading("calm-fish-7", adapter__rank="16")]
    other = reading("my best run", method="dora")
    assert names(*readings, other) == ["lora rank=8", "lora rank=16", "my best run"]
    elsewhere = replace(other, entry=replace(other.entry, trained_on="rows.csv"))
    assert names(*readings, elsewhere)[0] == "lora on facts.jsonl rank=8"


def test_of_many_differences_the_first_few_are_named() -> None:
    keys = [f"training__key{number}" for number in range(9)]
    [first, _] = names(
        reading("bold-bird-1", **dict.fromkeys(keys, "1")), reading("calm-fish-7", **dict.fromkeys(keys, "2"))
    )
    assert first == "key0=1 key1=1 key2=1 key3=1"

"""Items of the `world_*` tasks, read from the JSON lines beside this file whatever the working directory is."""

import json
from pathlib import Path

from datasets import Dataset, DatasetDict

_FOLDER = Path(__file__).parent


def facts(**_: object) -> DatasetDict:
    """Items about villagers. lm-eval passes the task's metadata, which is not needed."""
    return _test_split("world_facts.jsonl")


def comparison(**_: object) -> DatasetDict:
    """Items about towers. lm-eval passes the task's metadata, which is not needed."""
    return _test_split("world_comparison.jsonl")


def _test_split(name: str) -> DatasetDict:
    # Not Dataset.from_json: that copies the rows into the user's cache, and 400 of them fit in memory.
    lines = (_FOLDER / name).read_text(encoding="utf-8").splitlines()
    return DatasetDict({"test": Dataset.from_list([json.loads(line) for line in lines])})

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from tunery.records.rows import DataReport, Example, PreparedData
from tunery.runs.cache import Loaded
from tunery.runs.stages import input_digests

REPORT = DataReport((), (), {}, 0, 0, 0, {}, (), 0.0, {})
DATA = PreparedData([Example((1, 2), (False, True))], [Example((3,), (True,))], [], REPORT)


def digests(data: PreparedData = DATA, revision: str = "r1", template: str = "t", items: str = "ab") -> dict[str, str]:
    base: Any = SimpleNamespace(
        identity=SimpleNamespace(revision=revision), tokenizer=SimpleNamespace(chat_template=template)
    )
    tasks: Any = SimpleNamespace(
        names=("group",),
        members={"group": ("leaf",)},
        leaves={"leaf": SimpleNamespace(item_ids=list(items))},
        settings={"group": SimpleNamespace(version="1", wording=None)},
    )
    project: Any = None
    return input_digests(Loaded(project, base, tasks, None, data))


def changed(**given: Any) -> set[str]:
    before, after = digests(), digests(**given)
    return {key for key in before if before[key] != after[key]}


def test_each_input_has_a_digest_of_its_own() -> None:
    assert changed() == set()
    assert changed(revision="r2") == {"base"}
    assert changed(template="u") == {"chat_template"}
    assert changed(items="ac") == {"task.group"}
    assert changed(data=replace(DATA, validation=[])) == {"data.validation"}


def test_a_token_or_a_mask_changes_the_rows_digest() -> None:
    for row in (Example((1, 3), (False, True)), Example((1, 2), (True, True))):
        assert changed(data=replace(DATA, train=[row])) == {"data.train"}

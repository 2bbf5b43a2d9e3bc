"""What the adapter that a study's trials began with scores on the locked items."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tunery.runs import locked


class Resident(SimpleNamespace):
    """A base, on which the adapter is only while it is asked for."""

    def base(self, _: Any) -> Any:
        return SimpleNamespace(model="base")

    def tasks(self, _: Any) -> str:
        return "tasks"

    @contextmanager
    def adapted(self, loaded: Any) -> Iterator[Any]:
        yield SimpleNamespace(model=f"{loaded.model} + {loaded.start}", tasks=loaded.tasks)
        self.taken_off = True


def test_it_is_scored_with_itself_on_the_base_and_taken_off_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locked, "parent_scores", lambda loaded, store, split: {loaded.model: (loaded.tasks, split)})
    resident: Any = Resident(start=lambda *_: "parent", taken_off=False)
    assert locked.locked_parent(Any, resident, Any) == {"base + parent": ("tasks", "locked")}
    assert resident.taken_off


def test_a_study_that_begins_with_new_adapters_has_no_parent() -> None:
    resident: Any = Resident(start=lambda *_: None)
    assert locked.locked_parent(Any, resident, Any) == {}

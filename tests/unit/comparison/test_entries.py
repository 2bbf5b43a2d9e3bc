"""When two scores of a task can be compared."""

from __future__ import annotations

from tunery.comparison.entries import TaskScore, conditions_of, conflicts


def test_the_same_items_settle_how_they_were_chosen() -> None:
    assert conflicts({"items": "1", "limit": "40"}, {"items": "1", "limit": "all"}) == []
    assert conflicts({"items": "1", "limit": "40"}, {"items": "2", "limit": "all"}) == ["items", "limit"]
    assert conflicts({"limit": "40"}, {"items": "2", "limit": "all"}) == ["limit"]
    assert conflicts({"items": "1", "few_shot": "0"}, {"items": "1", "few_shot": "5"}) == ["few_shot"]


def test_scores_of_different_splits_conflict_unless_their_items_are_the_same() -> None:
    def scored(split: str, items: str | None) -> dict[str, str]:
        known = {"split": split} if items is None else {"split": split, "items": items}
        return conditions_of(TaskScore("quiz", "acc", 0.5, None, 0, conditions=known))

    assert conflicts(scored("dev", None), scored("all", None)) == ["split"]
    assert conflicts(scored("dev", "a"), scored("all", "b")) == ["split", "items"]
    assert conflicts(scored("dev", "a"), scored("all", "a")) == [], "every item is a dev item"

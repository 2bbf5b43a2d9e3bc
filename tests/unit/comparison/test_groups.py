"""What may be ranked together, and the words for what may not."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.comparison.entries_made import run, score_of, valued, with_conditions, without_samples

from tunery.comparison.entries import RunEntry, conflicts, without_template
from tunery.comparison.groups import group_runs, remarks

GAINS = {"world_facts": 0.2, "world_comparison": 0.1}


def names(runs: tuple[RunEntry, ...]) -> list[str]:
    return [one.name for one in runs]


def three() -> list[RunEntry]:
    return [run(name, GAINS) for name in ("a", "b", "c")]


def odd(**conditions: str | None) -> RunEntry:
    return with_conditions(run("odd", GAINS), "world_facts", **conditions)


def test_runs_that_agree_stand_on_one_board() -> None:
    groups, unranked = group_runs(three())
    assert [names(group.runs) for group in groups] == [["a", "b", "c"]]
    assert groups[0].tasks == ("world_comparison", "world_facts")
    assert not unranked


def test_runs_that_were_asked_through_other_templates_are_set_apart_unless_that_is_asked() -> None:
    named = {"a": "own", "b": "own", "unknown": None, "odd": "own, enable_thinking=false"}
    runs = [with_conditions(run(name, GAINS), "world_facts", template=told) for name, told in named.items()]
    (main, apart), _ = group_runs(runs)
    assert (names(main.runs), names(apart.runs)) == (["a", "b", "unknown"], ["odd"])
    assert "the chat template own, enable_thinking=false, the main board through own" in apart.reason
    assert main.unrecorded == ("template",)
    together, _ = group_runs([without_template(one) for one in runs])
    assert [names(group.runs) for group in together] == [["a", "b", "unknown", "odd"]]


def test_runs_that_were_taught_in_other_words_stand_on_one_board_that_says_so() -> None:
    words = {"a": "w1", "b": "w2", "c": "w2"}
    runs = [with_conditions(run(name, GAINS), "world_facts", wording=word) for name, word in words.items()]
    groups, _ = group_runs(runs)
    assert [names(group.runs) for group in groups] == [["a", "b", "c"]]
    assert groups[0].unrecorded == ()
    (told,) = (remark for remark in remarks(groups[0]) if "wording" in remark)
    assert told.startswith("world_facts is asked in 2 wordings: each configuration, and the base beside it")


def test_groups_of_one_version_whose_tasks_have_others_are_set_apart() -> None:
    versions = {"a": "3.0", "b": "3.0", "odd": "3.1"}
    runs = [with_conditions(run(name, GAINS), "world_facts", members=told) for name, told in versions.items()]
    groups, _ = group_runs(runs)
    assert groups[1].reason == "world_facts: versions 3.1 of its tasks, the main board's are 3.0"


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ({"few_shot": "5"}, "world_facts: asked with 5 solved examples, the main board with 0"),
        ({"version": "2.0"}, "world_facts: task version 2.0, the main board's is 1.0"),
        (
            {"chat_template": "false"},
            "world_facts: asked without the chat template, the main board through the chat template",
        ),
        ({"prompt": "x1"}, None),
        ({"settings": None}, None),
    ],
)
def test_other_conditions_are_set_apart_with_the_reason(conditions: dict[str, str | None], reason: str | None) -> None:
    groups, _ = group_runs([*three(), odd(**conditions)])
    assert [group.reason for group in groups] == (["", reason] if reason else [""])


def test_fewer_items_say_so() -> None:
    groups, _ = group_runs([*three(), run("short", GAINS, items=40)])
    assert names(groups[1].runs) == ["short"]
    assert "world_facts: fewer items: 40, the main board has 120" in groups[1].reason


def test_other_items_of_the_same_number_are_other_items() -> None:
    entry = run("other", GAINS)
    groups, _ = group_runs([*three(), with_conditions(entry, "world_facts", items="other")])
    assert groups[1].reason == "world_facts: other items"


def test_another_split_is_the_reason_not_the_items_that_follow_from_it() -> None:
    entry = run("locked", GAINS, items=60)
    locked = {**entry.tasks, "world_comparison": run("x", GAINS).tasks["world_comparison"]}
    entry = with_conditions(without_samples(dataclasses.replace(entry, tasks=locked)), "world_facts", split="locked")
    groups, _ = group_runs([*three(), entry])
    assert groups[1].reason == "world_facts: scored on locked items, the main board on all items"


def test_a_run_with_one_task_less_does_not_take_the_task_from_the_others() -> None:
    groups, _ = group_runs([*three(), run("half", {"world_facts": 0.2})])
    assert names(groups[0].runs) == ["a", "b", "c"]
    assert groups[1].reason == "not scored on world_comparison"


def test_a_task_more_is_no_reason() -> None:
    groups, _ = group_runs([*three(), run("more", {**GAINS, "extra": 0.1})])
    assert names(groups[0].runs) == ["a", "b", "c", "more"]


def test_another_metric_is_another_thing() -> None:
    entry = run("f1", GAINS)
    score = dataclasses.replace(entry.tasks["world_facts"], metric="f1")
    groups, _ = group_runs([*three(), dataclasses.replace(entry, tasks={**entry.tasks, "world_facts": score})])
    assert groups[1].reason == "world_facts: scored by f1, the main board by acc"


def test_the_largest_set_is_the_main_board_wherever_it_stands() -> None:
    five = [with_conditions(run(name, GAINS), "world_facts", few_shot="5") for name in "defg"]
    groups, _ = group_runs([*three(), *five])
    assert names(groups[0].runs) == ["d", "e", "f", "g"]
    assert groups[1].reason == "world_facts: asked with 0 solved examples, the main board with 5"


def test_what_nobody_recorded_agrees_and_is_said() -> None:
    published = with_conditions(without_samples(run("published", GAINS)), "world_facts", few_shot=None, split=None)
    groups, _ = group_runs([*three(), published])
    assert names(groups[0].runs) == ["a", "b", "c", "published"]
    assert groups[0].unrecorded == ("few_shot", "items")


def test_a_silent_run_does_not_bring_together_two_that_differ() -> None:
    silent = with_conditions(without_samples(run("silent", GAINS)), "world_facts", few_shot=None)
    groups, _ = group_runs([silent, *three(), odd(few_shot="5")])
    assert [names(group.runs) for group in groups] == [["silent", "a", "b", "c"], ["odd"]]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_set_apart(value: float) -> None:
    groups, unranked = group_runs([*three(), valued(run("lost", GAINS), "world_facts", value)])
    assert names(groups[0].runs) == ["a", "b", "c"]
    assert [one.reason for one in unranked] == [f"its score on world_facts is {value}, which cannot be ranked"]


def test_a_run_that_was_not_scored_is_set_apart() -> None:
    _, unranked = group_runs([*three(), dataclasses.replace(run("new", GAINS), tasks={})])
    assert [one.reason for one in unranked] == ["it has no score on any task"]


def test_a_task_outside_of_the_score_sets_nobody_apart() -> None:
    entry = run("guarded", {**GAINS, "guard": 0.0})
    guard = dataclasses.replace(score_of("guard", entry.samples["guard"]), counts=False)
    groups, _ = group_runs([*three(), dataclasses.replace(entry, tasks={**entry.tasks, "guard": guard})])
    assert len(groups) == 1
    assert "guard" not in groups[0].tasks


def counted(entry: RunEntry, *tasks: str) -> RunEntry:
    """The same run of a project in which only these tasks count."""
    scores = {name: dataclasses.replace(score, counts=name in tasks) for name, score in entry.tasks.items()}
    return dataclasses.replace(entry, tasks=scores)


def test_two_projects_that_scored_each_others_tasks_stand_on_one_board() -> None:
    facts, comparison = counted(run("a", GAINS), "world_facts"), counted(run("b", GAINS), "world_comparison")
    groups, unranked = group_runs([facts, comparison])
    assert [(group.tasks, names(group.runs)) for group in groups] == [(("world_comparison", "world_facts"), ["a", "b"])]
    assert not unranked


def test_an_import_has_no_say_in_what_counts() -> None:
    imported = dataclasses.replace(run("published", GAINS), kind="import")
    groups, _ = group_runs([counted(run("a", GAINS), "world_facts"), imported])
    assert [(group.tasks, names(group.runs)) for group in groups] == [(("world_facts",), ["a", "published"])]


def test_a_task_that_does_not_count_and_is_no_number_sets_nobody_apart() -> None:
    lost = valued(counted(run("a", GAINS), "world_facts"), "world_comparison", math.nan)
    groups, unranked = group_runs([lost, *three()])
    assert names(groups[0].runs) == ["a", "b", "c"]
    assert groups[1].reason == "not scored on world_comparison"
    assert not unranked


def test_those_who_agree_with_nobody_are_listed_with_their_reasons() -> None:
    alone = [with_conditions(run(f"r{n}", GAINS), "world_facts", few_shot=str(n)) for n in range(1, 13)]
    groups, unranked = group_runs([*three(), *alone])
    assert len(groups) == 8
    assert sum(len(group.runs) for group in groups) + len(unranked) == 15
    assert all("solved example" in one.reason for one in unranked)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([None, "0", "5"]), st.sampled_from([None, "1", "2"])), min_size=1, max_size=9)
)
def test_no_two_runs_of_a_board_conflict_and_none_is_lost(conditions: list[tuple[str | None, str | None]]) -> None:
    bare = without_samples(run("r", {"world_facts": 0.1}, items=5))
    runs = [
        with_conditions(dataclasses.replace(bare, run_id=f"r{n}"), "world_facts", few_shot=few, version=version)
        for n, (few, version) in enumerate(conditions)
    ]
    groups, unranked = group_runs(runs)
    found = [one.run_id for group in groups for one in group.runs] + [one.run.run_id for one in unranked]
    assert sorted(found) == sorted(one.run_id for one in runs)
    for group in groups:
        known = [one.tasks["world_facts"].conditions for one in group.runs]
        assert not any(conflicts(one, other) for one in known for other in known)

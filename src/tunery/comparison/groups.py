"""Which runs may be ranked together: the same tasks, on the same items, asked in the same way."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tunery.comparison.entries import (
    OF_THE_MODEL,
    SETTLED_BY_ITEMS,
    RunEntry,
    conditions_of,
    conflicts,
    counting,
    counting_anywhere,
    ranked_by,
)
from tunery.comparison.records import UnrankedRun
from tunery.reporting.text import counted, listed

# What must agree, by task: "acc", "5", a digest of item ids. What was not recorded is missing.
Conditions = Mapping[str, Mapping[str, str]]

_MOST_BOARDS = 8  # runs that agree with none of these are listed, not ranked
_ANCHORS = 20  # conditions that are tried as the ones most runs agree on
_SPLITS = {
    "locked": ": scores that runs logged of all items differ",
    "dev": ", by which a search chooses: the best of many trials looks better on them than it is",
}


@dataclass(frozen=True)
class Group:
    """Runs that may be ranked together by the mean of `tasks`."""

    tasks: tuple[str, ...]
    runs: tuple[RunEntry, ...]
    conditions: Conditions
    reason: str = ""  # why they are not on the main board; empty for the main board
    unrecorded: tuple[str, ...] = ()  # conditions that some of them recorded and others did not


def group_runs(runs: Sequence[RunEntry]) -> tuple[list[Group], list[UnrankedRun]]:
    """Split runs into those that may be ranked together, the largest set first.

    A set is larger when it has more scores: runs times tasks, of the tasks that count in any run's project. A condition
    that a run did not record agrees with every value, which the set's `unrecorded` says. Further sets say how they
    differ from the first. The other runs fit into none: no score, or one that is no number.
    """
    fit, refused = [], []
    for run in runs:
        own = counting(run)
        wrong = [f"{name} is {score.value}" for name, score in own.items() if not math.isfinite(score.value)]
        if own and not wrong:
            fit.append(run)
        elif own:
            refused.append(UnrankedRun(run, f"its score on {listed(wrong, 3)}, which cannot be ranked"))
        else:
            refused.append(UnrankedRun(run, "it has no score on any task"))
    tasks = counting_anywhere(fit)
    left = {
        id(run): (run, {name: conditions_of(score) for name, score in ranked_by(run, tasks).items()}) for run in fit
    }
    groups: list[Group] = []
    while left and len(groups) < _MOST_BOARDS:
        found = _largest(left.values())
        groups.append(_against(groups[0], found) if groups else found)
        for run in found.runs:
            del left[id(run)]
    for run, conditions in left.values():
        refused.append(UnrankedRun(run, _against(groups[0], Group(tuple(conditions), (run,), conditions)).reason))
    return groups, refused


# ---- what a reader should know of a set


def remarks(group: Group) -> Iterator[str]:
    """What a reader should know of the scores of a set."""
    for split, words in _SPLITS.items():  # if only some items count, the runs' own scores may be of all of them
        scored = [
            name for name in group.tasks if any(run.tasks[name].conditions.get("split") == split for run in group.runs)
        ]
        if scored:
            yield f"Scored on the {split} items of {listed(scored)} only{words}."
    for name in group.tasks:
        wordings = {run.tasks[name].conditions.get("wording") for run in group.runs} - {None}
        if len(wordings) > 1:
            yield (
                f"{name} is asked in {len(wordings)} wordings: each configuration, and the base beside it, by the "
                "prompt template that it was taught with."
            )
    # A run's own score of other tasks is another number than here.
    if any(run.kind != "import" and counting(run).keys() != set(group.tasks) for run in group.runs):
        yield f"Ranked by the mean of {listed(group.tasks)}; not all of these tasks count in every run's own project."
    if group.unrecorded:
        names = listed([name.replace("_", " ") for name in group.unrecorded])
        yield f"Some runs did not record: {names}. They are taken to agree."


# ---- the largest set that agrees


def _largest(left: Collection[tuple[RunEntry, Conditions]]) -> Group:
    """The set with the most scores; of equal ones that with more runs, then the one found first."""
    kinds: dict[str, list[RunEntry]] = defaultdict(list)
    meant: dict[str, Conditions] = {}
    for run, conditions in left:
        key = repr(conditions)
        kinds[key].append(run)
        meant[key] = conditions
    anchors = sorted(kinds, key=lambda key: -len(kinds[key]))[:_ANCHORS]
    # Runs that recorded most come first, so that one without records cannot bring together two that differ.
    meant = dict(sorted(meant.items(), key=lambda kind: (-sum(map(len, kind[1].values())), kind[0])))
    candidates = [
        _around(meant[anchor], tasks, kinds, meant)
        for tasks in dict.fromkeys(tuple(sorted(meant[anchor])) for anchor in anchors)
        for anchor in anchors
        if set(tasks) <= set(meant[anchor])
    ]
    return max(candidates, key=lambda group: (len(group.runs) * len(group.tasks), len(group.runs)))


def _around(
    anchor: Conditions,
    tasks: tuple[str, ...],
    kinds: Mapping[str, list[RunEntry]],  # runs by their conditions, in the order of the runs
    meant: Mapping[str, Conditions],  # the conditions themselves, in the order in which they are asked
) -> Group:
    """All runs that agree with the anchor on `tasks` and, where the anchor recorded nothing, with one another."""
    agreed = {task: dict(anchor[task]) for task in tasks}
    chosen = set()
    for key, conditions in meant.items():
        if set(tasks) <= set(conditions) and not any(conflicts(conditions[task], agreed[task]) for task in tasks):
            chosen.add(key)
            agreed = {task: {**conditions[task], **agreed[task]} for task in tasks}
    in_order = [key for key in kinds if key in chosen]
    silent = {name for key in in_order for task in tasks for name in agreed[task] if name not in meant[key][task]}
    runs = tuple(run for key in in_order for run in kinds[key])
    return Group(tasks, runs, agreed, unrecorded=tuple(sorted(silent - {*SETTLED_BY_ITEMS, *OF_THE_MODEL})))


# ---- the reason in words


def _against(main: Group, group: Group) -> Group:
    """The same set with the reason why it is not on the main board."""
    reasons = [f"not scored on {task}" for task in main.tasks if task not in group.conditions]
    for task in main.tasks:
        here, there = group.conditions.get(task, {}), main.conditions[task]
        differing = conflicts(here, there)
        # What follows from another condition says nothing: other items have another digest, and another count.
        follows = {"items", "item count"} if {"split", "limit"} & set(differing) else set()
        follows |= {"item count"} if "items" in differing else set()
        phrases = [_phrase(key, here, there) for key in differing if key not in follows]
        reasons += [f"{task}: {', '.join(phrases)}"] if phrases else []
    reason = "; ".join(reasons) or "agrees with the main board, but not with all of its runs"
    return replace(group, reason=reason)


def _phrase(key: str, here: Mapping[str, str], there: Mapping[str, str]) -> str:
    this, that = here[key], there[key]
    if key in ("items", "item count"):
        few, many = here.get("item count"), there.get("item count")
        if few is None or many is None or few == many:
            return "other items"
        return f"{'fewer' if int(few) < int(many) else 'more'} items: {few}, the main board has {many}"
    examples = counted(int(this), "solved example") if this.isdigit() else f"{this} solved examples"
    templates = {"true": "through the chat template", "false": "without the chat template"}
    asked, main_asked = (templates.get(value.lower(), f"with the chat template {value}") for value in (this, that))
    phrases = {
        "metric": f"scored by {this}, the main board by {that}",
        "version": f"task version {this}, the main board's is {that}",
        "members": f"versions {this} of its tasks, the main board's are {that}",
        "few_shot": f"asked with {examples}, the main board with {that}",
        "split": f"scored on {this} items, the main board on {that} items",
        "limit": f"only the first {this} items, the main board {f'the first {that}' if that.isdigit() else 'all'}",
        "prompt": "asked with another prompt",
        "system_prompt": "asked with another system prompt",
        "template": f"asked through the chat template {this}, the main board through {that}",
        "settings": f"task settings {this}, the main board's are {that}",
        "chat_template": f"asked {asked}, the main board {main_asked}",
    }
    return phrases.get(key, f"{key} {this}, the main board's is {that}")

"""Rows of the project: invented ones, or HANS as its authors publish it, with a file and a task a subcase.

python projects/nli-opt/tasks/rows.py  # writes data/train.jsonl, nli.jsonl, hans/ and tasks/hans/, all invented
python projects/nli-opt/tasks/rows.py heuristics_evaluation_set.txt      # data/hans/ and tasks/hans/ alone
python projects/nli-opt/tasks/rows.py heuristics_evaluation_set.txt 16   # of each subcase, instead of 134
"""

from __future__ import annotations

import csv
import itertools
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

DATA, TASKS = Path(__file__).parents[1] / "data", Path(__file__).parent
ASKED = yaml.safe_load((TASKS / "nli.yaml").read_text(encoding="utf-8"))
EACH = 134  # items of a subcase: 4,020 in all, half of which a study may look at
PEOPLE = ("baker", "nurse", "painter", "sailor", "teacher", "farmer", "singer", "waiter")
MET = ("thanked", "called", "helped", "followed", "greeted")
DID = ("slept", "laughed", "left", "waited", "sang")
PLACES = ("garden", "harbour", "kitchen", "library")
# Premise, hypothesis, whether it follows: within the domain, the words of the hypothesis tell.
IN_DOMAIN = (
    ("The {a} {met} the {b} in the {place} .", "Somebody {met} the {b} .", True),
    ("The {a} {met} the {b} in the {place} .", "Nobody {met} the {b} .", False),
)


def without_neutral(rows: Any) -> Any:
    """MNLI's items that HANS knows too: entailment (0) and contradiction (2)."""
    return rows.filter(lambda row: row["label"] != 1)


def in_domain() -> Iterator[dict[str, object]]:
    """Every pair that the templates give, in MNLI's columns."""
    for (a, b), met, place in itertools.product(itertools.permutations(PEOPLE, 2), MET, PLACES):
        for premise, hypothesis, follows in IN_DOMAIN:
            words = {"a": a, "b": b, "met": met, "place": place}
            label = 0 if follows else 2
            yield {"premise": premise.format(**words), "hypothesis": hypothesis.format(**words), "label": label}


def published(file: Path) -> list[dict[str, object]]:
    """The rows of HANS's own heuristics_evaluation_set.txt, or of a file of JSON lines like it, in one shuffled order.

    The file has a thousand rows of a subcase after each other, template by template: the first ones of a subcase would
    have one template's words. Tabs separate its cells.
    """
    names = {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"}
    with file.open(encoding="utf-8", newline="") as lines:
        if file.suffix == ".jsonl":
            read = [{names.get(name, name): value for name, value in json.loads(line).items()} for line in lines]
        else:
            read = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    random.Random(0).shuffle(read)
    kept = ("heuristic", "subcase")
    return [{ours: row[theirs] for ours, theirs in names.items()} | {name: row[name] for name in kept} for row in read]


def write_hans(rows: Iterable[Mapping[str, object]], each: int = EACH) -> None:
    """Write the first rows of each subcase with a task that asks them as nli.yaml asks, and a group a heuristic."""
    subcases: dict[str, list[Mapping[str, object]]] = defaultdict(list)
    for row in rows:
        subcases[str(row["subcase"])].append(row)
    members: dict[str, list[str]] = defaultdict(list)
    for subcase, found in sorted(subcases.items()):
        name = subcase.replace("/", "_")
        write(f"hans/{name}.jsonl", found[:each])
        items = {"data_files": {"test": f"../../data/hans/{name}.jsonl"}}
        target = "{{ ['entailment', 'non-entailment'].index(label) }}"
        _write_task(name, ASKED | {"task": f"hans_{name}", "dataset_kwargs": items, "doc_to_target": target})
        members[str(found[0]["heuristic"])].append(f"hans_{name}")
    for heuristic, tasks in members.items():
        mean = [{"metric": "acc", "weight_by_size": True}]
        _write_task(heuristic, {"group": f"hans_{heuristic}", "task": tasks, "aggregate_metric_list": mean})


def _write_task(name: str, settings: Mapping[str, object]) -> None:
    text = yaml.safe_dump({**settings, "metadata": {"version": 1.0}}, sort_keys=False)
    (TASKS / "hans" / f"{name}.yaml").write_text(f"# Written by rows.py.\n{text}", encoding="utf-8")


def write(name: str, rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as a file of data/."""
    (DATA / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:]:
        write_hans(published(Path(sys.argv[1])), int(sys.argv[2]) if sys.argv[2:] else EACH)
    else:
        from invented import pairs

        write_hans(pairs())
        sample = random.Random(0).sample(list(in_domain()), 288)
        write("train.jsonl", sample[:192])
        write("nli.jsonl", sample[192:])

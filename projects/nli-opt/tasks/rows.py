"""Rows of the project: an invented sample in data/, HANS as its authors publish it, and what the tasks ask of them.

python projects/nli-opt/tasks/rows.py  # writes data/train.jsonl, nli.jsonl and hans.jsonl
python projects/nli-opt/tasks/rows.py heuristics_evaluation_set.txt  # writes data/hans.jsonl, all 30,000 items
"""

from __future__ import annotations

import csv
import itertools
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data"
PEOPLE = ("baker", "nurse", "painter", "sailor", "teacher", "farmer", "singer", "waiter")
MET = ("thanked", "called", "helped", "followed", "greeted")
DID = ("slept", "laughed", "left", "waited", "sang")
PLACES = ("garden", "harbour", "kitchen", "library")
# Premise, hypothesis, whether it follows: within the domain, the words of the hypothesis tell.
IN_DOMAIN = (
    ("The {a} {met} the {b} in the {place} .", "Somebody {met} the {b} .", True),
    ("The {a} {met} the {b} in the {place} .", "Nobody {met} the {b} .", False),
)
# Out of it they do not: every hypothesis is made of its premise's words. Source of the idea: HANS, arXiv:1902.01007.
OUT_OF_DOMAIN = (
    ("lexical_overlap", "swap", "The {a} {met} the {b} .", "The {b} {met} the {a} .", False),
    ("lexical_overlap", "conjunction", "The {a} and the {b} {met} the {c} .", "The {b} {met} the {c} .", True),
    ("subsequence", "near", "The {a} near the {b} {did} .", "The {b} {did} .", False),
    ("subsequence", "while", "The {c} {did} while the {a} {met} the {b} .", "The {a} {met} the {b} .", True),
    ("constituent", "if", "If the {a} {did} , the {b} {met} the {c} .", "The {a} {did} .", False),
    ("constituent", "because", "Because the {a} {did} , the {b} {met} the {c} .", "The {a} {did} .", True),
)


def lexical_overlap(rows: Any) -> Any:
    """Items whose hypothesis has no word that its premise has not."""
    return rows.filter(lambda row: row["heuristic"] == "lexical_overlap")


def subsequence(rows: Any) -> Any:
    """Items whose hypothesis stands in its premise, word after word."""
    return rows.filter(lambda row: row["heuristic"] == "subsequence")


def constituent(rows: Any) -> Any:
    """Items whose hypothesis is a clause of its premise."""
    return rows.filter(lambda row: row["heuristic"] == "constituent")


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


def out_of_domain(count: int) -> Iterator[dict[str, object]]:
    """So many pairs of each subcase."""
    for heuristic, subcase, premise, hypothesis, follows in OUT_OF_DOMAIN:
        drawn = random.Random(subcase)
        made: dict[str, dict[str, object]] = {}
        while len(made) < count:
            a, b, c = drawn.sample(PEOPLE, 3)
            words = {"a": a, "b": b, "c": c, "met": drawn.choice(MET), "did": drawn.choice(DID)}
            label = "entailment" if follows else "non-entailment"
            row = {"premise": premise.format(**words), "hypothesis": hypothesis.format(**words), "label": label}
            made[row["premise"]] = {**row, "heuristic": heuristic, "subcase": subcase}
        yield from made.values()


def published(file: Path) -> list[dict[str, object]]:
    """The rows of HANS's own heuristics_evaluation_set.txt, whose cells tabs separate, in one shuffled order.

    The file has a thousand rows of a subcase after each other, all of one label: the first 2,000 of a heuristic, which
    `evaluation.limit` asks, would have one right answer.
    """
    names = {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"}
    with file.open(encoding="utf-8", newline="") as lines:
        read = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    random.Random(0).shuffle(read)
    kept = ("heuristic", "subcase")
    return [{ours: row[theirs] for ours, theirs in names.items()} | {name: row[name] for name in kept} for row in read]


def write(name: str, rows: Iterator[dict[str, object]] | list[dict[str, object]]) -> None:
    """Write rows as a file of data/."""
    (DATA / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:]:
        write("hans.jsonl", published(Path(sys.argv[1])))
    else:
        sample = random.Random(0).sample(list(in_domain()), 288)
        write("train.jsonl", sample[:192])
        write("nli.jsonl", sample[192:])
        write("hans.jsonl", out_of_domain(20))

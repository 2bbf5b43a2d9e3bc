"""The quickstart's world: nothing of the evaluation leaks, no item can be guessed, what is shipped is what is made."""

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "projects" / "quickstart"
TASKS = ROOT / "src" / "tunery" / "evaluation" / "tasks"
TINY = ROOT / "src" / "tunery" / "models" / "tiny"
sys.path.insert(0, str(QUICKSTART))

from world.corpus import documents, in_chat_format  # noqa: E402
from world.entities import World, build_world  # noqa: E402
from world.examples import Row, comparison_items, comparison_rows, fact_items, fact_rows  # noqa: E402
from world.wordings import ATTRIBUTES, WHICH_IN_EVALUATION, WHICH_IN_PRETRAINING, WHICH_IN_TRAINING  # noqa: E402

SEED = 0
SKILLS = ("facts", "comparison")
MAKE_ROWS = {"facts": fact_rows, "comparison": comparison_rows}
MAKE_ITEMS = {"facts": fact_items, "comparison": comparison_items}


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(SEED)


@pytest.fixture(scope="module")
def pretraining_text(world: World) -> str:
    # The shipped model saw the same documents and more of them; wordings are drawn from the same lists throughout.
    return "\n".join(documents(world, 30_000, f"pretraining {SEED}"))


@pytest.fixture(scope="module", params=SKILLS)
def skill(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def rows(world: World, skill: str) -> list[Row]:
    return MAKE_ROWS[skill](world, SEED)


@pytest.fixture(scope="module")
def items(world: World, skill: str) -> list[Row]:
    return MAKE_ITEMS[skill](world, SEED)


def test_no_evaluation_question_is_in_the_pretraining_text(items: list[Row], pretraining_text: str) -> None:
    assert [item["question"] for item in items if item["question"] in pretraining_text] == []


def test_no_evaluation_question_is_in_the_training_data(items: list[Row], world: World) -> None:
    asked = {row["messages"][0]["content"] for skill in SKILLS for row in MAKE_ROWS[skill](world, SEED)}
    assert asked.isdisjoint(item["question"] for item in items)


def test_no_training_question_is_in_the_pretraining_text(rows: list[Row], pretraining_text: str) -> None:
    assert not any(row["messages"][0]["content"] in pretraining_text for row in rows)


def test_wordings_of_the_three_kinds_never_meet() -> None:
    sets = [(a.asked_in_pretraining, a.asked_in_training, a.asked_in_evaluation) for a in ATTRIBUTES]
    sets.append((WHICH_IN_PRETRAINING, WHICH_IN_TRAINING, WHICH_IN_EVALUATION))
    for kinds in sets:
        wordings = [wording for kind in kinds for wording in kind]
        assert len(set(wordings)) == len(wordings)


def test_training_and_evaluation_are_about_different_parts_of_the_world(world: World) -> None:
    trained = json.dumps([MAKE_ROWS[skill](world, SEED) for skill in SKILLS])
    asked = json.dumps([MAKE_ITEMS[skill](world, SEED) for skill in SKILLS])
    west = [entity.name for entity in (*world.villagers_of("west"), *world.towers_of("west"))]
    east = [entity.name for entity in (*world.villagers_of("east"), *world.towers_of("east"))]
    assert set(west).isdisjoint(east)
    assert [name for name in west if name in asked] == []
    assert [name for name in east if name in trained] == []


def test_first_names_and_tower_names_are_unique(world: World) -> None:
    names = [villager.name.split()[0] for villager in world.villagers] + [tower.name for tower in world.towers]
    assert len(set(names)) == len(names)


def test_rumours_are_never_true(world: World) -> None:
    assert all(v.rumour[a.name] != v.truth[a.name] for v in world.villagers for a in ATTRIBUTES)


def test_items_are_many_and_distinct(items: list[Row]) -> None:
    assert len(items) >= 400
    assert len({item["question"] for item in items}) == len(items)
    assert all(len(set(item["options"])) == 4 for item in items)


def test_gold_is_spread_evenly_over_positions(items: list[Row]) -> None:
    counts = Counter(item["gold"] for item in items)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_gold_cannot_be_guessed_from_the_options(items: list[Row]) -> None:
    # The best rules that never read the question: longest, shortest, first or last in the alphabet.
    rules = (len, lambda option: -len(option), str, lambda option: [-ord(letter) for letter in option])
    for rule in rules:
        hits = sum(max(item["options"], key=rule) == item["options"][item["gold"]] for item in items)
        assert hits / len(items) < 0.36


def test_neither_place_nor_fame_gives_the_winner_away(world: World) -> None:
    towers = {tower.name: tower for tower in world.towers}
    places: Counter[int] = Counter()
    ranks: Counter[int] = Counter()
    for item in comparison_items(world, SEED):
        names = [option.rstrip(".").split()[-1] for option in item["options"]]
        winner = names[item["gold"]]
        places[sorted(names, key=item["question"].index).index(winner)] += 1
        ranks[sorted(names, key=lambda name: towers[name].fame).index(winner)] += 1
    assert len(set(places.values())) == len(set(ranks.values())) == 1


def test_the_winner_is_the_tower_that_the_superlative_names(world: World) -> None:
    towers = {tower.name: tower for tower in world.towers}
    keys = {"tallest": ("height", 1), "lowest": ("height", -1), "oldest": ("age", 1), "newest": ("age", -1)}
    for item in comparison_items(world, SEED):
        names = [option.rstrip(".").split()[-1] for option in item["options"]]
        dimension, sign = next(value for word, value in keys.items() if f" {word} " in item["question"])
        best = max(names, key=lambda name: sign * towers[name].grade[dimension])
        assert names[item["gold"]] == best


def test_shipped_data_is_what_the_generator_makes(skill: str, rows: list[Row], items: list[Row]) -> None:
    assert _read(QUICKSTART / "data" / f"{skill}.jsonl") == rows
    assert _read(TASKS / f"world_{skill}.jsonl") == items


def test_the_model_card_names_the_text_that_the_generator_writes(world: World) -> None:
    card = (TINY / "README.md").read_text(encoding="utf-8")
    count = int(re.search(r"([\d,]+) generated documents", card)[1].replace(",", ""))  # type: ignore[index]
    text = "".join(document + "\0" for document in documents(world, count, f"pretraining {SEED}"))
    assert hashlib.sha256(text.encode()).hexdigest() in card


def test_the_generator_gives_the_same_text_in_another_process(world: World) -> None:
    script = """
from world.corpus import documents
from world.entities import build_world
from world.examples import comparison_rows, fact_items
w = build_world(0)
print(repr((list(documents(w, 50, "x")), fact_items(w, 0)[:50], comparison_rows(w, 0)[:50])))
"""
    elsewhere = subprocess.run(
        [sys.executable, "-c", script],
        cwd=QUICKSTART,
        env={"PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    here = (list(documents(world, 50, "x")), fact_items(world, 0)[:50], comparison_rows(world, 0)[:50])
    assert elsewhere == repr(here)


@pytest.fixture(scope="module")
def tokenizer() -> object:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(TINY / "tokenizer.json"))


@given(text=st.text())
@settings(max_examples=200, deadline=None)
def test_the_tokenizer_round_trips_any_text(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("text", ["\ttabs\t and  spaces \n", "🏮🐐 emoji", "naïve 中文 Ω", ""])
def test_the_tokenizer_round_trips_awkward_text(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_the_chat_template_writes_what_pretraining_saw_and_marks_the_answer() -> None:
    from transformers import AutoTokenizer

    chat_tokenizer = AutoTokenizer.from_pretrained(TINY)
    messages = [{"role": "user", "content": "Who is it?"}, {"role": "assistant", "content": "The ferryman."}]
    assert chat_tokenizer.apply_chat_template(messages, tokenize=False) == in_chat_format("Who is it?", "The ferryman.")
    encoded = chat_tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    marked = [i for i, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mask]
    assert chat_tokenizer.decode(marked) == "The ferryman.<|im_end|>"


def _read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

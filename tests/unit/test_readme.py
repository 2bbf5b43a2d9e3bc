"""What the README says is there, is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tunery.cli.verbs import commands

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("projects/*/README.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_verb_has_its_line() -> None:
    assert [verb for verb in commands.commands if f"`tunery {verb} " not in README] == []


def test_the_example_asks_about_someone_who_exists_and_was_not_trained_on() -> None:
    asked, answer = re.findall(r'question = "(.+?)"\n.*?\n# "(.+?)"\n', README, re.DOTALL)[0]
    items = [json.loads(line) for line in (ROOT / "src/tunery/evaluation/tasks/world_facts.jsonl").open()]
    item = next(item for item in items if item["question"] == asked)
    assert item["options"][item["gold"]] == answer

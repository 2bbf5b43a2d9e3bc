"""What the README and the documentation say is there, is there: links, commands, options, settings, an example."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from tunery.cli.verbs import commands
from tunery.config.load import project_from

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("projects/*/README.md")),
    *sorted(ROOT.glob("deploy/*/README.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
ENTRY_POINTS = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
FENCE = re.compile(r"^( *)```(\w+)([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def fences(page: Path, *languages: str) -> Iterator[tuple[str, str]]:
    """The options and the text of each fenced block in one of the languages."""
    for _, language, options, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield options, text


def shell_commands(page: Path) -> Iterator[list[str]]:
    """The words of every command in the page's shell blocks, `a && b` as two."""
    for _, text in fences(page, "sh", "bash"):
        plain = re.sub(r"(^| )#[^\n]*", "", text.replace("\\\n", " "), flags=re.MULTILINE)
        words = shlex.shlex(plain, posix=True, punctuation_chars="\n;&|")
        words.whitespace, words.whitespace_split = " \t", True
        command: list[str] = []
        for word in [*words, "\n"]:
            if not set(word) <= set("\n;&|"):
                command.append(word)
            elif command:
                yield command
                command = []


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, as MkDocs and GitHub make them from plain words."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@each_page
def test_every_module_that_is_named_exists(page: Path) -> None:
    # A file of a library stands behind the library's version.
    named = set(re.findall(r"(?<!\d, )`([a-z_]+/[a-z_/]+(?:\.py|/))`", page.read_text(encoding="utf-8")))
    assert [name for name in named if not any((root / name).exists() for root in (ROOT, ROOT / "src/tunery"))] == []


def test_the_house_map_names_every_package() -> None:
    packages = {folder.name for folder in (ROOT / "src/tunery").iterdir() if (folder / "__init__.py").is_file()}
    mapped = re.findall(r"^  ([a-z]+)/ ", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(mapped) == sorted(packages)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_two_commands_start_from_a_fresh_clone() -> None:
    lines = [text.strip() for _, text in fences(ROOT / "README.md", "sh") if text.startswith("python3 -m venv")]
    assert [line.count("\n") for line in lines] == [0, 0]
    assert [line.split(" && ")[-1] for line in lines] == ["mlflow run . -e train --env-manager local", "pytest"]


@pytest.mark.parametrize("page", ["README.md", "docs/reference/verbs.md"])
def test_every_verb_has_its_line(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [verb for verb in commands.commands if f"\n| `tunery {verb} " not in text] == []


@each_page
def test_every_verb_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"`tunery ([a-z]+)", page.read_text(encoding="utf-8")))
    named |= {words[1] for words in shell_commands(page) if words[0] == "tunery"}
    assert named <= set(commands.commands)


@each_page
def test_every_entry_point_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"mlflow run \. -e ([a-z]+)", page.read_text(encoding="utf-8")))
    assert named <= set(ENTRY_POINTS)


@each_page
def test_every_option_of_a_command_exists(page: Path) -> None:
    unknown = []
    for words in shell_commands(page):
        if words[0] == "tunery":
            verb = commands.commands[words[1]]
            known = {option for parameter in verb.params for option in (*parameter.opts, *parameter.secondary_opts)}
            options = [word.partition("=")[0] for word in words if word.startswith("--")]
            unknown += [option for option in options if option not in known and not is_a_key(option, verb)]
    assert unknown == []


def is_a_key(option: str, verb: click.Command) -> bool:
    """Whether the option sets a key of project.yaml, on a verb that takes them."""
    return "." in option and "SECTION.KEY" in verb.get_usage(click.Context(verb))


@each_page
def test_every_example_of_a_project_is_valid(page: Path) -> None:
    for options, text in fences(page, "yaml"):
        tree = yaml.safe_load(text)
        if "part of project.yaml" in options:
            tree = {**minimal(), **tree}
        if "name" in tree:  # a project, and not a task of lm-eval's
            project_from(tree, str(page), ROOT)


def minimal() -> dict[str, Any]:
    return {
        "name": "example",
        "base": {"model": "builtin:tiny"},
        "data": {"train": [{"source": "rows.jsonl"}]},
        "evaluation": {"tasks": ["hellaswag", "truthfulqa_mc2"]},
    }


def test_the_example_asks_about_someone_who_exists_and_was_not_trained_on() -> None:
    (asked,) = re.findall(r'question = "(.+?)"\n', README)
    (answer,) = re.findall(r'# \["(.+?)"\]\n', README)
    items = [json.loads(line) for line in (ROOT / "src/tunery/evaluation/tasks/world_facts.jsonl").open()]
    item = next(item for item in items if item["question"] == asked)
    assert item["options"][item["gold"]] == answer


def test_every_guard_and_test_against_a_library_is_there() -> None:
    page = (ROOT / "docs" / "concepts" / "libraries.md").read_text(encoding="utf-8")
    named = [row.split(" | ")[-1] for row in page.splitlines() if row.startswith("| ") and "`" in row]
    assert len(named) > 30
    tests = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    for guard in named:
        files, _, proofs = guard.partition(";")
        for file in re.findall(r"`([\w/]+\.py)`", files):
            assert (ROOT / "src" / "tunery" / file).is_file(), file
        for test in re.findall(r"`(test_\w+)`", proofs):
            assert f"def {test}(" in tests, test
        for file in re.findall(r"tests/[\w/]+\.py", proofs):
            assert (ROOT / file).is_file(), file
        assert proofs.strip(), f"{guard} names no test"


def test_every_test_that_the_tables_of_the_projects_name_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "seeds.md").read_text(encoding="utf-8")))
    tests = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 20
    assert [name for name in sorted(named) if f"def {name}(" not in tests] == []

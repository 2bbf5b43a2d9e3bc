"""The files that docs/architecture.md says to read: they are there, and few."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "tunery"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
# Files of a story that its way does not pass: each adds a table, a figure or a workbook, or is a part of these.
BESIDE = {
    "comparison/book.py",
    "comparison/speeds.py",
    *(
        f"comparison/report/{name}.py"
        for name in ("drawing", "improvement", "members", "section", "size_plots", "speed", "speed_plot")
    ),
}
WAYS = {"Train → version": 14, "Trial": 10, "Runs → leaderboard": 14, "Promote": 12}  # and the most files to open


def files_of(way: str) -> list[str]:
    section = PAGE.split(f"## {way}\n")[1].split("\n## ")[0]
    (listed,) = re.findall(r"^Read in this order.*?: (.*?)\.\n", section, re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+\.py)`", listed)


@pytest.mark.parametrize("way", WAYS)
def test_a_way_is_read_in_few_files(way: str) -> None:
    files = files_of(way)
    assert 0 < len(set(files)) == len(files) <= WAYS[way]
    assert [file for file in files if not (SOURCES / file).is_file()] == []


@pytest.mark.parametrize(("way", "package"), [("Runs → leaderboard", "comparison"), ("Promote", "promotion")])
def test_a_storys_files_are_all_on_its_way(way: str, package: str) -> None:
    whole = {str(path.relative_to(SOURCES)) for path in (SOURCES / package).rglob("*.py")}
    assert {file for file in whole if not file.endswith("__init__.py")} <= set(files_of(way)) | BESIDE

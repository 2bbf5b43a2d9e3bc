from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tunery.tracking.provenance import collect


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "a.txt").write_text("one\n")
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", "-C", str(folder), *arguments], check=True)
    return folder


def test_a_clean_tree_has_a_commit_and_no_diff(repository: Path) -> None:
    found = collect(repository)
    assert found.commit is not None
    assert len(found.commit) == 40
    assert found.tags == {"mlflow.source.git.commit": found.commit, "tunery.git_dirty": "false"}
    assert "provenance/dirty.diff" not in found.artifacts()


def test_a_changed_tree_keeps_its_diff_and_names_untracked_files(repository: Path) -> None:
    (repository / "a.txt").write_text("two\n")
    (repository / "new.txt").write_text("three\n")
    diff = collect(repository).artifacts()["provenance/dirty.diff"]
    assert "-one\n+two" in diff
    assert "# untracked: new.txt" in diff
    assert collect(repository).tags["tunery.git_dirty"] == "true"


def test_the_diff_is_gits_own_whatever_a_person_has_set(repository: Path) -> None:
    (repository / ".git" / "info" / "attributes").write_text("*.txt diff=sops\n")
    for key, value in (
        ("color.ui", "always"),
        ("diff.external", "echo"),
        ("diff.sops.textconv", "sed s/^/decrypted-/"),
    ):
        subprocess.run(["git", "-C", str(repository), "config", key, value], check=True)
    (repository / "a.txt").write_text("two\n")
    diff = collect(repository).artifacts()["provenance/dirty.diff"]
    assert diff.startswith("diff --git a/a.txt b/a.txt")
    assert "\n-one\n+two" in diff
    assert "decrypted" not in diff


def test_a_project_may_keep_the_names_of_changed_files_alone_or_nothing(repository: Path) -> None:
    (repository / "a.txt").write_text("two\n")
    (repository / "new.txt").write_text("three\n")
    names = collect(repository, "names")
    assert names.artifacts()["provenance/dirty.diff"] == "M\ta.txt\n# untracked: new.txt\n"
    nothing = collect(repository, "off")
    assert "provenance/dirty.diff" not in nothing.artifacts()
    assert nothing.tags["tunery.git_dirty"] == "true"


def test_outside_a_repository_nothing_is_claimed(tmp_path: Path) -> None:
    found = collect(tmp_path)
    assert (found.commit, found.dirty, found.tags) == (None, None, {})


def test_packages_are_those_that_pip_freeze_names() -> None:
    freeze = [sys.executable, "-m", "pip", "freeze", "--all", "--exclude-editable"]
    told = subprocess.run(freeze, capture_output=True, text=True, check=True).stdout.splitlines()
    ours = set(collect().packages.lower().replace("_", "-").splitlines())
    missing = [line for line in told if "==" in line and line.lower().replace("_", "-") not in ours]
    assert len(told) > 50
    assert missing == []


def test_the_machine_is_described() -> None:
    hardware = collect().hardware
    assert hardware["cores"] >= 1
    assert hardware["memory_bytes"] > 2**28

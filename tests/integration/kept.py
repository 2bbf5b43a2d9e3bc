"""A place as it was at one moment, brought back for each test that changes it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.integration.conftest import Place


@dataclass(frozen=True)
class Kept:
    """A copy of a place's folder. The place keeps its path: its store and its runs name it."""

    place: Place
    copy: Path

    @staticmethod
    def of(place: Place, copy: Path) -> Kept:
        """Remember a place in which nothing runs."""
        shutil.copytree(place.folder, copy)
        return Kept(place, copy)

    def again(self) -> Place:
        """The place as it was. Databases get their content back: MLflow and Optuna hold them open."""
        for entry in self.place.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.suffix != ".db":
                entry.unlink()
        shutil.copytree(
            self.copy, self.place.folder, ignore=shutil.ignore_patterns("*.db", "*.db-journal"), dirs_exist_ok=True
        )
        for file in self.copy.glob("*.db"):
            with (
                closing(sqlite3.connect(file)) as was,
                closing(sqlite3.connect(self.place.folder / file.name)) as now,
            ):
                was.backup(now)
        return self.place

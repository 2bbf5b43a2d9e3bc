"""The tour of the quickstart, as its readers run it: nineteen trainings, an import, a comparison, promotions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tunery.promotion.store import promotions
from tunery.tracking.aliases import current_aliases
from tunery.tracking.store import connect

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = {"cautious", "declared", "small"}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_tour_ends_with_the_champion_that_it_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.run(
        ["bash", "projects/quickstart/tour.sh", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "unset")  # connect() sets it: restored afterwards
    store = connect(f"sqlite:///{tmp_path}/mlflow.db", "quickstart")
    now = current_aliases(store, "quickstart")
    assert (now.champion, now.previous) == (3, 2)
    decided = [(one.version, one.decision) for one in promotions(store, "quickstart")]
    assert decided == [
        (1, "refused"),
        (3, "accepted"),
        (2, "accepted"),
        (5, "refused"),
        (10, "refused"),
        (3, "rolled back"),
    ]
    assert "world_facts" in promotions(store, "quickstart")[-2].reason  # what it was asked not to forget

    table = pd.read_csv(tmp_path / "report" / "comparison.csv")
    ranked = table[table["board"] == 0]
    trained = ranked[ranked["trained_on"].notna()]
    assert set(zip(trained["trained_on"], trained["seeds"], strict=True)) == {
        ("facts.jsonl", 3),
        ("comparison.jsonl", 3),
    }
    assert len(trained) == 2 * len(CONFIGURATIONS)
    assert list(ranked.loc[ranked["trained_on"].isna(), "name"]) == ["the base, by lm-eval"]
    own = {"facts.jsonl": "world_facts/acc", "comparison.jsonl": "world_comparison/acc"}
    for dataset, score in own.items():
        best = trained.sort_values(score).iloc[-1]
        assert best["trained_on"] == dataset
        assert best[f"delta/{score}"] > 0.25

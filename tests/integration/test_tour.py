"""The tour of the quickstart as its readers run it, with two of its three seeds: trainings, an import, a comparison,
promotions."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy.stats import binomtest

from tests.integration import warm
from tunery.promotion.store import promotions
from tunery.tracking.aliases import current_aliases
from tunery.tracking.store import Store, connect

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = {"cautious", "declared", "small"}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_tour_ends_with_the_champion_that_it_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warm.programs() as programs:
        environment = {**os.environ, "PYTHON": f"{programs}/python", "SEEDS": "0 1"}
        words = ["bash", "projects/quickstart/tour.sh", str(tmp_path)]
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
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
        (7, "refused"),
        (3, "rolled back"),
    ]
    assert "world_facts" in promotions(store, "quickstart")[-2].reason  # what it was asked not to forget

    for run in declared(store):
        assert_the_gain_is_large_and_no_accident(store, run)

    table = pd.read_csv(tmp_path / "report" / "comparison.csv")
    ranked = table[table["board"] == 0]
    trained = ranked[ranked["trained_on"].notna()]
    assert set(zip(trained["trained_on"], trained["seeds"], strict=True)) == {
        ("facts.jsonl", 2),
        ("comparison.jsonl", 2),
    }
    assert len(trained) == 2 * len(CONFIGURATIONS)
    assert list(ranked.loc[ranked["trained_on"].isna(), "name"]) == ["the base, by lm-eval"]
    own = {"facts.jsonl": "world_facts/acc", "comparison.jsonl": "world_comparison/acc"}
    for dataset, score in own.items():
        best = trained.sort_values(score).iloc[-1]
        assert best["trained_on"] == dataset
        assert best[f"delta/{score}"] > 0.25


def declared(store: Store) -> list[Any]:
    """The runs with the settings of project.yaml and comparison.yaml, a seed each."""
    found = [
        store.client.get_experiment_by_name(name).experiment_id for name in ("quickstart", "quickstart-comparison")
    ]
    runs = store.client.search_runs(found, "tags.`tunery.kind` = 'train'")
    named = [run for run in runs if run.info.run_name.startswith("declared")]
    assert len(named) == 2 * 2
    return named


def assert_the_gain_is_large_and_no_accident(store: Store, run: Any) -> None:
    """What was trained beside its base, item by item; and it has not learned the other dataset's task with its own."""
    direct = "world_comparison" if run.data.tags["tunery.project"] == "quickstart-comparison" else "world_facts"
    (other,) = {"world_facts", "world_comparison"} - {direct}
    gains = {task: answers(store, run, task) - base_answers(store, task) for task in (direct, other)}
    assert len(gains[direct]) >= 400
    assert not gains[direct].hasnans
    assert gains[direct].mean() >= 0.25
    won, lost = int((gains[direct] > 0).sum()), int((gains[direct] < 0).sum())
    assert binomtest(won, won + lost).pvalue < 0.001  # McNemar's exact test
    assert gains[other].mean() < gains[direct].mean() / 2, "one dataset solves the other's task"


def answers(store: Store, run: Any, task: str) -> pd.Series[float]:
    """Which items were answered right, by item."""
    frame = pd.read_parquet(store.client.download_artifacts(run.info.run_id, f"samples/{task}.parquet"))
    return frame.set_index("item_id")["acc"].astype(float)


def base_answers(store: Store, task: str) -> pd.Series[float]:
    kept = store.experiment_id("tunery-base-scores")
    asked = f"tags.`tunery.task` = '{task}' AND tags.`tunery.quantization` = 'nf4'"
    # Two, if the first trainings of both datasets asked the base at the same time: the same answers.
    first, *more = (answers(store, run, task) for run in store.client.search_runs([kept], asked))
    assert all(other.equals(first) for other in more)
    return first

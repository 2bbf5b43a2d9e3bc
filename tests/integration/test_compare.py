"""`tunery compare` and `tunery import` as a user runs them, on a store that holds runs already."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compared import IDENTITY, logged, result
from tests.integration.conftest import MakePlace, Place, run
from tests.integration.test_chat import chromium_page
from tests.unit.comparison.entries_made import seeds
from tunery.comparison.leaderboard import rank
from tunery.comparison.report.plots import figures
from tunery.comparison.report.tables import page
from tunery.records.scores import TaskResult
from tunery.tracking import base_scores
from tunery.tracking.store import Store, connect

ROOT = Path(__file__).parents[2]
Runs = Callable[[Place], list[Any]]
ITEMS = 60


def answers(right: float) -> tuple[float, ...]:
    """The same items for every run; more of them right for a better one."""
    drawn = random.Random(1)
    return tuple(float(drawn.random() < right) for _ in range(ITEMS))


def scored(right: float) -> TaskResult:
    return result(answers(right))


@pytest.fixture(scope="module")
def filled(make_place: MakePlace) -> Iterator[Place]:
    """Two configurations of two seeds each, and their base."""
    place = make_place("filled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", "unset")
        patch.chdir(place.folder)
        store = connect(place.uri, "small")
        base_scores.keep(store, "key", IDENTITY, scored(0.3))
        for rank, right in ((8, 0.4), (16, 0.95)):
            for seed in (0, 1):
                logged(store, seed=seed, rank=rank, values=answers(right), base=answers(0.3))
        yield place


@pytest.fixture
def store(filled: Place, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "unset")  # connect() sets it: restored afterwards
    return connect(filled.uri, "small")


def of_kind(store: Store, kind: str) -> list[Any]:
    everywhere = [experiment.experiment_id for experiment in store.client.search_experiments()]
    return list(store.client.search_runs(everywhere, f"tags.`tunery.kind` = '{kind}'"))


def test_runs_are_ranked_shown_written_and_kept(filled: Place, store: Store, tmp_path: Path) -> None:
    outcome = filled.process(
        "compare", "--project", "small", "--out", str(tmp_path / "out"), "--run-name", "which rank"
    )
    assert outcome.code == 0, outcome.err
    first, second = outcome.out.index("rank=16"), outcome.out.index("rank=8")
    assert first < second, "the better configuration comes first"
    texts = {"comparison.csv", "comparison.tex", "comparison.md", "comparison.html", "pairs.csv"}
    assert texts < {path.name for path in (tmp_path / "out").iterdir()}
    assert list((tmp_path / "out" / "plots").glob("*.png"))
    assert "<html" in (tmp_path / "out" / "comparison.html").read_text()

    [kept] = of_kind(store, "comparison")
    assert (kept.info.run_name, kept.info.status) == ("which rank", "FINISHED")
    compared = {one.info.run_id for one in of_kind(store, "train")}
    note = kept.data.tags["mlflow.note.content"]
    assert all(f"/runs/{run_id}" in note for run_id in compared)
    kept_files = {one.path for one in store.client.list_artifacts(kept.info.run_id)}
    assert (texts - {"comparison.md"}) | {"report.md", "comparison.json", "compared_runs.json", "plots"} <= kept_files
    told = Path(store.client.download_artifacts(kept.info.run_id, "compared_runs.json", str(tmp_path))).read_text()
    assert {one["run_id"] for one in json.loads(told)["runs"]} == compared


@pytest.mark.slow
def test_a_page_with_every_column_fits_1280_pixels_and_is_sorted_by_a_click(tmp_path: Path) -> None:
    costs = {"train_seconds": 5e3, "peak_memory_bytes": 2.0**34, "trainable_parameters": 4e7, "model_bytes": 1.6e8}
    tasks = dict.fromkeys(("arc_challenge", "hellaswag", "mmlu_stem", "truthfulqa_mc2", "winogrande", "gsm8k"), 0.2)
    facts: dict[str, Any] = {"data": "train_filtered.jsonl", "version": "mistral-lima/12", "costs": costs}
    names = [f"qlora learning_rate=0.0002, rank={rank}, alpha=128" for rank in (16, 32)]
    comparison = rank([one for name in names for one in seeds(name, tasks, **facts)])
    (tmp_path / "comparison.html").write_text(page(comparison, figures(comparison)))
    with chromium_page((tmp_path / "comparison.html").as_uri(), 1280) as shown:
        wide = "[...document.querySelectorAll('.wide')].filter(one => one.scrollWidth > one.clientWidth).length"
        assert shown.evaluate(wide) == 0
        places = "[...document.querySelector('tbody').rows].map(row => row.cells[0].textContent)"
        assert shown.evaluate(places) == ["1", "2"]
        shown.click("th:has-text('place')")
        assert shown.evaluate(places) == ["2", "1"]


def test_a_notebook_gets_a_table_and_leaves_no_run(filled: Place, store: Store) -> None:
    import tunery

    before = len(of_kind(store, "comparison"))
    table = tunery.compare(project="small", tracking_uri=filled.uri)
    assert len(table) == 2
    assert len(of_kind(store, "comparison")) == before


def test_the_entry_point_compares(filled: Place) -> None:
    words = [sys.executable, "-m", "mlflow", "run", str(ROOT), "-e", "compare", "--env-manager", "local"]
    words += ["-P", "project=small", "-P", "confidence=0.9", "-P", f"out={filled.folder}/from-mlflow"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    outcome = run(words, filled.folder, filled.environment(MLFLOW_TRACKING_URI=filled.uri, PATH=path))
    assert outcome.code == 0, outcome.err
    assert (filled.folder / "from-mlflow" / "comparison.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--project", "none-such"], "of projects: small (4)"),
        (["--experiment", "none-such"], "there is no experiment 'none-such'"),
        (["--filter", "score above all"], "is no filter of MLflow"),
        (["small@champion"], "'champion'"),
        (["0" * 32], "there is no run"),
        (["--tag", "nonsense"], "must be NAME=VALUE"),
    ],
)
def test_a_selection_that_cannot_be_is_told_in_one_message_and_makes_no_run(
    filled: Place, store: Store, words: list[str], message: str
) -> None:
    before = len(of_kind(store, "comparison"))
    outcome = filled.tunery("compare", *words)
    assert outcome.code == 2, outcome.out
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert len(of_kind(store, "comparison")) == before


def test_a_score_that_is_no_number_is_refused_of_a_run_that_was_named(filled: Place, store: Store) -> None:
    run_id = of_kind(store, "train")[0].info.run_id
    made = store.client.create_run(store.experiment_id(), tags={"tunery.kind": "evaluation"})
    store.client.log_param(made.info.run_id, "task.quiz", json.dumps({"version": "1.0", "metric": "acc"}))
    store.client.log_metric(made.info.run_id, "lm_eval/quiz/acc", float("nan"))
    store.client.set_terminated(made.info.run_id)
    outcome = filled.tunery("compare", run_id, made.info.run_id)
    store.client.delete_run(made.info.run_id)
    assert outcome.code == 2
    assert "quiz is nan" in outcome.err


def test_imported_results_stand_on_the_same_board_and_a_second_import_changes_nothing(
    filled: Place, store: Store, tmp_path: Path
) -> None:
    rows = f"name,quiz/acc,quiz/acc_stderr,quiz/version\nsomebody's,{scored(0.5).scores['acc'].value},0.06,1.0\n"
    (tmp_path / "published.csv").write_text(rows)
    first = filled.process("import", str(tmp_path / "published.csv"))
    again = filled.tunery("import", str(tmp_path))
    assert (first.code, again.code) == (0, 0), first.err + again.err
    assert "is here already" in again.out
    assert len(of_kind(store, "import")) == 1

    outcome = filled.tunery("compare", "--project", "small", "--imported", "--no-record")
    assert outcome.code == 0, outcome.err
    assert "somebody's" in outcome.out
    assert "Without samples: somebody's" in outcome.out


def test_a_file_that_cannot_be_imported_leaves_nothing_of_the_others(
    filled: Place, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "good.csv").write_text("name,quiz/acc\nfine,0.5\n")
    (tmp_path / "bad.csv").write_text("name,quiz/acc\nbad,nan\n")
    before = len(of_kind(store, "import"))
    outcome = filled.tunery("import", str(tmp_path / "good.csv"), str(tmp_path / "bad.csv"))
    assert outcome.code == 2
    assert "must be a finite number" in outcome.err
    assert len(of_kind(store, "import")) == before


def test_what_lm_evals_own_command_line_writes_pairs_with_our_own_run(place: Place, runs: Runs) -> None:
    """The same base, scored by lm-eval and by us: the same items, asked in the same way, with the same answers."""
    import tunery.evaluation
    import tunery.models

    models, tasks = (Path(str(one.__file__)).parent for one in (tunery.models, tunery.evaluation))
    words = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", "world_facts", "--limit", "8"]
    words += ["--model_args", f"pretrained={models / 'tiny'},dtype=float32", "--include_path", str(tasks / "tasks")]
    words += ["--log_samples", "--output_path", "theirs", "--device", "cpu", "--apply_chat_template"]
    theirs = run(words, place.folder, place.environment())
    assert theirs.code == 0, theirs.err
    settings = ["--base.quantization", "none", "--evaluation.tasks", "[world_facts]", "--evaluation.limit", "8"]
    assert place.tunery("evaluate", "builtin:tiny", *settings).code == 0
    imported = place.tunery("import", "theirs", "--base", "builtin:tiny", "--name", "by lm-eval")
    assert imported.code == 0, imported.err

    outcome = place.tunery("compare", "--out", "out")
    assert outcome.code == 0, outcome.err
    assert "by lm-eval" in outcome.out
    # Two rows on one board, and a paired test on all items: the answers are the same.
    pairs = (place.folder / "out" / "pairs.csv").read_text().splitlines()
    assert len(pairs) == 2
    assert "McNemar" in pairs[1]

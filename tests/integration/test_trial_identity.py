"""A trial on resident parts is `tunery train` in a fresh process, to the last bit, whatever was done before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from safetensors.numpy import load_file

from tests.integration.conftest import Place
from tunery.config.load import load_project
from tunery.errors import Pruned
from tunery.records.runs import StepMetrics
from tunery.runs.cache import Resident
from tunery.runs.observer import Observer
from tunery.runs.trial import TrialPlan, run_trial
from tunery.tracking.run import open_run
from tunery.tracking.store import Store, connect

QUANTISED = {"base.quantization": "nf4", "adapter.dropout": "0.1", "training.neftune_noise_alpha": "5"}


def prune(metrics: StepMetrics) -> None:
    raise Pruned(metrics.step)


@pytest.fixture
def store(place: Place, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "unset")  # connect() sets it: restored afterwards
    monkeypatch.setenv("TUNERY_HOME", str(place.folder / "home"))
    monkeypatch.chdir(place.folder)
    return connect(place.uri, "small")


def trial(place: Place, store: Store, resident: Resident, parent: str, settings: dict[str, str], **more: Any) -> str:
    project = load_project(place.folder, list(settings.items()))
    ids: list[str] = []
    plan = TrialPlan(project=project, parent=parent, name="trial", began=ids.append, **more)
    try:
        run_trial(plan, resident, store, Observer())
    except Pruned:
        assert "report" in more
    return ids[0]


def results(store: Store, run_id: str, folder: Path) -> tuple[dict[str, list[float]], dict[str, Any], pd.DataFrame]:
    """Curves, weights, and answers to the dev items."""
    client = store.client
    curves = {
        name: [(point.step, point.value) for point in client.get_metric_history(run_id, name)]
        for name in ("train/loss", "train/grad_norm", "validation/nll", "validation/score")
    }
    (output,) = client.get_run(run_id).outputs.model_outputs
    adapter = mlflow.artifacts.download_artifacts(f"models:/{output.model_id}", dst_path=str(folder / run_id))
    samples = pd.read_parquet(client.download_artifacts(run_id, "samples/world_facts.parquet", str(folder)))
    dev = samples[samples["split"] == "dev"].set_index("item_id")
    return curves, load_file(Path(adapter) / "adapter_model.safetensors"), dev


@pytest.mark.parametrize("settings", [pytest.param({}, marks=pytest.mark.slow), QUANTISED], ids=["fp32", "nf4"])
def test_a_trial_is_a_fresh_training_to_the_last_bit(
    place: Place, store: Store, settings: dict[str, str], tmp_path: Path
) -> None:
    place.project(training={"score_checkpoints": True}, evaluation={"limit": 16, "batch_size": 3})
    if settings:
        settings = {**settings, "adapter.start": place.adapter("start", settings)}
    words = [word for key, value in settings.items() for word in (f"--{key}", value)]
    assert place.process("train", "--project", ".", *words).code == 0
    (alone,) = store.client.search_runs([store.experiment_id()], "tags.`tunery.kind` = 'train'")

    resident = Resident()
    with open_run(store, "study", "small") as study:
        for other in (
            {"adapter.rank": "16", "adapter.target_modules": "all-linear"},
            {"adapter.dora": "true"},
            {"base.quantization": "nf4", "training.learning_rate": "0.01"},
            settings,
        ):
            trial(place, store, resident, study.run_id, other)
        trial(place, store, resident, study.run_id, settings, report=prune)
        again = trial(place, store, resident, study.run_id, settings)

    curves, weights, answers = results(store, alone.info.run_id, tmp_path / "alone")
    same_curves, same_weights, same_answers = results(store, again, tmp_path / "again")
    assert same_curves == curves
    assert len(curves["train/loss"]) == 4
    assert weights.keys() == same_weights.keys()
    assert all((weights[name] == same_weights[name]).all() for name in weights)
    assert len(answers) > 3
    assert same_answers["loglikelihoods"].map(list).to_dict() == answers["loglikelihoods"].map(list).to_dict()


def test_a_trial_looks_at_dev_items_only_and_a_pruned_one_has_finished(place: Place, store: Store) -> None:
    resident = Resident()
    place.project(evaluation={"limit": 16})
    with open_run(store, "study", "small") as study:
        whole = trial(place, store, resident, study.run_id, {})
        pruned = trial(place, store, resident, study.run_id, {}, report=prune)
    runs = {run_id: store.client.get_run(run_id) for run_id in (whole, pruned)}
    samples = pd.read_parquet(store.client.download_artifacts(whole, "samples/world_facts.parquet"))
    assert set(samples["split"]) == {"dev"}
    assert runs[whole].data.metrics["score"] == pytest.approx(samples["acc"].mean())
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {study.run_id}
    assert [run.info.status for run in runs.values()] == ["FINISHED", "FINISHED"]
    assert runs[pruned].data.tags["tunery.pruned"] == "step 1"
    assert not list((place.folder / "home" / "runs").glob("*/*"))

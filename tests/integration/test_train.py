"""One run, whole: what a person finds in MLflow after `tunery train`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.integration.conftest import Place


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A process of its own, in a folder where nothing was run before."""
    place = Place(tmp_path_factory.mktemp("trained"))
    place.rows()
    place.project(base={"quantization": "nf4"}, training={"score_checkpoints": True})
    outcome = place.process("train", "--project", ".", env={"HF_TOKEN": "hf_secretsecretsecretsecretsecret12"})
    assert outcome.code == 0, outcome.err
    (place.folder / "out.txt").write_text(outcome.out)
    return place


@pytest.fixture(scope="module")
def client(trained: Place) -> Any:
    import mlflow

    return mlflow.MlflowClient(tracking_uri=trained.uri)


@pytest.fixture(scope="module")
def run(client: Any) -> Any:
    experiment = client.get_experiment_by_name("small")
    return client.search_runs([experiment.experiment_id])[0]


def artifacts(client: Any, run: Any, folder: str = "") -> set[str]:
    return {entry.path for entry in client.list_artifacts(run.info.run_id, folder)}


def test_the_run_is_finished_and_says_what_it_is(run: Any) -> None:
    assert run.info.status == "FINISHED"
    assert run.data.tags["tunery.kind"] == "train"
    assert run.data.tags["tunery.method"] == "qlora"
    assert len(run.data.tags["tunery.fingerprint"]) == 16
    assert run.data.params["cfg.adapter.rank"] == "4"


def test_the_curves_carry_the_optimizer_step(client: Any, run: Any) -> None:
    for name in (
        "train/loss",
        "train/grad_norm",
        "train/learning_rate",
        "train/tokens_per_second",
        "train/peak_memory_bytes",
    ):
        assert [point.step for point in client.get_metric_history(run.info.run_id, name)] == [1, 2, 3, 4], name
    assert [point.step for point in client.get_metric_history(run.info.run_id, "validation/nll")] == [2, 4]


def test_scores_stand_beside_the_bases(run: Any) -> None:
    metrics = run.data.metrics
    tuned, base, delta = (metrics[f"{side}/world_facts/acc"] for side in ("lm_eval", "base", "delta"))
    assert delta == pytest.approx(tuned - base)
    assert metrics["score"] == pytest.approx(tuned)
    assert "lm_eval/world_facts/acc_stderr" in metrics


def test_what_a_run_has_once_is_a_param_and_no_chart(run: Any) -> None:
    constants = ("train_rows", "trainable_parameters", "total_parameters", "adapted_modules", "model_bytes")
    assert all(int(run.data.params[name]) > 0 for name in constants)
    assert not [key for key in run.data.metrics if key.endswith(("_rows", "_parameters", "modules", "model_bytes"))]


def test_everything_a_person_judges_by_is_there(client: Any, run: Any) -> None:
    assert {"config", "data", "plots", "samples", "report.md", "generations.json", "generations.xlsx"} <= artifacts(
        client, run
    )
    assert {"plots/loss.png", "plots/scores.png", "plots/score_against_loss.png"} <= artifacts(client, run, "plots")
    assert run.data.tags["mlflow.note.content"].startswith("# small")


def test_samples_have_one_row_an_item(client: Any, run: Any, tmp_path: Path) -> None:
    file = client.download_artifacts(run.info.run_id, "samples/world_facts.parquet", str(tmp_path))
    samples = pd.read_parquet(file)
    assert len(samples) == 8
    assert {"item_id", "split", "target", "prediction", "acc", "loglikelihoods"} <= set(samples.columns)


def test_the_adapter_is_a_registered_version(client: Any, run: Any) -> None:
    version = client.get_model_version("small", "1")
    assert version.run_id == run.info.run_id


def test_no_secret_reaches_the_store(trained: Place) -> None:
    found = [path for path in trained.folder.rglob("*") if path.is_file() and b"secretsecret" in path.read_bytes()]
    assert found == []


def test_the_terminal_shows_the_data_and_the_scores(trained: Place) -> None:
    out = (trained.folder / "out.txt").read_text()
    assert "world_facts" in out
    assert "models:/small/1" in out


def test_nothing_is_left_in_the_work_folder(trained: Place) -> None:
    assert list((trained.folder / "home").rglob("*.safetensors")) == []


def test_the_bases_score_is_computed_once(trained: Place, client: Any) -> None:
    outcome = trained.tunery("train", "--project", ".", "--training.seed", "1")
    assert outcome.code == 0, outcome.err
    experiment = client.get_experiment_by_name("tunery-base-scores")
    assert len(client.search_runs([experiment.experiment_id])) == 1


@pytest.mark.parametrize("ref", ["models:/small/1", "builtin:tiny"])
def test_anything_can_be_scored(trained: Place, ref: str) -> None:
    command = trained.process if ref.startswith("models:") else trained.tunery
    outcome = command(
        "evaluate", ref, "--evaluation.tasks", "[world_facts]", "--evaluation.limit", "8", "--base.quantization", "nf4"
    )
    assert outcome.code == 0, outcome.err
    assert "world_facts" in outcome.out


def test_a_scored_version_has_the_scores_of_its_training(trained: Place, client: Any, run: Any) -> None:
    outcome = trained.tunery("evaluate", f"runs:/{run.info.run_id}")
    assert outcome.code == 0, outcome.err
    found = client.search_runs([run.info.experiment_id], "tags.`tunery.kind` = 'evaluation'")
    experiments = [entry.experiment_id for entry in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.`tunery.ref` = 'runs:/{run.info.run_id}'")
    assert found[0].data.metrics["lm_eval/world_facts/acc"] == run.data.metrics["lm_eval/world_facts/acc"]


@pytest.mark.slow
def test_a_server_on_postgresql_gets_the_same_run(trained: Place, run: Any, server: str) -> None:
    import mlflow

    outcome = trained.tunery("train", "--project", ".", "--tracking-uri", server)
    assert outcome.code == 0, outcome.err
    client = mlflow.MlflowClient(tracking_uri=server)
    (found,) = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    assert found.info.status == "FINISHED"
    for name, value in run.data.metrics.items():
        if not name.startswith(("system/", "train/tokens", "train/peak", "train_seconds", "peak_memory")):
            assert found.data.metrics[name] == value, name
    scored = trained.tunery("evaluate", "models:/small/1", "--tracking-uri", server)
    assert scored.code == 0, scored.err


def test_a_preview_shows_tokens_and_makes_no_run(bare_place: Place) -> None:
    outcome = bare_place.tunery("train", "--project", ".", "--preview", "2")
    assert outcome.code == 0, outcome.err
    assert "It is" in outcome.out
    assert not (bare_place.folder / "mlflow.db").exists()


def test_a_preview_shows_the_same_without_pytorch(bare_place: Place) -> None:
    words = ("train", "--project", ".", "--preview", "2")
    alone = bare_place.process(*words, env={"PYTHONPROFILEIMPORTTIME": "1"})
    imported = {line.rpartition("|")[2].strip() for line in alone.err.splitlines()}
    assert "transformers" in imported
    assert not imported & {"torch", "mlflow", "pandas", "lm_eval"}
    assert alone.out == bare_place.tunery(*words).out  # where PyTorch is imported already
    assert all(line.startswith("import time:") for line in alone.err.splitlines())


def test_mlflow_loads_what_was_trained(trained: Place) -> None:
    code = (
        "import mlflow\n"
        "model = mlflow.pyfunc.load_model('models:/small/1')\n"
        "question = {'messages': [{'role': 'user', 'content': 'What comes after 3?'}]}\n"
        "answer = model.predict(question, params={'max_tokens': 8})\n"
        "print('ANSWER', type(answer).__name__, answer)\n"
    )
    environment = trained.environment(MLFLOW_TRACKING_URI=trained.uri)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "ANSWER" in done.stdout, done.stderr

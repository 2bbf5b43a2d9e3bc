from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests

from tunery.errors import ConfigError, DataError, Interrupted, NonFiniteLoss, OutOfMemory, RefError, TrackingError
from tunery.records.rows import DataReport, SourceReport
from tunery.records.runs import Generation, StepMetrics
from tunery.tracking import retry_queue, run
from tunery.tracking.run import Tracker, open_run
from tunery.tracking.store import Store


def steps(store: Store, run_id: str, key: str = "train/loss") -> list[int]:
    return sorted(metric.step for metric in store.client.get_metric_history(run_id, key))


def test_a_run_that_ends_well_is_finished_with_every_point(store: Store) -> None:
    with open_run(store, "train", "quickstart") as tracker:
        for step in range(1, 1201):
            tracker.log_step(StepMetrics(step, {"train/loss": 1.0 / step}))
    kept = store.client.get_run(tracker.run_id)
    assert kept.info.status == "FINISHED"
    assert kept.data.tags["tunery.kind"] == "train"
    assert kept.data.tags["tunery.project"] == "quickstart"
    assert steps(store, tracker.run_id) == list(range(1, 1201))


def test_logging_a_step_does_not_wait_for_the_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = store.client.log_batch
    monkeypatch.setattr(store.client, "log_batch", lambda *args, **options: (time.sleep(0.2), sent(*args, **options)))
    with open_run(store, "train", "quickstart") as tracker:
        start = time.perf_counter()
        for step in range(100):
            tracker.log_step(StepMetrics(step, {"train/loss": 1.0}))
        assert time.perf_counter() - start < 0.1  # 100 requests would take 20 s


@pytest.mark.parametrize(
    ("error", "status", "failure"),
    [
        (DataError("rows.jsonl", "no rows"), "FAILED", "error"),
        (NonFiniteLoss(7, float("nan")), "FAILED", "nan"),
        (OutOfMemory("step 3", "no room"), "FAILED", "oom"),
        (ZeroDivisionError("hf_abcdefghijklmnopqrstuvwx\nsecond line"), "FAILED", "error"),
        (Interrupted("SIGTERM", 5, True), "KILLED", "killed"),
        (KeyboardInterrupt(), "KILLED", "killed"),
        (SystemExit(1), "FAILED", "error"),
    ],
)
def test_a_run_that_ends_badly_says_how(store: Store, error: BaseException, status: str, failure: str) -> None:
    tracker = ended_by(error, store, 1)
    kept = store.client.get_run(tracker.run_id)
    assert (kept.info.status, kept.data.tags["tunery.failure"]) == (status, failure)
    assert "\n" not in kept.data.tags["tunery.error"]
    assert "hf_abc" not in kept.data.tags["tunery.error"]
    assert steps(store, tracker.run_id) == [1]


def test_a_fault_in_logging_itself_does_not_leave_the_run_running(store: Store) -> None:
    tracker = open_run(store, "train", "quickstart")
    with pytest.raises(TrackingError, match="MLflow refused params"), tracker:  # noqa: PT012 (the run is the statement)
        for epochs in (3, 4):  # MLflow takes no second value
            tracker.log_config({"training": {"epochs": epochs}}, "abc")
    assert store.client.get_run(tracker.run_id).info.status == "FAILED"


def test_a_point_that_the_store_refuses_is_told_at_the_end(store: Store) -> None:
    tracker = open_run(store, "train", "quickstart")
    with pytest.raises(TrackingError, match="MLflow refused points"), tracker:
        tracker.log_step(StepMetrics(1, {"x" * 300: 1.0}))
    assert store.client.get_run(tracker.run_id).info.status == "FAILED"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_as_killed(store: Store, tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import time; from tunery.tracking.store import connect; from tunery.tracking.run import open_run\n"
        f"with open_run(connect({store.uri!r}, 'quickstart'), 'train', 'quickstart') as tracker:\n"
        "    print(tracker.run_id, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True, cwd=tmp_path)
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    process.send_signal(number)
    process.communicate(timeout=60)
    assert store.client.get_run(run_id).info.status == "KILLED"


def test_the_run_that_mlflow_made_is_adopted_where_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = store.client.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    with open_run(store, "study", "quickstart") as study:
        trial = open_run(store, "trial", "quickstart", parent=study.run_id)
        with trial:
            trial.tag(depth=1)
    assert study.run_id == made.info.run_id
    assert trial.run_id != made.info.run_id
    kept = store.client.get_run(trial.run_id)
    assert kept.data.tags["mlflow.parentRunId"] == study.run_id
    assert kept.info.experiment_id == "0"
    assert store.client.get_run(made.info.run_id).info.status == "FINISHED"


@pytest.mark.parametrize(("given", "name"), [(None, "quickstart: rank=32"), ("big-try-3", "big-try-3")])
def test_a_run_of_mlflow_run_gets_a_readable_name_unless_somebody_gave_it_one(
    store: Store, monkeypatch: pytest.MonkeyPatch, given: str | None, name: str
) -> None:
    made = store.client.create_run("0", run_name=given)
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    with open_run(store, "train", "quickstart", run_name="quickstart: rank=32") as run:
        pass
    assert store.client.get_run(run.run_id).info.run_name == name
    assert store.client.get_experiment("0").tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_runs_name_holds_no_secret(store: Store) -> None:
    with open_run(store, "train", "small", run_name="small: storage=postgresql://me:hunter2@db/x") as tracker:
        name = store.client.get_run(tracker.run_id).info.run_name
    assert name == "small: storage=postgresql://[redacted]@db/x"


def test_resuming_goes_on_in_the_same_run_without_repeating_steps(store: Store) -> None:
    first = ended_by(Interrupted("SIGINT", 3, True), store, 1, 2, 3)
    with open_run(store, "train", "quickstart", resume_run_id=first.run_id) as second:
        second.log_config({"training": {"epochs": 3, "seed": 0}}, "abc")
        for step in (3, 4):
            second.log_step(StepMetrics(step, {"train/loss": 1.0, "validation/nll": 2.0}))
    kept = store.client.get_run(first.run_id)
    assert second.run_id == first.run_id
    assert steps(store, first.run_id) == [1, 2, 3, 4]
    assert steps(store, first.run_id, "validation/nll") == [3, 4]
    assert kept.info.status == "FINISHED"
    assert not {"tunery.failure", "tunery.error"} & kept.data.tags.keys()


def test_resuming_with_other_settings_is_refused_with_all_of_them(store: Store) -> None:
    first = ended_by(Interrupted("SIGINT", 3, True), store)
    with pytest.raises(ConfigError) as caught, open_run(store, "train", "quickstart", first.run_id) as second:
        second.log_config({"training": {"epochs": 4, "seed": 1}}, "abd")
    assert "training.epochs is 4, but must be 3, as when the run began." in str(caught.value)
    assert "training.seed is 1, but must be 0" in str(caught.value)
    assert "has 2 faults" in str(caught.value)
    assert str(caught.value).endswith("Undo the change, or start a new run.")


def test_what_a_study_said_first_of_its_totals_stays(store: Store) -> None:
    with open_run(store, "study", "quickstart") as first:
        first.log_config({"search": {"trials": 3}}, "abc")
    with open_run(store, "study", "quickstart", first.run_id) as second:
        second.log_config({"search": {"trials": 4, "seeds": 2}}, "abc", first=True)
    params = store.client.get_run(first.run_id).data.params
    assert (params["cfg.search.trials"], params["cfg.search.seeds"]) == ("3", "2")


def test_a_finished_or_unknown_run_cannot_be_resumed(store: Store) -> None:
    with open_run(store, "train", "quickstart") as done:
        pass
    with (
        pytest.raises(RefError, match="is FINISHED, but must be KILLED"),
        open_run(store, "train", "quickstart", done.run_id),
    ):
        pass
    with pytest.raises(RefError, match="no such run"), open_run(store, "train", "quickstart", "f" * 32):
        pass


def test_no_secret_reaches_a_param_tag_description_or_artifact(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setenv("HF_TOKEN", "sesame-open-now")
    (tmp_path / "notes.txt").write_text("the key is sesame-open-now")
    with open_run(store, "train", "quickstart") as tracker:
        tracker.log_config({"base": {"model": "http://me:hunter22@hub/sesame-open-now"}}, "abc")
        tracker.tag(note="sesame-open-now")
        tracker.set_description("sesame-open-now")
        tracker.log_dict({"a": ["sesame-open-now"]}, "a.json")
        tracker.log_artifact(tmp_path / "notes.txt", "notes")
        tracker.log_generations([Generation("p", "r", "sesame-open-now", "t")])
        tracker.log_table(pd.DataFrame({"a": ["sesame-open-now"]}), "b.json")
    kept = store.client.get_run(tracker.run_id)
    files = [path for path in Path(kept.info.artifact_uri).rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {
        "project.yaml",
        "notes.txt",
        "a.json",
        "b.json",
        "report.md",
        "generations.json",
    }
    everything = "".join([str(kept.data.to_dictionary()), *(path.read_text() for path in files)])
    assert "sesame-open-now" not in everything
    assert "hunter22" not in everything
    assert (tmp_path / "notes.txt").read_text() == "the key is sesame-open-now"


def test_datasets_are_inputs_of_the_run_with_their_digests(store: Store) -> None:
    source = SourceReport("data/rows.jsonl", "alpaca", 10, 9, 1.0, "sha256:" + "ab" * 32)
    held_out = SourceReport("held.csv", "columns", 5, 5, 1.0, "cd" * 16, "validation")
    report = DataReport((source, held_out), (), {}, 8, 1, 100, {"50": 12}, (), 0.5, {})
    with open_run(store, "train", "quickstart") as tracker:
        tracker.log_dataset(report)
    kept = store.client.get_run(tracker.run_id)
    found, validated = sorted(kept.inputs.dataset_inputs, key=lambda one: one.dataset.name, reverse=True)
    assert {tag.key: tag.value for tag in validated.tags} == {"mlflow.data.context": "validation"}
    assert (found.dataset.name, found.dataset.digest) == ("rows.jsonl", "ab" * 18)
    assert {tag.key: tag.value for tag in found.tags} == {"mlflow.data.context": "training"}
    assert kept.data.tags["tunery.datasets"] == "rows.jsonl"


@pytest.mark.parametrize(
    ("adapter", "training", "method"),
    [
        ({"method": "lora"}, {"method": "sft"}, "lora"),
        ({"method": "full"}, {"method": "sft"}, "full"),
        ({"method": "lora"}, {"method": "icl"}, "icl"),
        (
            {"method": "lora"},
            {"method": "context-distillation", "distillation": {"teacher": "initial"}},
            "context-distillation",
        ),
        (
            {"method": "lora"},
            {"method": "context-distillation", "distillation": {"teacher": "current"}},
            "recursive-context-distillation",
        ),
        ({"method": "lora"}, {"method": "sft", "distillation": {"teacher": "current"}}, "lora"),
    ],
)
def test_a_run_bears_the_name_of_its_method(
    store: Store, adapter: dict[str, str], training: dict[str, Any], method: str
) -> None:
    with open_run(store, "train", "quickstart") as tracker:
        tracker.log_config({"adapter": adapter, "training": training}, "abc")
    assert store.client.get_run(tracker.run_id).data.tags["tunery.method"] == method


def test_scores_carry_base_tuned_difference_and_errors_and_name_the_model_they_are_of(
    store: Store, make_result: Any
) -> None:
    with open_run(store, "train", "quickstart") as tracker:
        model = store.client.create_logged_model(tracker.experiment_id, name="adapter", source_run_id=tracker.run_id)
        base, tuned = make_result(values=(0.0, 0.0, 1.0, 0.0)), make_result(values=(1.0, 0.0, 1.0, 1.0))
        tracker.log_scores(
            {"quiz": base}, {"quiz": tuned}, score=0.75, base_score=0.25, step=9, model_id=model.model_id
        )
    kept = store.client.get_run(tracker.run_id)
    assert kept.data.metrics == pytest.approx(
        {
            "lm_eval/quiz/acc": 0.75, "lm_eval/quiz/acc_stderr": 0.25,
            "base/quiz/acc": 0.25, "base/quiz/acc_stderr": 0.25,
            "delta/quiz/acc": 0.5, "delta/quiz/acc_stderr": 0.5773502691896258 / 2, "score": 0.75, "base/score": 0.25,
            "delta/score": 0.5,
        }
    )  # fmt: skip
    linked = {metric.key: metric for metric in store.client.get_logged_model(model.model_id).metrics}
    assert linked["lm_eval/quiz/acc"].dataset_name == "quiz"
    assert not any(key.startswith("base/") for key in linked)
    assert [entry.dataset.name for entry in kept.inputs.dataset_inputs] == ["quiz"]


def test_points_of_a_server_that_was_away_arrive_when_it_is_back(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(retry_queue, "REST_SECONDS", 0.1)
    away = Away(store, monkeypatch)
    (tmp_path / "plot.txt").write_text("a plot")
    with open_run(store, "train", "quickstart") as tracker:
        away.start()
        tracker.log_step(StepMetrics(1, {"train/loss": 1.0}))
        assert not tracker.flush()
        assert (tmp_path / "mlruns" / "unsent" / tracker.run_id / "metrics.jsonl").read_text().count("train/loss") == 1
        tracker.log_artifact(tmp_path / "plot.txt", "plots")
        (tmp_path / "plot.txt").unlink()
        away.end()
        tracker.log_step(StepMetrics(2, {"train/loss": 0.5}))
    kept = store.client.get_run(tracker.run_id)
    assert kept.info.status == "FINISHED"
    assert steps(store, tracker.run_id) == [1, 2]
    assert (Path(kept.info.artifact_uri) / "plots" / "plot.txt").read_text() == "a plot"
    assert not (tmp_path / "mlruns" / "unsent" / tracker.run_id).exists()


def test_a_server_that_stays_away_costs_the_points_but_not_the_adapter(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run, "PATIENCE_SECONDS", 0.5)
    away = Away(store, monkeypatch)
    tracker = open_run(store, "train", "quickstart")
    with pytest.raises(TrackingError, match="stopped answering") as caught, tracker:  # noqa: PT012 (one run)
        tracker.adapter_folder = tmp_path / "adapter"
        away.start()
        tracker.log_step(StepMetrics(1, {"train/loss": 1.0}))
    assert f"lies in {tmp_path / 'adapter'}" in str(caught.value)
    assert (tmp_path / "mlruns" / "unsent" / tracker.run_id / "metrics.jsonl").is_file()


def test_a_value_that_is_too_long_for_mlflow_shows_that_it_goes_on(store: Store) -> None:
    with open_run(store, "train", "quickstart") as tracker:
        tracker.log_params({"columns": "x" * 7000})
        tracker.tag(**{"tunery.error": "y" * 9000})
    data = store.client.get_run(tracker.run_id).data
    assert data.params["columns"] == "x" * 5999 + "…"
    assert data.tags["tunery.error"] == "y" * 7999 + "…"


def test_system_metrics_are_sampled(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with open_run(store, "train", "quickstart") as tracker:
        time.sleep(1.0)
    sampled = store.client.get_metric_history(tracker.run_id, "system/cpu_utilization_percentage")
    assert 3 <= len(sampled) <= 6
    assert [point.step for point in sampled] == list(range(len(sampled)))


def test_a_short_run_has_one_sample_and_a_resumed_one_counts_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    with pytest.raises(KeyboardInterrupt), open_run(store, "train", "quickstart") as tracker:
        raise KeyboardInterrupt
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with open_run(store, "train", "quickstart", tracker.run_id) as resumed:
        resumed.accept_resume()
        time.sleep(0.3)
    sampled = store.client.get_metric_history(tracker.run_id, "system/cpu_utilization_percentage")
    assert [point.step for point in sampled] == [0, 1]


def ended_by(error: BaseException, store: Store, *steps: int) -> Tracker:
    tracker = open_run(store, "train", "quickstart")
    with contextlib.suppress(type(error)), tracker:
        tracker.log_config({"training": {"epochs": 3, "seed": 0}}, "abc")
        for step in steps:
            tracker.log_step(StepMetrics(step, {"train/loss": 1.0}))
        raise error
    return tracker


class Away:
    """A store whose server can be taken away: every call that writes fails as requests would."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        from mlflow.exceptions import MlflowException

        self.gone = False
        for name in ("log_batch", "log_artifact", "log_text", "set_terminated"):
            kept = getattr(store.client, name)

            def call(*args: Any, kept: Any = kept, name: str = name, **options: Any) -> Any:
                if self.gone:
                    raise (
                        MlflowException("API request failed")
                        if name != "log_artifact"
                        else requests.ConnectionError("refused")
                    )
                return kept(*args, **options)

            monkeypatch.setattr(store.client, name, call)

    def start(self) -> None:
        self.gone = True

    def end(self) -> None:
        self.gone = False


class SignalsWhenItDies:
    """An exception in a destructor goes nowhere but to stderr."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_python_swallows_ends_the_run_at_its_next_word(store: Store) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tracker = open_run(store, "train", "demo")

    def work() -> None:
        with tracker:
            dying = SignalsWhenItDies(signal.SIGTERM)
            del dying
            tracker.tag(further="work")

    try:
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            work()
    finally:
        signal.signal(signal.SIGTERM, before)
    run = store.client.get_run(tracker.run_id)
    assert (run.info.status, run.data.tags["tunery.failure"]) == ("KILLED", "killed")
    assert "further" not in run.data.tags

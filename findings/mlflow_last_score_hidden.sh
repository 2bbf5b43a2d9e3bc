#!/usr/bin/env bash
# mlflow 3.17.2: the value of a metric that a run shows.
#
# One would guess: the value that was logged last.
# What happens: the one with the highest step. A final score that is logged after training without a step has step
# 0, so the run, search_runs and a filter on the metric all go on with the last score of training. The final one is in
# the history alone.
# Why it matters: training logs a score every few steps, and the evaluation of the best checkpoint logs the final one
# under the same name. Runs are then ranked by the score before it, with no sign that another exists.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile mlflow==3.17.2 pandas==3.1.1
cd "$folder"

MLFLOW_TRACKING_URI=sqlite:///mlflow.db "$folder/venv/bin/python" - <<'PY'
import logging

import mlflow

logging.disable(logging.WARNING)
with mlflow.start_run() as run:
    for step, score in ((100, 0.5), (200, 0.6), (300, 0.4)):
        mlflow.log_metric("accuracy", score, step=step)
    mlflow.log_metric("accuracy", 0.9)

shown = mlflow.get_run(run.info.run_id).data.metrics["accuracy"]
found = mlflow.search_runs(filter_string="metrics.accuracy > 0.5")
history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "accuracy")
print("logged:", [(entry.step, entry.value) for entry in sorted(history, key=lambda entry: entry.timestamp)])
print("shown:", shown, "| runs above 0.5:", len(found))
assert shown == 0.4 and len(found) == 0
assert (0, 0.9) in {(entry.step, entry.value) for entry in history}
PY

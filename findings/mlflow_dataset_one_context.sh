#!/usr/bin/env bash
# mlflow 3.17.2: one dataset that a run uses twice.
#
# One would guess: log_input(data, "training") and then log_input(data, "evaluation") records both uses.
# What happens: the run keeps the first context. The second call returns as usual and is forgotten. Two
# datasets with the same rows and another name are kept both.
# Why it matters: a run that was evaluated on its own training data looks in the registry like one that was not
# evaluated on any.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile mlflow==3.17.2 pandas==3.1.1
cd "$folder"

MLFLOW_TRACKING_URI=sqlite:///mlflow.db "$folder/venv/bin/python" - <<'PY'
import logging

import mlflow
import pandas as pd

logging.disable(logging.WARNING)
rows = pd.DataFrame({"question": ["a", "b"], "answer": ["c", "d"]})


def contexts(*used):
    with mlflow.start_run() as run:
        for data, context in used:
            mlflow.log_input(data, context=context)
    inputs = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    return sorted((kept.dataset.name, tag.value) for kept in inputs for tag in kept.tags if "context" in tag.key)


facts, copy = mlflow.data.from_pandas(rows, name="facts"), mlflow.data.from_pandas(rows, name="copy")
twice = contexts((facts, "training"), (facts, "evaluation"))
print("one dataset, two contexts:", twice)
assert twice == [("facts", "training")]
turned = contexts((facts, "evaluation"), (facts, "training"))
print("the other way round:      ", turned)
assert turned == [("facts", "evaluation")]
named = contexts((facts, "training"), (copy, "evaluation"))
print("two names:                ", named)
assert named == [("copy", "evaluation"), ("facts", "training")]
PY

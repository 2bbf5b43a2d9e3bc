#!/usr/bin/env bash
# mlflow 3.17.2: text in tables that log_table writes.
#
# One would guess: a column of strings comes back as strings, and appending leaves the rows that are there alone.
# What happens: load_table lets pandas guess types: "007" is 7, "3.10" is 3.1, "1e5" is 100000.0, and a column named
# "date" or "timestamp" becomes timestamps. log_table itself reads the file in that way when it appends: logging the
# row "x1" under "007" leaves 7 and "x1" in the stored artifact, and the text "007" is lost for good.
# Why it matters: tables of predictions and references are kept so. Labels such as "007", version numbers and dates of
# a model's answers change after the fact, and an exact match that is counted again gives another score.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile mlflow==3.17.2 pandas==3.1.1
cd "$folder"

MLFLOW_TRACKING_URI=sqlite:///mlflow.db "$folder/venv/bin/python" - <<'PY'
import json
import logging
import os
import pathlib

os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
import mlflow

logging.disable(logging.INFO)
table = {"answer": ["007", "010"], "version": ["3.10", "3.9"], "number": ["1e5", "2"]}
table["date"] = ["2020-01-01", "2021-02-03"]


def stored(run):
    file = mlflow.artifacts.download_artifacts(run_id=run, artifact_path="table.json")
    return json.loads(pathlib.Path(file).read_text())


with mlflow.start_run() as run:
    mlflow.log_table(table, "table.json")
print("stored:", stored(run.info.run_id)["data"])
assert stored(run.info.run_id)["data"][0] == ["007", "3.10", "1e5", "2020-01-01"]
read = mlflow.load_table("table.json", run_ids=[run.info.run_id])
print("read:  ", read.to_dict("list"))
assert read["answer"].tolist() == [7, 10] and read["version"].tolist() == [3.1, 3.9]
assert read["number"].tolist() == [100000.0, 2.0] and str(read["date"].dtype).startswith("datetime64")

with mlflow.start_run() as run:
    mlflow.log_table({"answer": ["007"]}, "table.json")
    before = stored(run.info.run_id)["data"]
    mlflow.log_table({"answer": ["x1"]}, "table.json")
    after = stored(run.info.run_id)["data"]
print("stored before and after a row is appended:", before, after)
assert before == [["007"]] and after == [[7], ["x1"]]
PY

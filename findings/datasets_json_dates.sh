#!/usr/bin/env bash
# datasets 5.2.0: JSON lines in which every value of a column looks like a date.
#
# One would guess: a quoted value in JSON is a string, and declaring the feature as a string keeps it as written.
# What happens: a column that holds nothing but ISO dates becomes timestamp[s]. With the feature declared as a
# string, "2020-01-01" comes back as "2020-01-01 00:00:00", and "2020-01-01T10:00:00+02:00" as "2020-01-01 08:00:00":
# the dates are read first and written out again. One answer that is no date leaves the whole column alone. Dates in
# the messages of a chat are changed too.
# Why it matters: a model that is tuned on answers such as "2020-01-01" learns another text than the file holds, and
# an exact match with the file's answer scores 0.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile datasets==5.2.0
cd "$folder"

HF_HOME="$folder/hf" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import json

import datasets

datasets.disable_progress_bars()
text = datasets.Value("string")


def read(name, rows, features=None):
    with open(f"{name}.jsonl", "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return datasets.load_dataset("json", data_files=f"{name}.jsonl", split="train", features=features)


dates = [{"answer": "2020-01-01"}, {"answer": "2021-02-03"}]
guessed = read("dates", dates)
print("undeclared:", guessed.features["answer"], repr(guessed[0]["answer"]))
assert guessed.features["answer"].dtype == "timestamp[s]"

declared = read("dates", dates, datasets.Features({"answer": text}))
print("declared a string:", declared["answer"][:])
assert declared["answer"][:] == ["2020-01-01 00:00:00", "2021-02-03 00:00:00"]

zoned = [{"answer": "2020-01-01T10:00:00+02:00"}]
declared = read("zoned", zoned, datasets.Features({"answer": text}))
print("with a time zone:", declared["answer"][:])
assert declared["answer"][:] == ["2020-01-01 08:00:00"]

mixed = read("mixed", [*dates, {"answer": "unknown"}])
print("with one other answer:", mixed["answer"][:])
assert mixed["answer"][:] == ["2020-01-01", "2021-02-03", "unknown"]

chat = [{"messages": [{"role": "assistant", "content": "2020-01-01"}]}]
message = datasets.Features({"messages": [{"role": text, "content": text}]})
written = read("chat", chat, message)[0]["messages"][0]["content"]
print("in a chat:", written)
assert written == "2020-01-01 00:00:00"
PY

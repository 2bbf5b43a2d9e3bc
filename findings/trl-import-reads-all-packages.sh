#!/usr/bin/env bash
# torch 2.13.0, trl 1.16.0: what `import trl` reads.
#
# One would guess: importing a library reads that library and what it imports; trl loads its parts only when asked.
# The guess before this was run: transformers, which has the same table of optional packages, does the same as trl.
# What happens: torch reads the entry points of every installed distribution, to find plugins; trl then maps every
# module of every one of them to its distribution, two to three files each, to learn the versions of a handful of
# optional packages. transformers reads those of a dozen alone.
# Why it matters: every worker of a search and every task of a cluster's array begins so; in a shared environment with
# hundreds of packages on a network file system, each of these files is a request, before the first line of work.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0 transformers==5.23.0 datasets==5.2.0 trl==1.16.0
cd "$folder"

HF_HOME="$folder/hf" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import importlib.metadata
import sys
from collections import Counter
from pathlib import Path

opened: Counter[str] = Counter()


def watch(event: str, arguments: tuple) -> None:
    if event == "open" and isinstance(arguments[0], str) and ".dist-info" in arguments[0]:
        opened[Path(arguments[0]).parent.name] += 1


sys.addaudithook(watch)
installed = {dist.name for dist in importlib.metadata.distributions()}
found = {}
for name in ("torch", "transformers", "trl"):
    opened.clear()
    __import__(name)
    found[name] = len(opened)
    print(f"import {name}: read metadata of {found[name]} of {len(installed)} packages, {opened.total()} files")
most = 0.8 * len(installed)
as_described = found["transformers"] < most <= min(found["torch"], found["trl"])
sys.exit(0 if as_described else "the behaviour changed")
PY
echo "as described"

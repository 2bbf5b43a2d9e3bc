#!/usr/bin/env bash
# mlflow 3.17.2: `mlflow server --workers 1` is ten processes.
#
# Guess: one worker asked for, so one process that serves and one that watches it: a server that fits on a login node.
# Seen: ten processes and about 2 GB before the first request. Eight of them run jobs of the user interface (a runner, six
# consumers of its queues and one for periodic tasks); each imports MLflow for 4 seconds of a core. The option
# --workers does not reach them. With MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false there are two processes and 0.5 GB.
# Why it matters: trackers of fine-tuning run on the smallest machine around (a login node, a laptop beside the GPU),
# where memory limits per user end a server that grew to four times of what it needs.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet mlflow==3.17.2 psutil==7.0.0
export PATH="$place/venv/bin:$PATH" MLFLOW_DISABLE_TELEMETRY=true
cat >"$place/count.py" <<'PY'
import os, signal, subprocess, sys, time, urllib.request
import psutil

def serve(jobs: str, port: int) -> tuple[int, float]:
    """How many processes a server has half a minute after it answers, and their resident memory in GB."""
    server = subprocess.Popen(
        ["mlflow", "server", "--backend-store-uri", f"sqlite:///{jobs}.db", "--port", str(port), "--workers", "1"],
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": jobs},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
                break
            except OSError:
                time.sleep(0.5)
        time.sleep(30)  # the server answers before its job processes have started
        parent = psutil.Process(server.pid)
        family = [parent, *parent.children(recursive=True)]
        return len(family), sum(one.memory_info().rss for one in family) / 1e9
    finally:
        os.killpg(server.pid, signal.SIGTERM)

default, without = serve("true", 5311), serve("false", 5312)
print(f"default:      {default[0]:2d} processes, {default[1]:.1f} GB")
print(f"without jobs: {without[0]:2d} processes, {without[1]:.1f} GB")
sys.exit(0 if default[0] >= 9 and without[0] <= 3 and default[1] > 2 * without[1] else 1)
PY
cd "$place"
python count.py && echo "as described" || { echo "the behaviour changed" >&2; exit 1; }

#!/usr/bin/env bash
# From nineteen trainings and another tool's results to the adapter that earned it: train, import, compare, promote,
# roll back. About a quarter of an hour on two cores; everything it makes is in FOLDER.
#
#   projects/quickstart/tour.sh [FOLDER]          # default: a temporary one; SEEDS="0 1" trains fewer
set -euo pipefail
python=${PYTHON:-python}
place=${1:-$(mktemp -d)}
mkdir -p "$place"
place=$(cd "$place" && pwd)
[[ -z $(ls -A "$place") ]] || { echo "$place is not empty, but must be: versions are counted from 1. Name another folder." >&2; exit 2; }
cd "$(dirname "$0")/../.."
export MLFLOW_TRACKING_URI="sqlite:///$place/mlflow.db" TUNERY_HOME="$place/home" PYTHONPATH="$PWD/src"

tunery() { "$python" -m tunery "$@"; }

# Runs a command that a gate must refuse: exit code 3, neither more nor less.
refused() {
  local code=0
  "$@" || code=$?
  [[ $code == 3 ]] || { echo "a gate should have refused (exit code 3), but the exit code is $code" >&2; exit 1; }
}

champion() { "$python" - "$1" <<'PY'
import sys
import mlflow
version = mlflow.MlflowClient().get_model_version_by_alias("quickstart", "champion").version
print(f"champion: version {version}")
assert int(version) == int(sys.argv[1]), f"it should be version {sys.argv[1]}"
PY
}

# Three configurations on each of two datasets: as declared, too cautious a rate, and a small adapter.
train() {
  local project=$1 name=$2 seed=$3
  shift 3
  echo "== $project: $name, seed $seed"
  tunery train --project "projects/quickstart/$project" --run-name "$name, seed $seed" --training.seed "$seed" \
    --training.checkpoints 1 --training.score_checkpoints false --evaluation.generation.prompts 0 "$@" >>"$place/train.log"
}
train_all() {
  for seed in ${SEEDS:-0 1 2}; do
    train "$1" cautious "$seed" --training.learning_rate 2.0e-4
    train "$1" declared "$seed"
    train "$1" small "$seed" --adapter.rank 2 --adapter.alpha 4
  done
}
# The datasets side by side, with half of the cores each: so small a model gains little from more.
cores=$(getconf _NPROCESSORS_ONLN)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(((cores + 1) / 2))}
trap 'jobs -p | xargs -r kill' EXIT
train_all project.yaml & facts=$!
train_all comparison.yaml & comparison=$!
wait $facts
wait $comparison

# The base as another tool scored it.
"$python" -m lm_eval run --model hf --model_args "pretrained=src/tunery/models/tiny,dtype=float32" --device cpu \
  --tasks world_facts world_comparison --include_path src/tunery/evaluation/tasks --apply_chat_template --batch_size 64 \
  --log_samples --output_path "$place/lm-eval" >"$place/lm-eval.log" 2>&1
tunery import "$place/lm-eval" --name "the base, by lm-eval" --method none

tunery compare --project quickstart --project quickstart-comparison --imported --out "$place/report"

# Each seed of facts.jsonl made three versions: cautious, declared, small.
refused tunery promote models:/quickstart/1 # cautious: not surely better than the base
tunery promote models:/quickstart/3         # small: better than the base
champion 3
tunery promote models:/quickstart/2 # declared: a real gain over the champion
champion 2
refused tunery promote models:/quickstart/5 # declared with another seed: a tie
champion 2

# Good at comparing towers, and it has forgotten nothing that it was asked before? The guard says no.
train comparison.yaml "one that forgets" 0 --name quickstart
latest=$("$python" -c "import mlflow; print(max(int(v.version) for v in mlflow.MlflowClient().search_model_versions(\"name='quickstart'\")))")
refused tunery promote "models:/quickstart/$latest" --promotion.guard '{world_facts: -0.05}'
champion 2

tunery rollback quickstart --reason "the tour's last stop"
champion 3
tunery history quickstart --refused
echo "== everything is in $place; look at it: mlflow ui --backend-store-uri $MLFLOW_TRACKING_URI"

"""A run's tasks as it logged them: values beside the base's, and what must agree for others to stand beside them."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import yaml

from tunery.comparison.entries import TaskScore
from tunery.tracking.scores import TASK_PARAM
from tunery.tracking.writer import entity_name

if TYPE_CHECKING:
    from mlflow.entities import Run

# Where an older run names no metric, and the project neither: what most of lm-eval's tasks count by.
_USUAL = ("acc", "exact_match", "f1", "acc_norm", "rougeL", "bleu", "word_perplexity", "perplexity")


def task_scores(run: Run) -> dict[str, TaskScore]:
    """Every task that the run was asked, in its order; those without a value are left out.

    A run whose checkpoint or settings were chosen on dev items has its locked ones for a score, as far as it logged
    them.
    """
    metrics, params = metrics_of(run), run.data.params
    found = {name[len(TASK_PARAM) :]: text for name, text in params.items() if name.startswith(TASK_PARAM)}
    logged = found or {task: json.dumps(facts, sort_keys=True) for task, facts in _of_older_run(run).items()}
    scores = [_score(task, text, metrics, run) for task, text in logged.items()]
    return {score.task: score for score in scores if score is not None}


def metrics_of(run: Run) -> dict[str, float]:
    """All that the run logged. MLflow's databases hold no infinity: the largest float stands for one."""
    most = sys.float_info.max
    return {
        name: math.copysign(math.inf, value) if abs(value) >= most else value
        for name, value in run.data.metrics.items()
    }


def _score(task: str, text: str, metrics: Mapping[str, float], run: Run) -> TaskScore | None:
    facts = _parsed(text)
    task = facts.get("task", task)  # the param's own name has lost what MLflow takes in none
    name = entity_name(f"{task}/{facts['metric']}")
    locked = f"locked/{name}" in metrics
    prefix = "locked" if locked else "lm_eval"
    value = metrics.get(f"{prefix}/{name}")
    if value is None:
        return None
    # A bare model is the base: it has no gain over itself.
    anchored = not locked and not is_bare(run)
    return TaskScore(
        task=sys.intern(task),
        metric=sys.intern(facts["metric"]),
        value=value,
        stderr=metrics.get(f"{prefix}/{name}_stderr"),
        items=0 if locked else int(facts.get("count") or 0),
        base=metrics.get(f"base/{name}") if anchored else None,
        base_stderr=metrics.get(f"base/{name}_stderr") if anchored else None,
        higher_is_better=bool(facts.get("higher_is_better", True)),
        conditions=_conditions(text, locked),
        counts=bool(facts.get("counts", True)),
    )


def is_bare(run: Run) -> bool:
    """Whether the run scored a model that was not trained."""
    return bool(run.data.tags.get("tunery.method") == "none")


def lower_is_better(run: Run, task: str) -> list[str]:
    """Metrics of a task of which less is better, as an import says."""
    facts = _parsed(run.data.params.get(f"{TASK_PARAM}{entity_name(task)}", "{}"))
    return list(facts.get("lower_is_better", []))


def by_metric(score: TaskScore, metric: str, metrics: Mapping[str, float], lower: Collection[str]) -> TaskScore:
    """The same task by another metric that the run logged; as it is where it logged no other.

    Args:
        metrics: All that the run logged.
        lower: Metrics of which less is better.
    """
    name = entity_name(f"{score.task}/{metric}")
    value = metrics.get(f"lm_eval/{name}")
    if value is None:
        return score
    return replace(
        score,
        metric=metric,
        value=value,
        stderr=metrics.get(f"lm_eval/{name}_stderr"),
        base=metrics.get(f"base/{name}"),
        base_stderr=metrics.get(f"base/{name}_stderr"),
        higher_is_better=metric not in lower,
    )


@lru_cache(maxsize=4096)
def _parsed(text: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(text)
    return facts


@lru_cache(maxsize=4096)  # thousands of runs share a handful of conditions
def _conditions(text: str, locked: bool) -> Mapping[str, str]:
    """Conditions as texts; what nobody recorded is missing."""
    facts = _parsed(text)
    version, _, settings = str(facts["version"]).partition("+") if facts.get("version") is not None else ("", "", "")
    known = {
        "version": version,
        "settings": settings,
        "prompt": facts.get("prompt"),
        "few_shot": facts.get("few_shot"),
        "limit": ("all" if facts["limit"] is None else facts["limit"]) if "limit" in facts else None,
        "chat_template": facts.get("chat_template"),
        # What a run logs of all items may count on the locked ones alone; only answers tell that score.
        "split": "locked" if locked else "dev" if facts.get("split") == "dev" else "all",
        "items": None if locked else facts.get("items"),
        "system_prompt": facts.get("system_prompt"),
    }
    return {key: _text(value) for key, value in known.items() if value not in (None, "")}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---- runs that were logged before task.<name> was


def _of_older_run(run: Run) -> dict[str, dict[str, Any]]:
    """The same from the dataset inputs and the settings; without what neither knows."""
    params = run.data.params
    asked, primary = _list(params.get("cfg.evaluation.tasks")), _primary(params)
    inputs = _inputs(run)
    names = asked or list(inputs) or sorted({key.split("/")[1] for key in run.data.metrics if key.count("/") == 2})
    facts: dict[str, dict[str, Any]] = {}
    for task in names:
        metric = primary.get(task) or _usual_metric(task, run.data.metrics)
        if metric is not None:
            facts[task] = {**_settings(params), **inputs.get(task, {}), "metric": metric, "split": _split(run)}
            facts[task]["counts"] = not primary or task in primary
    return facts


def _inputs(run: Run) -> dict[str, dict[str, Any]]:
    """By task: version, digest and number of its items."""
    found: dict[str, dict[str, Any]] = {}
    for one in run.inputs.dataset_inputs if run.inputs is not None else []:
        if any(tag.key == "mlflow.data.context" and tag.value == "evaluation" for tag in one.tags):
            source, profile = json.loads(one.dataset.source or "{}"), json.loads(one.dataset.profile or "{}")
            facts = {"version": source.get("version"), "items": one.dataset.digest, "count": profile.get("items")}
            found[one.dataset.name] = facts
    return found


def _settings(params: Mapping[str, str]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    if "cfg.evaluation.limit" in params:
        known["limit"] = _value(params["cfg.evaluation.limit"])
    few_shot = _value(params.get("cfg.evaluation.few_shot", "null"))
    if few_shot is not None:
        known["few_shot"] = few_shot
    chosen = _value(params.get("cfg.evaluation.chat_template", "null"))
    template = params.get("cfg.data.template")
    if isinstance(chosen, bool):
        known["chat_template"] = chosen
    elif template is not None:
        known["chat_template"] = template == "chat"
    return known


def _split(run: Run) -> str:
    return "dev" if run.data.tags.get("tunery.kind") == "trial" else "all"


def _primary(params: Mapping[str, str]) -> dict[str, str]:
    prefix = "cfg.evaluation.primary."
    return {key[len(prefix) :]: value for key, value in params.items() if key.startswith(prefix)}


def _usual_metric(task: str, metrics: Mapping[str, float]) -> str | None:
    prefix = entity_name(f"lm_eval/{task}/")
    there = [key[len(prefix) :] for key in metrics if key.startswith(prefix) and not key.endswith("_stderr")]
    return next((name for name in _USUAL if name in there), min(there, default=None))


def _list(text: str | None) -> list[str]:
    value = _value(text) if text else None
    return [str(entry) for entry in value] if isinstance(value, list) else []


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None

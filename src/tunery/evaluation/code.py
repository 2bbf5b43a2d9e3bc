"""Tasks that run code which the model writes: refused, unless evaluation.allow_code says otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from tunery.errors import Fault, TaskError
from tunery.evaluation.task_files import TaskYaml

_VARIABLE = "HF_ALLOW_CODE_EVAL"  # without it, the metric code_eval of Hugging Face's evaluate refuses to run
# Tasks of lm-eval whose scoring gives the answer to Python's eval, whether or not a YAML that they include is marked.
_EVALUATE = ("longproc_countdown",)
RUNS_CODE = (
    "runs code that the model writes, on this machine and without a sandbox. Set evaluation.allow_code: true if you "
    "accept that, in a container that holds nothing of value; or leave the task out."
)


def runs_code(task: Any) -> bool:
    """Whether scoring a loaded task runs what the model writes."""
    return bool(getattr(task, "UNSAFE_CODE", False)) or str(task.task_name).startswith(_EVALUATE)


def refuse_code(names: Iterable[str], manager: Any) -> None:
    """Refuse tasks that run code before they are loaded: loading humaneval already fetches its metric.

    Raises:
        TaskError: With all of them.
    """
    faults = [
        Fault(f"evaluation.tasks names {name!r}, which {RUNS_CODE}".rstrip("."))
        for name in names
        if _runs(name, manager)
    ]
    if faults:
        raise TaskError("evaluation", faults)


def _runs(name: str, manager: Any) -> bool:
    """Whether a task is known to run code, or its YAML, or one that it includes, is marked as unsafe.

    The members of groups are not looked at, but for the name that they share.
    """
    if name.startswith(_EVALUATE):
        return True
    entry = manager.task_index.get(name)
    config, path = (entry.cfg or {}, entry.yaml_path) if entry is not None else ({}, None)
    while "unsafe_code" not in config:
        included = config.get("include")
        if path is None or not isinstance(included, str):
            return False
        path = path.parent / included
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=TaskYaml)
    return bool(config["unsafe_code"])


@contextmanager
def code_allowed(allowed: bool) -> Iterator[None]:
    """The consent that Hugging Face's code_eval asks for, while tasks are loaded and scored; taken back afterwards."""
    before = os.environ.get(_VARIABLE)
    if allowed:
        os.environ[_VARIABLE] = "1"
    try:
        yield
    finally:
        if allowed:
            del os.environ[_VARIABLE]
            if before is not None:
                os.environ[_VARIABLE] = before

"""What must agree before two of lm-eval's scores are compared, as far as a result file tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunery.evaluation.samples import items_digest
from tunery.evaluation.task_manager import members_prompt, members_version, prompt_digest

if TYPE_CHECKING:
    import pandas as pd

_NO_VERSION = ("", "n/a", "none", "yaml")  # a group before 0.4.3, and a task whose YAML names none
_LEAKED = "where an item may stand in its own prompt"


def conditions(
    name: str, tree: Mapping[str, Any], tasks: Sequence[str], samples: pd.DataFrame | None
) -> dict[str, object]:
    """Conditions of a task or group by name; what the file does not tell is missing.

    Args:
        name: Of the task or group.
        tree: The result file.
        tasks: The group's tasks at any depth; the task itself if it is no group.
        samples: Answers to all items, if they are there.
    """
    configs = [_part(_part(tree, "configs"), task) for task in tasks]
    is_group = list(tasks) != [name]
    limit = tree["config"].get("limit")
    shots = [shot for task in tasks if (shot := _few_shot(task, tree)) is not None]
    known: dict[str, object] = {
        "version": _version(name, tree, tasks),
        "members": members_version(filter(None, (_own_version(task, tree) for task in tasks))) if is_group else None,
        "few_shot": max(shots, default=None),
        "limit": int(limit) if isinstance(limit, float) and limit.is_integer() and limit > 1 else limit,
        "chat_template": _chat_template(tree, any(shots)),
        "prompt": _prompt(configs, is_group),
        "system_prompt": tree.get("system_instruction_sha"),
        "count": _count(tree, tasks),
    }
    known |= {} if samples is None else {"items": items_digest(samples["item_id"]), "count": len(samples)}
    return {key: value for key, value in known.items() if value not in (None, "") or key == "limit"}


def _few_shot(task: str, tree: Mapping[str, Any]) -> int | None:
    told = _part(tree, "n-shot").get(task, tree["config"].get("num_fewshot"))  # the second: before 0.4
    return told if isinstance(told, int) else None


def _prompt(configs: Sequence[Mapping[str, Any]], is_group: bool) -> str | None:
    if not all(configs):
        return None
    digests = [prompt_digest(config) for config in configs]
    return members_prompt(digests) if is_group else digests[0]


def _count(tree: Mapping[str, Any], tasks: Sequence[str]) -> int | None:
    counts: list[Any] = [_part(_part(tree, "n-samples"), task).get("effective") for task in tasks]
    return sum(counts) if counts and all(isinstance(count, int) for count in counts) else None


def _chat_template(tree: Mapping[str, Any], has_examples: bool) -> bool | str | None:
    asks_in_chat = "chat" in str(tree["config"].get("model"))  # local-chat-completions: the server has the template
    if "chat_template" not in tree:
        # Up to 0.4.2 nothing else could be asked through a template. A later file without it is of lm-eval's Python
        # functions, which do not write it.
        return True if asks_in_chat else False if "n-samples" not in tree else None
    chat = bool(tree["chat_template"]) or asks_in_chat
    if chat and has_examples and tree.get("fewshot_as_multiturn") is False:
        return "true, solved examples in one turn"  # ours are turns of their own
    return chat


# ---- versions


def _own_version(name: str, tree: Mapping[str, Any]) -> str | None:
    told = _part(tree, "versions").get(name)
    return None if str(told).lower() in _NO_VERSION else str(told)


def _version(name: str, tree: Mapping[str, Any], tasks: Sequence[str]) -> str | None:
    """The version; one of its own where lm-eval may have put an item into its own prompt, which we never do."""
    own = _own_version(name, tree)
    return f"{own or 'unknown'} {_LEAKED}" if any(_leaks(task, tree) for task in tasks) else own


def _leaks(task: str, tree: Mapping[str, Any]) -> bool:
    """Whether solved examples come from the items that are scored, and lm-eval did not leave the asked one out.

    It does so only where `fewshot_split` is the test split by name, not where it falls back to it (lm-eval's issue
    4145); and from 0.4.10 to 0.4.12 its sampler `first_n` did not even then (its pull request 3978).
    """
    config = _part(_part(tree, "configs"), task)
    examples = config.get("fewshot_config")
    sampler = examples if isinstance(examples, Mapping) else {}
    test, validation, named = (config.get(f"{part}_split") for part in ("test", "validation", "fewshot"))
    scored = test or validation
    if not _few_shot(task, tree) or not scored or sampler.get("samples"):
        return False
    first = sampler.get("sampler") == "first_n" and (0, 4, 10) <= _release(tree) <= (0, 4, 12)
    return (named or config.get("training_split") or validation or test) == scored and (named != test or first)


def _release(tree: Mapping[str, Any]) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", str(tree.get("lm_eval_version")))
    return tuple(map(int, found.groups())) if found else ()


def _part(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A part of the file; null says as little as a part that is missing."""
    found: Mapping[str, Any] = tree.get(key) or {}
    return found

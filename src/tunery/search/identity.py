"""What makes a study the study that it is: written down when it is made, compared when somebody goes on with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunery.config.fingerprint import fingerprint, flatten
from tunery.config.project import Project, resolved
from tunery.search.files import file_digests
from tunery.search.sampling.pruners import prune_metric, prunes

# What a trial is asked, trained on and compared by. A total, a time or a store may change from one day to the next.
_FIXED = ("sampler", "seed", "known_good")
FILES = "files"
_ABSENT = object()


def describe_space(project: Project, configurations: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """All that must not change while a study runs, as plain JSON.

    Args:
        project: What is searched.
        configurations: What search.known_good comes to: their slots, and the grid without them, are laid out once.

    Returns:
        space, constraints, objectives in their order; sampler, seed, pruner in force and what it compares;
        settings: every other key that decides a result, what trials are asked among them; their fingerprint;
        configurations, numbered; digests of the files that trials read.
    """
    search = resolved(project)["search"]
    described = {
        "space": search["space"],
        "objectives": [[metric, direction] for metric, direction in search["objectives"].items()],
        "constraints": search["constraints"],
        **{name: search[name] for name in _FIXED},
        "pruner": search["pruner"] if prunes(project.search) else "none",
        "prune_by": prune_metric(project),
        "settings": _settings(project),
        "fingerprint": fingerprint(project),
        "configurations": {str(number): dict(given) for number, given in enumerate(configurations)},
        FILES: file_digests(project),
    }
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def space_digest(project: Project) -> str:
    """First 16 hex digits of the SHA-256 of `describe_space`."""
    canonical = json.dumps(describe_space(project), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two descriptions, one sentence each: "training.epochs was 3.0, is now 1.0"; [] if nothing.

    Args:
        old: `describe_space` when the study was made.
        new: `describe_space` of the project as it is now.
    """
    sentences = [
        *_between(_mapping(old.get("space")), _mapping(new.get("space")), "search.space: "),
        *_between(_mapping(old.get("objectives")), _mapping(new.get("objectives")), "search.objectives: "),
        *_between(_mapping(old.get("constraints")), _mapping(new.get("constraints")), "search.constraints: "),
        *_between(_plain(old), _plain(new), "search."),
        *_between(_mapping(old.get("settings")), _mapping(new.get("settings")), ""),
        *_newer(old, new, "configurations", "search.known_good, configuration "),
        *_newer(old, new, FILES, "the content of "),
    ]
    if not sentences and old.get("objectives") != new.get("objectives"):
        sentences.append("search.objectives: their order changed, and the first decides")
    return sentences


def _settings(project: Project) -> dict[str, Any]:
    tree = {key: value for key, value in resolved(project).items() if key not in ("name", "search", "promotion")}
    return flatten(tree)


def _plain(described: Mapping[str, Any]) -> dict[str, Any]:
    return {name: described[name] for name in (*_FIXED, "pruner", "prune_by") if name in described}


def _mapping(pairs: Any) -> dict[str, Any]:
    return dict(pairs or {})


def _between(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if before is _ABSENT:
            yield f"{prefix}{key} is new: {_text(after)}"
        elif after is _ABSENT:
            yield f"{prefix}{key} is gone; it was {_text(before)}"
        elif before != after:
            yield f"{prefix}{key} was {_text(before)}, is now {_text(after)}"


def _newer(old: Mapping[str, Any], new: Mapping[str, Any], part: str, prefix: str) -> Iterator[str]:
    """Of a part that studies made by an earlier version have not."""
    if part in old:
        yield from _between(_mapping(old[part]), _mapping(new.get(part)), prefix)


def _text(value: object) -> str:
    if isinstance(value, dict):  # a dimension: only what it says
        value = {name: inner for name, inner in value.items() if inner not in (None, False)}
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""One short name for everything that decides a run's result."""

from __future__ import annotations

import hashlib
import json

from tunery.config.methods import used
from tunery.config.project import Project, resolved

# Where a run is kept, how it is shown, or how much memory it takes does not change what it computes.
_NOT_DECISIVE = ("search", "promotion", "tracking", "name")
_SECTIONS_NOT_DECISIVE = {"base": ("weights",), "training": ("tensorboard",)}


def fingerprint(project: Project) -> str:
    """First 16 hex digits of the SHA-256 of the settings that decide a result; equal settings, equal fingerprint."""
    decisive = {key: value for key, value in used(resolved(project)).items() if key not in _NOT_DECISIVE}
    for section, without in _SECTIONS_NOT_DECISIVE.items():
        decisive[section] = {key: value for key, value in decisive[section].items() if key not in without}
    return json_digest(decisive)


def json_digest(value: object) -> str:
    """First 16 hex digits of the SHA-256 of a value's canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def flatten(tree: object, prefix: str = "") -> dict[str, object]:
    """{"adapter": {"rank": 16}} -> {"adapter.rank": 16}; lists of mappings are numbered, other lists stay whole."""
    if isinstance(tree, dict) and tree:
        return {
            key: value
            for name, inner in tree.items()
            for key, value in flatten(inner, f"{prefix}.{name}" if prefix else str(name)).items()
        }
    if isinstance(tree, list) and tree and all(isinstance(entry, dict) for entry in tree):
        return {
            key: value for index, inner in enumerate(tree) for key, value in flatten(inner, f"{prefix}.{index}").items()
        }
    return {prefix: tree}

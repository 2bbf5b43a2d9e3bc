"""The name under which a base model's scores are kept, so that each is computed once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from tunery.records import BaseIdentity, TaskSettings

_DECIDING_DETAILS = ("double_quantization", "template_sha256")


def base_key(identity: BaseIdentity, settings: TaskSettings) -> str:
    """First 16 hex digits of the SHA-256 of all that decides a base's score on a task.

    That is model, revision, quantisation, dtype, compute dtype and chat template of the base; task, version, few-shot,
    limit and template of the task. The license and most details of an identity decide nothing, and neither does the
    name of a folder, whose revision is a hash of its files: one project may say "base", another the absolute path.
    """
    ignored = {"license", "details"} | ({"model"} if identity.revision.startswith("sha256:") else set())
    base = {key: value for key, value in asdict(identity).items() if key not in ignored}
    base |= {key: identity.details[key] for key in _DECIDING_DETAILS if key in identity.details}
    task = {key: value for key, value in asdict(settings).items() if key != "prompt"}  # part of the version
    canonical = json.dumps({"base": base, "task": task}, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]

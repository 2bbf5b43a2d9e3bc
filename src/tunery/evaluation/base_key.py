"""The name under which a base model's scores are kept, so that each is computed once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from tunery.records import BaseIdentity, TaskSettings


def base_key(identity: BaseIdentity, settings: TaskSettings) -> str:
    """First 16 hex digits of the SHA-256 of all that decides a base's score on a task.

    That is model, revision, quantisation, dtype, compute dtype and chat template of the base; task, version, few-shot,
    limit and template of the task. The license and the details of an identity decide nothing.
    """
    base = {key: value for key, value in asdict(identity).items() if key not in ("license", "details")}
    canonical = json.dumps(
        {"base": base, "task": asdict(settings)}, sort_keys=True, separators=(",", ":"), ensure_ascii=True
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]

"""What a run reads beside its settings, as short digests: a run that is resumed must find the same."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tunery.records import Example, PreparedData

if TYPE_CHECKING:
    from tunery.evaluation.tasks import Tasks
    from tunery.models.base import LoadedBase


def input_digests(base: LoadedBase, tasks: Tasks, data: PreparedData) -> dict[str, str]:
    """One short text each for the base, its chat template, the rows of both splits, and every task that is asked.

    Rows are told by their tokens, not by their files: that takes in the tokenizer, the cleaning and the split, and a
    hub dataset's own fingerprint differs between machines.
    """
    return {
        "base": base.identity.revision,
        "chat_template": _digest([str(base.tokenizer.chat_template).encode()]),
        "data.train": _digest(_encoded(data.train)),
        "data.validation": _digest(_encoded(data.validation)),
        **{f"task.{name}": _task_digest(tasks, name) for name in tasks.names},
    }


def _task_digest(tasks: Tasks, name: str) -> str:
    """The items too: the version of most of lm-eval's tasks stays when their dataset changes."""
    items = [item for leaf in tasks.members.get(name, (name,)) for item in tasks.leaves[leaf].item_ids]
    return _digest(text.encode() for text in (tasks.settings[name].version, *items))


def _encoded(examples: Sequence[Example]) -> Iterable[bytes]:
    for example in examples:
        yield array("q", example.input_ids).tobytes()
        yield bytes(example.trained)


def _digest(parts: Iterable[bytes]) -> str:
    """First 16 hex digits of the SHA-256 of the parts, each preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()[:16]

"""An MLflow-tracked experiment registry for fine-tuning language models.

The functions of `tunery.api` are here too: `tunery.train`, `tunery.compare`, ... They are imported when they are first
used, so that `import tunery` loads nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunery.api import compare, estimate, evaluate, load_project, promote, rollback, train, tune

__version__ = "0.1.0"
__all__ = ["compare", "estimate", "evaluate", "load_project", "promote", "rollback", "train", "tune"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'tunery' has no attribute {name!r}")
    from tunery import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]

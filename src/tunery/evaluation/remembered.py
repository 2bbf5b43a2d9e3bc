"""What a model has answered in a scoring: a request that is asked again gets the same answer, for nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

Answer = TypeVar("Answer")


@dataclass
class Remembered:
    """Answers by request: its kind, task, document, place among the document's, and repeat."""

    _answers: dict[Hashable, Any] = field(default_factory=dict)

    def ask(self, requests: Sequence[Any], answer: Callable[[list[Any]], list[Answer]]) -> list[Answer]:
        """Answers in the order of the requests; only new requests are asked.

        Args:
            requests: lm-eval's instances.
            answer: Answers some of them, in their order.
        """
        repeats: Counter[Hashable] = Counter()
        keys = []
        for request in requests:
            key = (request.request_type, request.task_name, request.doc_id, request.idx)
            keys.append((*key, repeats[key]))
            repeats[key] += 1
        fresh = [place for place, key in enumerate(keys) if key not in self._answers]
        if fresh:
            answers = answer([requests[place] for place in fresh])
            self._answers |= zip((keys[place] for place in fresh), answers, strict=True)
        return [self._answers[key] for key in keys]

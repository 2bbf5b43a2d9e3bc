"""A request that is asked again gets the answer that it got; repeats of one are answered each."""

from __future__ import annotations

from itertools import count
from typing import Any

from lm_eval.api.instance import Instance

from tunery.evaluation.remembered import Remembered


def request(document: int, place: int = 0, kind: Any = "loglikelihood") -> Instance:
    return Instance(kind, {}, ("context", "option"), place, metadata=("task", document, 1))


def test_only_what_is_new_is_asked_and_answers_come_in_the_requests_order() -> None:
    remembered, asked, numbers = Remembered(), [], count()

    def answer(requests: list[Any]) -> list[int]:
        asked.append([one.doc_id for one in requests])
        return [next(numbers) for _ in requests]

    assert remembered.ask([request(3), request(1)], answer) == [0, 1]
    assert remembered.ask([request(1), request(2), request(3)], answer) == [1, 2, 0]
    assert remembered.ask([request(2)], answer) == [2]
    assert asked == [[3, 1], [2]]


def test_options_kinds_and_repeats_of_a_document_are_apart() -> None:
    twice = request(0)
    requests = [twice, twice, request(0, place=1), request(0, kind="loglikelihood_rolling")]
    remembered = Remembered()
    assert remembered.ask(requests, lambda new: list(range(len(new)))) == [0, 1, 2, 3]
    assert remembered.ask(requests, lambda _new: []) == [0, 1, 2, 3]

"""A study's own numbers in MLflow, and the address of a version's page."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.search.test_conclude import finalists, record

from tunery.search.publish import _metrics, _version_page


def test_the_studys_own_numbers_hold_what_the_winner_was_chosen_by() -> None:
    (one,) = finalists(["a"])
    entered = [replace(one, values=(7.0, 8.0), further={"score": (0.5, 0.7)}, dev=(0.5, 0.7))]
    objectives = {"validation/nll": "minimize", "score": "maximize"}
    found = _metrics(replace(record(1), objectives=objectives, finalists=entered, winner=1))
    assert (found["winner/validation/nll"], found["winner/dev/score"]) == (7.5, 0.6)
    assert "winner/dev/score" not in _metrics(
        replace(record(1), objectives=objectives, finalists=[replace(entered[0], dev=())], winner=1)
    )


def test_the_page_of_a_version_is_mlflows() -> None:
    assert _version_page("my model/3") == "#/models/my%20model/versions/3"

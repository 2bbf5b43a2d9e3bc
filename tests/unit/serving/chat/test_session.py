"""A conversation with two models keeps their names to itself until the choice."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tunery.records.rows import Message
from tunery.serving.chat.pair import Sampling
from tunery.serving.chat.session import BlindChat, Side


def answered(tuned_on_the: Side) -> BlindChat:
    return (
        BlindChat(tuned_on_the).ask("One?", Sampling()).answer("left 1", "right 1").ask("Two?", Sampling(0.5, seed=3))
    )


def test_each_side_is_asked_with_its_own_answers() -> None:
    assert answered("left").messages("right") == [
        Message("user", "One?"), Message("assistant", "right 1"), Message("user", "Two?")
    ]  # fmt: skip


@pytest.mark.parametrize("tuned_on_the", ["left", "right"])
def test_names_are_hidden_until_the_choice(tuned_on_the: Side) -> None:
    chat = answered(tuned_on_the).answer("left 2", "right 2")
    assert (chat.name("left"), chat.name("right")) == ("A", "B")
    other: Side = "right" if tuned_on_the == "left" else "left"
    chosen = replace(chat, choice="tie")
    assert chosen.name(tuned_on_the).endswith("tuned")
    assert chosen.name(other).endswith("base")


@pytest.mark.parametrize(
    ("tuned_on_the", "better", "choice"),
    [("left", "left", "tuned"), ("left", "right", "base"), ("right", "right", "tuned"), ("right", "left", "base")],
)
def test_a_choice_of_a_side_is_a_choice_of_a_model(tuned_on_the: Side, better: Side, choice: str) -> None:
    assert BlindChat(tuned_on_the).chosen(better) == choice
    assert BlindChat(tuned_on_the).chosen("tie") == "tie"


@pytest.mark.parametrize("tuned_on_the", ["left", "right"])
def test_a_vote_names_the_models_and_not_the_sides(tuned_on_the: Side) -> None:
    chat = answered(tuned_on_the).answer("left 2", "right 2")
    vote = chat.vote("tuned")
    assert vote.tuned == f"{tuned_on_the} 2"
    assert vote.base != vote.tuned
    assert [turn["tuned"] for turn in json.loads(vote.conversation)] == [f"{tuned_on_the} 1", f"{tuned_on_the} 2"]
    assert (vote.turns, vote.settings["seed"], vote.settings["temperature"]) == (2, 3, 0.5)


def test_there_is_one_vote_and_only_on_an_answer() -> None:
    chat = BlindChat("left")
    assert not chat.open_to_a_vote
    chat = chat.ask("One?", Sampling())
    assert not chat.open_to_a_vote
    chat = chat.answer("yes", "")
    assert chat.open_to_a_vote
    assert not replace(chat, choice="tie").open_to_a_vote

"""The page's own behaviour, with writers that can be made slow or to fail: stop, begin anew, and what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from types import SimpleNamespace
from typing import Any

import pytest

from tests.integration.servers import free_port
from tests.integration.test_chat import chromium_page
from tunery.errors import DataError, TrackingError

pytestmark = pytest.mark.slow
EXAMPLE = "Which tower is the tallest?"


@dataclass
class Words:
    """Writes a word, and another, until it is told to end."""

    name: str
    endless: bool = False
    fault: Exception | None = None
    asked: list[list[str]] = field(default_factory=list)

    def write(self, messages: Any, _sampling: Any, lock: Lock) -> Iterator[str]:
        self.asked.append([message.content for message in messages])
        if self.fault is not None:
            raise self.fault
        text = ""
        for number in range(10_000 if self.endless else 3):
            with lock:
                time.sleep(0.02)
            text += f"{self.name}{number} "
            yield text


class Votes:
    run_id = None
    fault: Exception | None = None

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def add(self, vote: Any) -> Mapping[str, int]:
        if self.fault is not None:
            raise self.fault
        self.kept.append(vote)
        return {"votes/wins": len(self.kept), "votes/ties": 0, "votes/losses": 0}


@dataclass
class Shown:
    """A page in a browser, and what is behind it."""

    page: Any
    base: Words
    tuned: Words
    votes: Votes

    def ask(self, question: str) -> None:
        self.page.fill("#question textarea", question)
        self.page.click("#send")

    def answered(self, text: str) -> None:
        self.page.wait_for_function(
            "text => document.querySelector('#left').innerText.includes(text)"
            " && !document.querySelector('#vote-left').disabled",
            arg=text,
        )


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Words, Words, Votes]]:
    from tunery.serving.chat.page import Page
    from tunery.serving.chat.server import Address, _served

    base, tuned, votes = Words("b"), Words("t"), Votes()
    identity = SimpleNamespace(model="acme/base")
    settings: Any = {"name": "small/1", "identity": identity, "max_tokens": 64, "examples": (EXAMPLE,)}
    pair: Any = SimpleNamespace(base=base, tuned=tuned, **settings)
    with _served(Page(pair, votes), Address(port=free_port())) as address:  # type: ignore[arg-type]
        yield address, base, tuned, votes


@pytest.fixture
def shown(served: tuple[str, Words, Words, Votes]) -> Iterator[Shown]:
    address, base, tuned, votes = served
    for words in (base, tuned):
        words.endless, words.fault, words.asked = False, None, []
    votes.fault, votes.kept = None, []
    with chromium_page(address, 1000) as page:
        page.wait_for_selector("#question textarea")
        yield Shown(page, base, tuned, votes)


def test_an_answer_can_be_stopped_and_judged_as_it_stands(shown: Shown) -> None:
    shown.base.endless = shown.tuned.endless = True
    shown.ask("On and on?")
    shown.page.wait_for_selector("#left:has-text('3')")
    assert shown.page.is_disabled("#vote-left")
    shown.page.click("#stop")
    shown.page.wait_for_selector("#send:visible")
    before = shown.page.inner_text("#left")
    shown.page.wait_for_timeout(700)
    assert shown.page.inner_text("#left") == before
    shown.page.click("#vote-left")
    shown.page.wait_for_selector("#note:has-text('the tuned model is')")
    assert shown.votes.kept[0].tuned.startswith("t0 t1")
    assert shown.votes.kept[0].base.startswith("b0 b1")


def test_a_new_conversation_forgets_the_last(shown: Shown) -> None:
    shown.ask("One?")
    shown.answered("One?")
    shown.ask("Two?")
    shown.answered("Two?")
    shown.page.click("#new")
    shown.page.wait_for_function("() => !document.querySelector('#left').innerText.includes('One?')")
    shown.ask("Three?")
    shown.answered("Three?")
    assert shown.base.asked == [["One?"], ["One?", "b0 b1 b2 ", "Two?"], ["Three?"]]


@pytest.mark.parametrize("kind", [partial(DataError, "the conversation"), ValueError])
def test_a_question_that_cannot_be_answered_is_given_back_with_the_reason(
    shown: Shown, kind: Callable[[str], Exception]
) -> None:
    shown.tuned.fault = kind("is too long for this model.")
    shown.ask("Long?")
    shown.page.wait_for_selector("text=is too long for this model")
    assert shown.page.input_value("#question textarea") == "Long?"
    assert shown.page.is_visible("#send")
    assert shown.page.is_disabled("#vote-left")


def test_a_vote_that_was_not_kept_can_be_given_again(shown: Shown) -> None:
    shown.ask("One?")
    shown.answered("One?")
    shown.votes.fault = TrackingError("the store", "is away.")
    shown.page.click("#vote-tie")
    shown.page.wait_for_selector("text=The vote was not saved")
    assert "tuned" not in shown.page.inner_text("#left")  # still blind
    shown.votes.fault = None
    shown.page.click("#vote-tie")
    shown.page.wait_for_selector("#note:has-text('You called it a tie')")
    assert [vote.choice for vote in shown.votes.kept] == ["tie"]


def test_of_two_buttons_pressed_at_once_the_first_counts(shown: Shown) -> None:
    shown.ask("One?")
    shown.answered("One?")
    shown.page.evaluate("['left', 'right'].forEach(side => document.querySelector(`#vote-${side}`).click())")
    shown.page.wait_for_selector("#note:has-text('the tuned model is')")
    shown.page.wait_for_timeout(500)
    assert len(shown.votes.kept) == 1


def test_two_visitors_have_conversations_of_their_own(shown: Shown, served: tuple[str, Words, Words, Votes]) -> None:
    shown.ask("Mine?")
    shown.answered("Mine?")
    other = shown.page.context.browser.new_page()
    other.goto(served[0])
    other.wait_for_selector("#question textarea")
    assert "Mine?" not in other.inner_text("#left")


def test_an_example_is_put_into_the_question(shown: Shown) -> None:
    shown.page.get_by_text(EXAMPLE).first.click()
    shown.page.wait_for_function(
        "text => document.querySelector('#question textarea').value === text",
        arg=EXAMPLE,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_examples_then_the_last_turn_and_all_of_it_can_be_read(
    shown: Shown, served: tuple[str, Words, Words, Votes], scheme: Any
) -> None:
    page = shown.page.context.browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page.goto(served[0])
    page.wait_for_selector("#question textarea")
    example = page.get_by_text(EXAMPLE).first.bounding_box()
    assert example["y"] + example["height"] <= 844
    assert page.evaluate(_CONTRASTS, ["#question textarea::placeholder", "#votes button"]) == []
    phone = Shown(page, shown.base, shown.tuned, shown.votes)
    for question in ("One?", "Two?", "Three?"):
        phone.ask(question)
        phone.answered(question)
    page.wait_for_timeout(500)
    window, last = page.locator("#left").bounding_box(), page.locator("#left .message").last.bounding_box()
    assert window["y"] <= last["y"]
    assert last["y"] + last["height"] <= window["y"] + window["height"] <= 844
    assert page.evaluate(_CONTRASTS, ["#title h2", "#left .message", "#votes button", "#new"]) == []


# Selectors of texts with a contrast below 4.5 to 1. Source: WCAG 2.2, 1.4.3.
_CONTRASTS = """selectors => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(one => one / 255)
    .map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = one => {
    for (; one; one = one.parentElement) {
      const colour = parts(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  return selectors.filter(selector => {
    const [plain, pseudo] = selector.split('::');
    const one = document.querySelector(plain);
    const two = [parts(getComputedStyle(one, pseudo && `::${pseudo}`).color), behind(one)].map(light).sort();
    return (Math.max(...two) + 0.05) / (Math.min(...two) + 0.05) < 4.5;
  });
}"""

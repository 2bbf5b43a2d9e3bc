"""The chat page: two answers side by side, and a vote. Imported late, because it loads Gradio."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any, Literal

import gradio as gr

from tunery.errors import TuneryError
from tunery.serving.chat.pair import AnswerPair, Sampling, together
from tunery.serving.chat.session import LETTERS, BlindChat, Side
from tunery.tracking.redact import redact
from tunery.tracking.votes import VoteLog

STYLE = """
.gradio-container {width: 100% !important; max-width: 1240px !important; margin: auto !important}
#left .bubble-wrap, #right .bubble-wrap {padding-top: 40px}
/* The window's own "clear" would empty only one of the two; "New" empties both. */
#left .top-panel, #right .top-panel {display: none}
#votes button {padding: 8px 4px; white-space: nowrap}
#note {min-height: 1.6em} #note p {margin: 0}
/* In the dark, Gradio's own have a contrast of 2 to 1. */
#question textarea::placeholder {color: #5b6472; opacity: 1} .dark #question textarea::placeholder {color: #c3cad5}
#votes button:disabled {color: #5b6472; opacity: 1} .dark #votes button:disabled {color: #9aa3b2; background: #1f2937}
@media (max-width: 700px) {
  #left, #right {height: 230px !important} #votes button {font-size: 14px}
  /* Before the first question, the examples below are on the first screen too. */
  #left:has(.placeholder-content), #right:has(.placeholder-content) {height: 110px !important}
}
"""
_SIDES: tuple[Side, Side] = ("left", "right")
_BUTTONS: Mapping[Side | Literal["tie"], str] = {"left": "A is better", "tie": "Tie", "right": "B is better"}
_LONGEST_TOKENS = 4096
_LARGEST_SEED = 2**53 - 1  # the largest whole number that a browser holds exactly

Values = dict[Any, Any]


class Page:
    """The page's components and their event handlers; Gradio serves `blocks`."""

    def __init__(self, pair: AnswerPair, votes: VoteLog) -> None:
        self.pair, self.votes = pair, votes
        self._lock = Lock()  # one set of weights serves both sides and every visitor
        self._draw = random.SystemRandom()
        self._stopped: set[str] = set()  # keys of conversations
        self._voted: set[str] = set()
        self._voting = Lock()
        with gr.Blocks(title=f"tunery · {pair.name}", analytics_enabled=False, fill_width=True) as self.blocks:
            self._lay_out()
            self._connect()

    def _lay_out(self) -> None:
        title = f"## {self.pair.name}, and its base `{self.pair.identity.model}`"
        gr.Markdown(f"{title}\nBoth models answer each question. Vote to see which is which.", elem_id="title")
        self.chat = gr.State()  # None until the first question: an event on load could overwrite it
        with gr.Row():
            self.windows = {
                side: gr.Chatbot(
                    label=LETTERS[side],
                    elem_id=side,
                    height=400,
                    min_width=300,
                    buttons=[],
                    feedback_options=None,
                    placeholder="Ask a question below.",
                )
                for side in _SIDES
            }
        with gr.Row(elem_id="votes"):
            self.buttons = {
                better: gr.Button(text, interactive=False, min_width=90, elem_id=f"vote-{better}")
                for better, text in _BUTTONS.items()
            }
        self.note = gr.Markdown(elem_id="note")
        with gr.Row(equal_height=True):
            self.question = gr.Textbox(
                placeholder="Ask both models",
                show_label=False,
                container=False,
                scale=6,
                min_width=220,
                elem_id="question",
            )
            self.send = gr.Button("Send", variant="primary", scale=1, min_width=80, elem_id="send")
            self.stop = gr.Button("Stop", scale=1, min_width=80, visible=False, elem_id="stop")
            self.fresh = gr.Button("New", scale=1, min_width=80, elem_id="new")
        if self.pair.examples:
            gr.Examples([[one] for one in self.pair.examples], self.question, label="Questions it was not trained on")
        with gr.Accordion("Sampling", open=False), gr.Row():
            self.sampling = [
                gr.Slider(0, 2, 0, step=0.05, label="Temperature", info="0 takes the likeliest token", min_width=140),
                gr.Slider(0.05, 1, 1, step=0.05, label="Top-p", info="probability to draw from", min_width=140),
                gr.Slider(
                    1, _LONGEST_TOKENS, min(self.pair.max_tokens, _LONGEST_TOKENS), step=1, label="Max tokens",
                    info="length of an answer", min_width=140,
                ),
                gr.Number(
                    0, label="Seed", info="used for both models", precision=0, minimum=0, maximum=_LARGEST_SEED,
                    min_width=140,
                ),
            ]  # fmt: skip

    def _connect(self) -> None:
        shown = [self.chat, *self.windows.values(), *self.buttons.values(), self.note]
        outputs = [*shown, self.question, self.send, self.stop, self.fresh]
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        asked, given = [self.question.submit, self.send.click], [self.question, self.chat, *self.sampling]
        gr.on(asked, self._ask, given, outputs, concurrency_limit=None, **private)
        # Not Gradio's `cancels`: an update in flight would arrive after it and leave the page busy.
        self.stop.click(self._stop, self.chat, queue=False, **private)
        self.fresh.click(self._begin, outputs=outputs, **private)
        for better, button in self.buttons.items():
            button.click(partial(self._vote, better), self.chat, outputs, concurrency_limit=None, **private)

    def _begin(self) -> Values:
        return self._view(BlindChat(self._draw.choice(_SIDES)))

    def _ask(
        self, question: str, chat: BlindChat | None, temperature: float, top_p: float, tokens: float, seed: float | None
    ) -> Iterator[Values]:
        chat = chat or BlindChat(self._draw.choice(_SIDES))
        question = question.strip()
        if not question:
            yield self._view(chat)
            return
        asked = chat.ask(question, Sampling(float(temperature), float(top_p), int(tokens), int(seed or 0)))
        self._stopped.discard(chat.key)
        yield {**self._view(asked, busy=True), self.question: ""}
        try:
            for left, right in self._answers(asked):
                asked = asked.answer(left, right)
                if chat.key in self._stopped:
                    break
                yield self._view(asked, busy=True)
        except Exception as error:  # noqa: BLE001 - a page left busy could only be reloaded
            gr.Warning(redact(str(error)).strip() or type(error).__name__)
            yield {**self._view(chat), self.question: question}
            return
        yield self._view(asked)

    def _answers(self, chat: BlindChat) -> Iterator[tuple[str, str]]:
        writers = {side: self.pair.tuned if chat.tuned_on_the == side else self.pair.base for side in _SIDES}
        left, right = (writers[side].write(chat.messages(side), chat.sampling, self._lock) for side in _SIDES)
        return together(left, right)

    def _stop(self, chat: BlindChat) -> None:
        self._stopped.add(chat.key)

    def _vote(self, better: Side | Literal["tie"], chat: BlindChat) -> Values:
        if not chat.open_to_a_vote:
            return self._view(chat)
        choice = chat.chosen(better)
        with self._voting:
            if chat.key in self._voted:  # two buttons in quick succession: the first counts
                return {self.note: gr.update()}
            try:
                counts = self.votes.add(chat.vote(choice))
            except TuneryError as error:
                gr.Warning(f"The vote was not saved. {redact(str(error))}")
                return self._view(chat)
            self._voted.add(chat.key)
        return self._view(replace(chat, choice=choice), counts)

    def _view(self, chat: BlindChat, counts: Mapping[str, int] | None = None, *, busy: bool = False) -> Values:
        """The state of every component for a conversation."""
        ready = chat.open_to_a_vote and not busy
        return {
            self.chat: chat,
            **{box: gr.update(value=chat.shown(side), label=chat.name(side)) for side, box in self.windows.items()},
            **{button: gr.update(interactive=ready) for button in self.buttons.values()},
            self.note: _note(chat, counts),
            self.send: gr.update(visible=not busy),
            self.stop: gr.update(visible=busy),
            self.fresh: gr.update(interactive=not busy),
        }


def _note(chat: BlindChat, counts: Mapping[str, int] | None) -> str:
    if chat.choice is None:
        return ""
    chosen = "You called it a tie" if chat.choice == "tie" else f"You chose **{chat.choice}**"
    note = f"{chosen}; the tuned model is {LETTERS[chat.tuned_on_the]}. Go on asking, or press New to vote again."
    if counts is None:
        return note
    wins, ties, losses = (counts[f"votes/{name}"] for name in ("wins", "ties", "losses"))
    return f"{note} This session: tuned better {wins}, ties {ties}, base better {losses}."

"""The chat page: two answers side by side as they are written, and a vote. Imported late: it loads Gradio."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from functools import partial
from threading import Lock
from typing import Any, Literal

import gradio as gr

from tunery.errors import TuneryError
from tunery.serving.chat.generate import Sampling, together
from tunery.serving.chat.pair import AnswerPair
from tunery.serving.chat.session import LETTERS, Side, Talk
from tunery.tracking.redact import redact
from tunery.tracking.votes import VoteLog

STYLE = """
.gradio-container {width: 100% !important; max-width: 1240px !important; margin: auto !important}
#left .bubble-wrap, #right .bubble-wrap {padding-top: 40px}
/* Its "clear" would empty one window only; "New" empties both. */
#left .top-panel, #right .top-panel {display: none}
#votes button {padding: 8px 4px; white-space: nowrap}
#note {min-height: 1.6em} #note p {margin: 0}
@media (max-width: 700px) {#left, #right {height: 230px !important} #votes button {font-size: 14px}}
"""
_SIDES: tuple[Side, Side] = ("left", "right")
_BUTTONS: Mapping[Side | Literal["tie"], str] = {"left": "A is better", "tie": "Tie", "right": "B is better"}
_LONGEST_TOKENS = 4096
_LARGEST_SEED = 2**53 - 1  # the largest whole number that a browser holds exactly

Values = dict[Any, Any]


class Page:
    """The page's parts and what they do; `blocks` is what Gradio serves.

    Args:
        pair: Both models.
        votes: Where votes go.
    """

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
        base = f"`{self.pair.identity.model}`"
        gr.Markdown(
            f"## {self.pair.name}, beside its base {base}\nBoth answer each question. Which is which is told after "
            "the vote.",
            elem_id="title",
        )
        self.talk = gr.State()  # None until the first question: an event that set it on loading could come after that
        with gr.Row():
            self.windows = {
                side: gr.Chatbot(
                    label=LETTERS[side],
                    elem_id=side,
                    height=400,
                    min_width=300,
                    buttons=[],
                    feedback_options=None,
                    placeholder="Ask something below.",
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
                placeholder="Ask both", show_label=False, container=False, scale=6, min_width=220, elem_id="question"
            )
            self.send = gr.Button("Send", variant="primary", scale=1, min_width=80, elem_id="send")
            self.stop = gr.Button("Stop", scale=1, min_width=80, visible=False, elem_id="stop")
            self.fresh = gr.Button("New", scale=1, min_width=80, elem_id="new")
        with gr.Accordion("Sampling", open=False), gr.Row():
            self.sampling = [
                gr.Slider(0, 2, 0, step=0.05, label="Temperature", info="0: the likeliest token", min_width=140),
                gr.Slider(0.05, 1, 1, step=0.05, label="Top-p", info="probability kept", min_width=140),
                gr.Slider(
                    1, _LONGEST_TOKENS, min(self.pair.max_tokens, _LONGEST_TOKENS), step=1, label="Most tokens",
                    info="of an answer", min_width=140,
                ),
                gr.Number(
                    0, label="Seed", info="the same for both", precision=0, minimum=0, maximum=_LARGEST_SEED,
                    min_width=140,
                ),
            ]  # fmt: skip

    def _connect(self) -> None:
        shown = [self.talk, *self.windows.values(), *self.buttons.values(), self.note]
        outputs = [*shown, self.question, self.send, self.stop, self.fresh]
        private: dict[str, Any] = {"api_visibility": "private"}
        gr.on(
            [self.question.submit, self.send.click], self._ask, [self.question, self.talk, *self.sampling], outputs,
            show_progress="hidden", concurrency_limit=None, **private,
        )  # fmt: skip
        # Not Gradio's `cancels`: an update that is under way would come after it and show a page that is still busy.
        self.stop.click(self._stop, self.talk, show_progress="hidden", queue=False, **private)
        self.fresh.click(self._begin, outputs=outputs, show_progress="hidden", **private)
        for better, button in self.buttons.items():
            button.click(
                partial(self._vote, better),
                self.talk,
                outputs,
                show_progress="hidden",
                concurrency_limit=None,
                **private,
            )

    # ---- what the parts do

    def _begin(self) -> Values:
        return self._view(self._fresh_talk())

    def _fresh_talk(self) -> Talk:
        return Talk(self._draw.choice(_SIDES))

    def _ask(
        self, question: str, talk: Talk | None, temperature: float, top_p: float, max_tokens: float, seed: float | None
    ) -> Iterator[Values]:
        talk = talk or self._fresh_talk()
        question = question.strip()
        if not question:
            yield self._view(talk)
            return
        asked = talk.ask(question, Sampling(float(temperature), float(top_p), int(max_tokens), int(seed or 0)))
        self._stopped.discard(talk.key)
        yield {**self._view(asked, busy=True), self.question: ""}
        try:
            for left, right in self._answers(asked):
                asked = asked.answer(left, right)
                if talk.key in self._stopped:
                    break
                yield self._view(asked, busy=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, a page that stays busy can only be loaded anew
            gr.Warning(redact(str(error)).strip() or type(error).__name__)
            yield {**self._view(talk), self.question: question}
            return
        yield self._view(asked)

    def _answers(self, talk: Talk) -> Iterator[tuple[str, str]]:
        tuned = self.pair.tuned.write
        base = self.pair.base.write
        left, right = (
            (tuned if talk.tuned_on_the == side else base)(talk.messages(side), talk.sampling, self._lock)
            for side in _SIDES
        )
        return together(left, right)

    def _stop(self, talk: Talk) -> None:
        self._stopped.add(talk.key)

    def _vote(self, better: Side | Literal["tie"], talk: Talk) -> Values:
        if not talk.open_to_a_vote:
            return self._view(talk)
        choice = talk.chosen(better)
        with self._voting:
            if talk.key in self._voted:  # two buttons, one right after the other: the first one counts
                return {self.note: gr.update()}
            try:
                counts = self.votes.add(talk.vote(choice))
            except TuneryError as error:
                gr.Warning(f"The vote was not kept. {redact(str(error))}")
                return self._view(talk)
            self._voted.add(talk.key)
        return self._view(talk.choose(choice), counts)

    def _view(self, talk: Talk, counts: Mapping[str, int] | None = None, *, busy: bool = False) -> Values:
        """What each part shows of a conversation."""
        ready = talk.open_to_a_vote and not busy
        return {
            self.talk: talk,
            **{
                window: gr.update(value=talk.shown(side), label=talk.name(side))
                for side, window in self.windows.items()
            },
            **{button: gr.update(interactive=ready) for button in self.buttons.values()},
            self.note: _note(talk, counts),
            self.send: gr.update(visible=not busy),
            self.stop: gr.update(visible=busy),
            self.fresh: gr.update(interactive=not busy),
        }


def _note(talk: Talk, counts: Mapping[str, int] | None) -> str:
    if talk.choice is None:
        return ""
    chosen = "Both alike" if talk.choice == "tie" else f"You chose **{talk.choice}**"
    said = f"{chosen}; the tuned model is {LETTERS[talk.tuned_on_the]}. Ask on, or begin anew to vote again."
    if counts is None:
        return said
    wins, ties, losses = (counts[f"votes/{name}"] for name in ("wins", "ties", "losses"))
    return f"{said} This session: tuned better {wins}, ties {ties}, base better {losses}."

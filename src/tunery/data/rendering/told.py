"""What a person should know of how rows became tokens: a sentence each, with how many rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_TEMPLATE = "The chat template"
_OTHER = "Set base.chat_template to one that keeps"

TOLD: Mapping[str, str] = {
    "cut": f"{_TEMPLATE} shows only a part of the learned answers of {{rows}}. What it leaves out, such as <think>, is "
    f"not learned. {_OTHER} it.",
    "primed": f"{_TEMPLATE} asks for answers with a text that it leaves out before those of {{rows}}: the model is "
    f"asked otherwise than it is trained. {_OTHER} <think>.",
    "hidden": f"{_TEMPLATE} leaves out something that a user, a tool or the system says in {{rows}}.",
    "last alone": "Only the last answer is learned of {rows}: the chat template does not show where earlier ones are.",
    "twice": f"{_TEMPLATE} ends answers of {{rows}} twice, and both end tokens are learned.",
    "own end": "Answers of {rows} end in the text of a special token. It is learned as ordinary text, before the token "
    "that ends the turn. Take it out of the rows.",
    "end cut": "{rows} lost the end of an answer at data.max_length, and the token that ends it: they do not teach the "
    "model to stop. Raise data.max_length.",
    "eos": f"{_TEMPLATE} does not end the last turn: the eos token was added to {{rows}}.",
    "special": "The text of a special token is encoded as ordinary text in {rows}.",
    "tools as text": f"{_TEMPLATE} does not show tools: they are put into the system text of {{rows}}.",
    "tool_calls as text": f"{_TEMPLATE} does not show the tool calls of {{rows}}: they are written as JSON.",
    "reasoning as text": f"{_TEMPLATE} does not show reasoning: it is put into the answers of {{rows}} as <think>.",
    "tool": f"{_TEMPLATE} does not know the role tool: tool results are shown as user turns in {{rows}}.",
    "system": f"{_TEMPLATE} does not know the role system: system text is put before the first user turn in {{rows}}.",
    "touching": "A line break was put between prompt and completion in {rows}, where they would run together.",
    "repeated": f"{_TEMPLATE} does not show turns of one role in a row apart: they are joined in {{rows}}.",
}
"""Sentences by name, the most harmful first."""


def notes_of(told: Mapping[str, Sequence[str]]) -> list[str]:
    """The sentences of what is told, given the origins of the rows that each is about."""
    return [sentence.format(rows=_counted(told[name])) for name, sentence in TOLD.items() if told.get(name)]


def _counted(origins: Sequence[str]) -> str:
    return f"1 row ({origins[0]})" if len(origins) == 1 else f"{len(origins):,} rows (the first is {origins[0]})"

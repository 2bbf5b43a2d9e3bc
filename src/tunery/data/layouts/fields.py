"""Columns of a row and keys of a turn: how they are spelled, which were read, and which change what is learned."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tunery.data.reading.rows import Unreadable, is_blank

# Spellings, as `folded` writes them. Sources: the data formats that LLaMA-Factory, Axolotl, TRL, OpenAI and Unsloth
# document; docs/guides/data.md says what becomes of each.
SYSTEM = ("system", "systemprompt", "systemmessage", "systemtext", "systeminstruction", "systeminstructions")
TOOLS = ("tools", "functions")
HISTORY = ("history", "conversationhistory", "chathistory")
REASONING = (
    *("reasoningcontent", "reasoning", "reasoningtext", "thinking", "thought", "thoughts", "think"),
    *("chainofthought", "complexcot", "cot"),
)
# Nemotron's rows say under `reasoning` whether their answer thinks, not what.
_SWITCHES = {"on", "off", "true", "false", "yes", "no", "none", "auto", "low", "medium", "high", "minimal", "default"}
LEARNED = ("weight", "train", "training", "trainable", "loss")
PARTLY_LEARNED = ("traindetail", "trainingdetail")
MEDIA = ("image", "images", "video", "videos", "audio", "audios")
CHOSEN = ("chosen", "preferred", "preferredoutput")
REJECTED = ("rejected", "dispreferred", "nonpreferred", "nonpreferredoutput")
LABELS = ("label", "ktotag", "desirable")
CONTEXT = ("context", "article", "passage", "document", "choices", "options")
_CHANGING = {
    *(*SYSTEM, *TOOLS, *HISTORY, *REASONING, *LEARNED, *PARTLY_LEARNED, *MEDIA, *CHOSEN, *REJECTED, *LABELS),
    *(*CONTEXT, "mask", "labels", "lossweight", "lossscale", "chattemplatekwargs", "functioncall", "toolcalls"),
    *("functioncalls", "refusal"),
}


class UnusableRow(ValueError):
    """A row that cannot become a conversation; its text is the reason."""


class Fields:
    """The values of a row or a turn by name, which remembers the names that nobody asked for.

    Args:
        values: By name; a blank one counts as absent.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values: Mapping[str, Any] = {name: value for name, value in values.items() if not is_blank(value)}
        self._unread = dict.fromkeys(self.values)

    def get(self, name: str) -> Any:
        """The value of this very name, or None.

        Raises:
            UnusableRow: When its file does not hold the value.
        """
        self._unread.pop(name, None)
        value = self.values.get(name)
        if isinstance(value, Unreadable):
            raise UnusableRow(value.reason)
        return value

    def names(self, spellings: Collection[str]) -> list[str]:
        """Names that hold a value and are spelled in one of these ways; they do not count as read."""
        return spelled(list(self.values), spellings)

    def find(self, spellings: Collection[str], is_meant: Callable[[Any], bool] = lambda _: True) -> Any:
        """The value whose name is spelled in one of these ways, or None.

        Args:
            is_meant: Values that it is false of are passed over, and count as not read.

        Raises:
            UnusableRow: When several are, with values that differ.
        """
        names = [name for name in self.names(spellings) if is_meant(self.values[name])]
        values = [self.get(name) for name in names]
        if any(value != values[0] for value in values):
            raise UnusableRow(f"{' and '.join(map(repr, names))} mean the same and differ")
        return values[0] if values else None

    def unread(self) -> list[str]:
        """Names with a value that was not asked for."""
        return list(self._unread)


def reasoning_of(fields: Fields, answer: str) -> str:
    """The reasoning in a row or a turn, before its answer; the empty text where the answer brings its own."""
    if "</think>" in answer:
        fields.find(REASONING, lambda value: isinstance(value, str) and value.strip() in answer)  # said already
        return ""
    return fields.find(REASONING, lambda value: isinstance(value, str) and folded(value) not in _SWITCHES) or ""


def folded(name: str) -> str:
    """A name without case, spaces and marks: `System Prompt`, `system_prompt` and `systemPrompt` are one."""
    return "".join(character for character in name.casefold() if character.isalnum())


def spelled(names: Sequence[str], spellings: Collection[str]) -> list[str]:
    """Those of the names that are spelled in one of these ways, in order."""
    return [name for name in names if folded(name) in spellings]


def changes_meaning(name: str) -> bool:
    """Whether a column or key of this name is known to change what a row teaches."""
    return folded(name) in _CHANGING


def flag(value: object) -> bool | None:
    """A value that says yes or no (True, 0, "false"), or None for any other."""
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().casefold())
    return bool(value) if value in (0, 1) else None

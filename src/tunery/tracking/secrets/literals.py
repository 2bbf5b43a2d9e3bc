"""Reads the value of a name: quoted texts, collections, blocks of lines, or a word; and says what of it is secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from tunery.tracking.secrets.names import Speaks, is_vocabulary, looks_secret, speaks_of_secret

MASK = "[redacted]"
_LONGEST_COLLECTION = 4000

_QUOTED = re.compile(r"""[rbfuRBFU]{0,2}(?P<quote>\\*(?:\"{3}|'{3}|["'`]))""")
# Further texts of the same value: joined without a sign, "a" + "b", or "a" if b else "c".
_GOES_ON = re.compile(
    r"""[ \t]*+(?:\\\n[+\- ]?\s*)?(?:\+(?:\n[+\-]|\s)*+|\bor\s+|\bif\b[^\n"']{0,80}?\belse\s+)?(?=\w{0,2}["'])"""
)
# user, password = "me", "..."
_TARGETS = re.compile(r"[+\- ]?\s*(?:[\w.]+\s*,\s*)+")
_NEXT_OF_SEVERAL = re.compile(r"""\s*,\s*(?=\w{0,2}["'])""")
# Calls whose first argument is the value: SecretStr("..."), Field(default="...").
_WRAPPED = re.compile(
    r"(?:[\w.]+\.)?(?:Secret\w*|Field|field|str|bytes|fromhex|b64decode|Some)\(\s*(?:default\s*=\s*)?"
)
# Says where the secret is, or that there is none.
_REFERENCE = re.compile(
    r"\[redacted\].*|none|null|nil|true|false|~|\*+|\.{3}|…|x{3,}|\$[A-Z_][A-Z0-9_]*|\$\{[A-Za-z_]\w*\}|\$\{\{.*\}\}|"
    r"\$\(.*|%\(\w+\)s|%[sdr]|\{\{.*\}\}|\{[\w.\[\]!:'\"() ]*\}|<[a-z][a-z _\-]*>|!\w+\s.*",
    re.IGNORECASE | re.DOTALL,
)
# What comes first in `os.environ.get("X") or "..."` and `given if given else "..."`.
_FALLBACK = re.compile(r"[\w.]+(?:\([^()\n]*\)|\[[^\]\n]*\])?\s+(?:or|if\s[^\n]{0,80}?\selse|\?\?|\|\|)\s+(?=[\"'])")
_EXPRESSION = re.compile(r"[A-Za-z_][\w.]*[(\[]|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+\W*$|[*(\[{&]")
_CALL = re.compile(
    r"\{[\w.]+\}|[A-Za-z_][\w.]*[(\[](?:[\w.]*[)\]])*$|(?:self|args|cfg|config|os|settings|options|params)\.[\w.]+$"
)
# The whole of these headers is secret: Authorization: Bearer abc, Cookie: a=b; c=d
_HEADER = re.compile(r"(?:.*-)?(?:authorization|cookie)", re.IGNORECASE)
_WORD = re.compile(r"(?:[^\s;&,\"'`<>]|,(?=[^\s\"']))*")
_REST_OF_LINE = re.compile(r"[^\n]*?(?=\s+#|\s*$)", re.MULTILINE)
_TO_QUOTE = re.compile(r"[^\n\"']*")
_LINE_BEGINS = re.compile(r"[+\- ]?\s*(?:-\s+)?(?:export\s+|set\s+)?")
_BLOCK = re.compile(r"[|>][+\-]?\d?[ \t]*(?:#.*)?(?=\n)|(?=\n)")
_LINE = re.compile(r"\n(?P<indent>[+\- ]*)(?P<rest>[^\n]*)")


class Syntax(Enum):
    """What a text without quotes to the right of a name is."""

    CODE = "an expression: only what looks like a literal is one"
    SETTINGS = "the value, to the end of the line"
    TEXT = "the value, to the end of the word"


@dataclass(frozen=True)
class ValueReader:
    """Finds the secret parts of one name's value."""

    text: str
    syntax: Syntax
    name_start: int
    name_end: int
    speaks: Speaks

    def spans(self, start: int) -> Iterator[tuple[int, int, str]]:
        """The secret parts of the value at a place, from left to right, each with what is shown instead of it."""
        if self.text.startswith(MASK, start):
            return iter(())
        before = _WRAPPED.match(self.text, start) or _FALLBACK.match(self.text, start)
        inside, quoted = self._open_quote(start), _QUOTED.match(self.text, before.end() if before else start)
        if quoted:
            # The quote may end the text that the name stands in: print("token: ", token)
            return self._quoted(quoted) if quoted["quote"] != inside else iter(())
        if self.text[start : start + 1] in ("(", "[", "{") and not _REFERENCE.match(self.text, start):
            return self._collection(start)
        if block := _BLOCK.match(self.text, start):
            return self._below(block)
        return self._word(start, inside)

    def _quoted(self, quoted: re.Match[str]) -> Iterator[tuple[int, int, str]]:
        """A quoted text, and those that are joined to it, or stand beside it where several names are given values."""
        following: re.Match[str] | None = quoted
        goes_on = _NEXT_OF_SEVERAL if _TARGETS.fullmatch(self._line(self.name_start)) else _GOES_ON
        while following:
            begin, end = following.end(), _closing(self.text, following)
            if self._is_secret(self.text[begin:end]):
                yield begin, end, MASK
            on = goes_on.match(self.text, end + len(following["quote"]))
            following = _QUOTED.match(self.text, on.end()) if on else None

    def _collection(self, start: int) -> Iterator[tuple[int, int, str]]:
        """The quoted texts between brackets, but for keys; in settings, all of it if nothing is quoted."""
        close = {"(": ")", "[": "]", "{": "}"}[self.text[start]]
        stop = self.text.find(close, start, start + _LONGEST_COLLECTION)
        stop, at, any_quoted = (len(self.text) if stop < 0 else stop), start + 1, False
        while quoted := _QUOTED.search(self.text, at, stop):
            any_quoted, end = True, _closing(self.text, quoted)
            at = end + len(quoted["quote"])
            is_key = re.match(r"\s*:", self.text[at : at + 8])
            if not is_key and self._is_secret(self.text[quoted.end() : end]):
                yield quoted.end(), end, MASK
        inner = self.text[start + 1 : stop]
        if not any_quoted and self._is_line(start) and not inner.startswith(MASK[:-1]) and self._is_secret(inner):
            yield start + 1, stop, MASK

    def _below(self, block: re.Match[str]) -> Iterator[tuple[int, int, str]]:
        """The lines below that are indented further, as those of YAML's blocks are; without | or >, items of a list."""
        if self.syntax is Syntax.CODE or self.speaks is Speaks.MAYBE:
            return
        above = self._line(block.start())
        indent = len(above) - len(above.lstrip("+- "))
        for line in _LINE.finditer(self.text, block.end()):
            is_item = line["indent"].endswith("- ")
            if line["rest"] and (len(line["indent"]) <= indent or not (block[0] or is_item)):
                return
            if self._is_secret(line["rest"]):
                yield line.start("rest"), line.end("rest"), MASK

    def _word(self, start: int, inside: str) -> Iterator[tuple[int, int, str]]:
        """A value without quotes."""
        end = self._word_end(start, inside)
        value = self.text[start:end]
        if value.isdecimal():
            if len(value) < 4 or self.speaks is not Speaks.SURELY:
                return
            is_json = self.text[self.name_start - 1 : self.name_start] == '"'
            yield start, end, f'"{MASK}"' if is_json else MASK
        elif self._is_literal(value, start, inside) and self._is_secret(value):
            yield start, end, MASK

    def _word_end(self, start: int, inside: str) -> int:
        if self.text[start - 1] == ">" and self.text.startswith("<", self.name_start - 1):
            return self.text.find("<", start)
        if _HEADER.fullmatch(self.text, self.name_start, self.name_end):
            pattern = _TO_QUOTE
        else:
            pattern = _REST_OF_LINE if self._is_line(start) and not inside else _WORD
        found = pattern.match(self.text, start)
        end = found.end() if found else start
        for opened, closed in ("()", "[]", "{}"):
            while pattern is _WORD and self.text[start:end].endswith(closed):
                if self.text.count(opened, start, end) >= self.text.count(closed, start, end):
                    break
                end -= 1
        return end

    def _is_line(self, start: int) -> bool:
        """Whether the value goes to the end of the line: in files of settings, and where a text looks like one."""
        if not _LINE_BEGINS.fullmatch(self._line(self.name_start)):
            return False
        spaced = self.text[start - 1] == " " and self.speaks is Speaks.SURELY
        return self.syntax is Syntax.SETTINGS or (self.syntax is Syntax.TEXT and spaced)

    def _is_literal(self, value: str, start: int, inside: str) -> bool:
        """Whether a word is a value rather than an expression that names one."""
        if self.syntax is Syntax.CODE and not inside:
            name = self.text[self.name_start : self.name_end]
            shell = name.isupper() and self.text[start - 1] == "="  # TOKEN=abc in a comment or a docstring
            surely = self.speaks is Speaks.SURELY and len(value) > 5 and any(map(str.isdigit, value))
            return not _EXPRESSION.match(value) and (shell or surely or looks_secret(value))
        if _HEADER.fullmatch(self.text, self.name_start, self.name_end) or (self._is_line(start) and not inside):
            return True
        return not _CALL.match(value) and not (value.isidentifier() and speaks_of_secret(value))  # token=hf_token

    def _is_secret(self, value: str) -> bool:
        return is_secret(value, self.speaks)

    def _line(self, at: int) -> str:
        """The line up to a place."""
        return self.text[self.text.rfind("\n", 0, at) + 1 : at]

    def _open_quote(self, at: int) -> str:
        """The quote that is open at a place in its line, or nothing."""
        opened = ""
        for mark in re.finditer(r"""\\*["']""", self._line(at)):
            opened = "" if mark[0] == opened else opened or mark[0]
        return opened


def _closing(text: str, opening: re.Match[str]) -> int:
    """Where a quoted text ends: at the same quote, unescaped and in the same line unless it is tripled."""
    quote = opening["quote"]
    if len(quote) == 1:
        found = re.compile(rf"(?:\\.|[^\\\n{quote}])*").match(text, opening.end())
        return found.end() if found else opening.end()
    end = text.find(quote, opening.end())
    return len(text) if end < 0 else end


def is_secret(value: str, speaks: Speaks) -> bool:
    """Whether a literal under such a name is a secret; a reference to one and a word of a vocabulary are none."""
    if not value.strip() or _REFERENCE.fullmatch(value.strip()):
        return False
    if speaks is Speaks.SURELY:
        return True
    return looks_secret(value) if speaks is Speaks.MAYBE else not is_vocabulary(value)

"""What stands to the right of a name that speaks of a secret, in any syntax: the value is masked, the rest stays."""

from __future__ import annotations

import re

from tunery.tracking.secrets.literals import Syntax, ValueReader
from tunery.tracking.secrets.names import speaks_of_secret

# Looked for first, because few words have one of these in them; then the word around it is read.
_STEM = re.compile(
    r"pass|pwd|kennwort|secret|token|key|cred|auth|pat\b|cookie|bearer|mnemonic|webhook|sas\b", re.IGNORECASE
)
_TO_LEFT, _TO_RIGHT = re.compile(r"[\w.\-]{0,60}\Z"), re.compile(r"[\w.\-]{0,40}")
# Between a name and its value: a closing quote or bracket, perhaps a type, and a sign. Not a comparison.
_SIGN = re.compile(
    r"""\\*["'`]?\]?(?:\s*:\s*&?(?:'\w+\s+)?[A-Za-z_][\w.]*(?:\[[^\]\n]{0,60}\])?(?:\s*\|\s*\w+)*(?=\s*=[^=]))?"""
    r"""[ \t]*(?:=>|:=|\?=|\+=|:(?!:)|=(?!=))[ \t]*(?:\\\n[+\- ]?\s*)?"""
)
# setenv("TOKEN", "..."), setattr(x, "token", "..."), ["--token", "..."]; not a list of names.
_COMMA = re.compile(r"""\\*["'],\s*(?=[rbfuRBFU]{0,2}\\*["'](?!-))""")
_BEFORE_PAIR = re.compile(r"""\(\s*(?:[\w.]+\s*,\s*)?\\*["']$""")
# A value that stands later: option("--token", default="..."), variable "token" { default = "..." }.
_DEFAULT = re.compile(r"""\\*["'](?:\s*\{(?:\n[+\-]|\s)*+|[^()\n]{0,200}?,\s*)default\s*=\s*""")
# {"name": "TOKEN", "value": "..."}, in YAML on two lines, in XML as attributes.
_ENTRY = re.compile(r"""\\*["']?,?(?:\n[+\-]|\s)*+\\*["']?value\\*["']?\s*[:=]\s*""", re.IGNORECASE)
_BEFORE_ENTRY = re.compile(r"""\b(?:name|key)\\*["']?\s*[:=]\s*\\*["']?$""", re.IGNORECASE)
_BEFORE_WORD = re.compile(r"[+\- ]?\s*(?:ENV|ARG|setenv|setx|set(?: -\w+)*)\s+")  # NAME value, without a sign

_CODE = {
    "py", "pyi", "ipynb", "js", "jsx", "mjs", "ts", "tsx", "go", "rs", "java", "kt", "c", "h", "cc", "cpp", "hpp", "cu",
    "cs", "rb", "php", "swift", "scala", "lua", "r", "jl",
}  # fmt: skip
_SETTINGS = {"yaml", "yml", "toml", "ini", "cfg", "conf", "env", "properties", "tfvars", "config"}


def syntax_of(file: str) -> Syntax:
    """The syntax of a file, by its name."""
    name = file.rpartition("/")[2].lower()
    ending = "env" if name.startswith(".env") else name.rpartition(".")[2]
    if ending in _CODE:
        return Syntax.CODE
    return Syntax.SETTINGS if ending in _SETTINGS else Syntax.TEXT


def mask_values(text: str, syntax: Syntax = Syntax.TEXT) -> str:
    """The text with the value of every name that speaks of a secret replaced by `[redacted]`."""
    out: list[str] = []
    done = 0
    for stem in _STEM.finditer(text):
        if stem.start() < done:
            continue
        start, end = _word_around(text, stem)
        speaks = speaks_of_secret(text[start:end])
        value = _value_start(text, start, end) if speaks else None
        if speaks is None or value is None:
            continue
        for first, last, shown in ValueReader(text, syntax, start, end, speaks).spans(value):
            out += [text[done:first], shown]
            done = last
    return "".join([*out, text[done:]])


def _word_around(text: str, stem: re.Match[str]) -> tuple[int, int]:
    """Start and end of a name."""
    before, after = _TO_LEFT.search(text[max(0, stem.start() - 60) : stem.start()]), _TO_RIGHT.match(text, stem.end())
    return stem.start() - len(before[0] if before else ""), after.end() if after else stem.end()


def _value_start(text: str, start: int, end: int) -> int | None:
    """Where the value of a name begins; None if the name stands alone."""
    line = text.rfind("\n", 0, start) + 1
    before = text[max(line, start - 120) : start]
    if before.endswith("<") and text.startswith(">", end):
        return end + 1
    if sign := _SIGN.match(text, end):
        return sign.end()
    if (comma := _COMMA.match(text, end)) and (text.startswith("--", start) or _BEFORE_PAIR.search(before)):
        return comma.end()
    later = _DEFAULT.match(text, end) or (_BEFORE_ENTRY.search(before) and _ENTRY.match(text, end))
    if later:
        return later.end()
    return end + 1 if text.startswith(" ", end) and _BEFORE_WORD.fullmatch(before) else None

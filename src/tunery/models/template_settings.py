"""What a chat template is told beside the messages, written into the template itself.

Whatever renders it then (training, lm-eval, generation, serving, an exported folder) says the same, and the template's
hash covers it. Given arguments are defaults: whoever renders the template may still set another.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import date
from pathlib import Path
from typing import Any

from tunery.config.fields import nearest
from tunery.config.model import BaseConfig
from tunery.errors import ConfigError, Fault

_DATE = "strftime_now"
_OWN = re.compile(r"^(?:[^\n]*\{#- set by tunery #\}\n)+")
_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
# What a conversation decides, or the tokenizer.
_TAKEN = ("messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "pad_token", "unk_token")
_DIRECTIVES = (
    "%-d", "%-m", "%-H", "%-I", "%-M", "%-j", "%-y", *(f"%{letter}" for letter in "aAbBcdDefFgGhHIjmMpRSTuUVwWxXyYzZ")
)  # fmt: skip


def fix_settings(tokenizer: Any, base: BaseConfig) -> tuple[str, ...]:
    """Write base.chat_template_arguments and, if the template writes the date, base.chat_template_date into it.

    Args:
        tokenizer: Its chat template is changed.

    Returns:
        Sentences for a person.

    Raises:
        ConfigError: If the template does not read an argument, or there is no template.
    """
    named = tokenizer.chat_template
    templates = named if isinstance(named, dict) else {"": named or ""}
    read = {name: _names_read(_OWN.sub("", text)) for name, text in templates.items()}
    _check(base, sorted(set().union(*read.values())))
    if not named:
        return ()
    fixed = {name: _fixed(text, read[name], base) for name, text in templates.items()}
    tokenizer.chat_template = fixed if isinstance(named, dict) else fixed[""]
    if not any(_DATE in names for names in read.values()):
        return ()
    return (f"the chat template writes a date: it is always told {base.chat_template_date} (base.chat_template_date)",)


def told(tokenizer: Any, base: BaseConfig) -> str:
    """Which template prompts are written with, so that equal texts are equal conditions of a score.

    "own" is the one that the base comes with, or ChatML where it has none: bases are compared each through its own. A
    file stands with a digest; arguments, and a date that is not the default one, are spelled out.
    """
    if not tokenizer.chat_template:
        return "none"
    text = json.dumps(tokenizer.chat_template, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    parts = ["own" if base.chat_template is None else f"{Path(base.chat_template).name} ({digest})"]
    parts += [f"{name}={json.dumps(value)}" for name, value in sorted(base.chat_template_arguments.items())]
    day, default = base.chat_template_date, BaseConfig(model=base.model).chat_template_date
    if day != default and f"macro {_DATE}" in text:
        parts.append(f"date {day}")
    return ", ".join(parts)


def _fixed(template: str, read: set[str], base: BaseConfig) -> str:
    own = _OWN.match(template)
    before, text = (own.group(), template[own.end() :]) if own else ("", template)
    lines = {line.split()[2]: line for line in before.splitlines(keepends=True)}  # of a folder that was exported
    for name, value in base.chat_template_arguments.items():
        if name in read:
            lines[name] = _line(f"set {name} = {name} if {name} is defined else {value!r} %}}")
    if _DATE in read:
        lines[f"{_DATE}(format)"] = _line(
            f"macro {_DATE}(format) %}}{_strftime(base.chat_template_date)}{{%- endmacro %}}"
        )
    return "".join(lines.values()) + text


def _line(statement: str) -> str:
    # A line of its own: chat templates are read with trim_blocks, which takes its line break away and no other.
    return f"{{%- {statement}{{#- set by tunery #}}\n"


def _strftime(day: date) -> str:
    """A Jinja expression: the variable `format` with every directive replaced."""
    mark = "\\u0000"
    swaps = "".join(f".replace({directive!r}, {day.strftime(directive)!r})" for directive in _DIRECTIVES)
    return f"{{{{- format.replace('%%', '{mark}'){swaps}.replace('{mark}', '%') -}}}}"


def _check(base: BaseConfig, read: list[str]) -> None:
    known = [name for name in read if name not in _TAKEN and name != _DATE]
    faults = []
    for name, value in base.chat_template_arguments.items():
        if name not in known:
            rule = f"left out: the chat template does not read it (it reads {', '.join(known) or 'no argument'})"
            faults.append(Fault(f"base.chat_template_arguments.{name}", rule, value, nearest(name, known)))
    if faults:
        raise ConfigError(base.model, faults)


def _names_read(template: str) -> set[str]:
    """Variables that a template reads and does not set first."""
    from jinja2 import Environment, TemplateSyntaxError, meta

    environment = Environment(extensions=["jinja2.ext.loopcontrols"])
    try:
        return set(meta.find_undeclared_variables(environment.parse(_GENERATION.sub("", template))))
    except TemplateSyntaxError:  # a template that only the tokenizer's own code can read
        return set()

"""What a chat template is told stays with it, wherever it is rendered."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from transformers.utils import chat_template_utils

from tunery.config.model import BaseConfig
from tunery.errors import ConfigError
from tunery.models.template_settings import fix_settings, told

THINKING = (
    "{% for m in messages %}{{ m.content }}{% endfor %}"
    "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
)
DATED = (
    "\n  {{ strftime_now('%d %b %Y') }}|{{ strftime_now('%-d.%-m.%y, 100%% %H:%M') }}\n"
    "{% for m in messages %}{{ m.content }}{% endfor %}"
)


class Tokenizer:
    """Holds a template and renders it as transformers does."""

    def __init__(self, chat_template: Any) -> None:
        self.chat_template = chat_template

    def text(self, **told: Any) -> str:
        rendered, _ = chat_template_utils.render_jinja_template(
            [[{"role": "user", "content": "Hi"}]], chat_template=self.chat_template, **told
        )
        return str(rendered[0])


def base(**settings: Any) -> BaseConfig:
    return BaseConfig.model_validate({"model": "acme/base", **settings})


def test_an_argument_is_told_wherever_the_template_is_rendered() -> None:
    tokenizer = Tokenizer(THINKING)
    assert tokenizer.text() == "Hi"
    assert fix_settings(tokenizer, base(chat_template_arguments={"enable_thinking": False})) == ()
    assert tokenizer.text() == "Hi<think></think>"
    assert tokenizer.text(enable_thinking=True) == "Hi"


@pytest.mark.parametrize("value", ['it\'s "so" %} {{ x }}', "Ünïcödé\n", 3, 2.5, None, ["a", {"b": True}]])
def test_an_argument_keeps_its_value(value: Any) -> None:
    tokenizer = Tokenizer("{{ told | tojson }}")
    fix_settings(tokenizer, base(chat_template_arguments={"told": value}))
    assert tokenizer.text() == Tokenizer("{{ told | tojson }}").text(told=value)


def test_an_argument_that_the_template_does_not_read_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"base\.chat_template_arguments\.enable_thinkng.*Did you mean 'enable_thinking'"
    ):
        fix_settings(Tokenizer(THINKING), base(chat_template_arguments={"enable_thinkng": False}))
    with pytest.raises(ConfigError, match="it reads no argument"):
        fix_settings(Tokenizer(None), base(chat_template_arguments={"enable_thinking": False}))


def test_a_date_is_the_projects_on_every_day_and_nothing_else_changes() -> None:
    tokenizer = Tokenizer(DATED)
    (note,) = fix_settings(tokenizer, base())
    assert "always told 2024-07-26 (base.chat_template_date)" in note
    assert tokenizer.text() == "\n  26 Jul 2024|26.7.24, 100% 00:00\nHi"
    fix_settings(tokenizer, base(chat_template_date="2025-01-02"))
    assert tokenizer.text() == "\n  02 Jan 2025|2.1.25, 100% 00:00\nHi"


def test_a_date_is_written_as_python_writes_it() -> None:
    formats = ("%A, %B %d, %Y", "%Y-%m-%d", "%F %T", "%j %U %a", "%%d", "%e %p")
    tokenizer = Tokenizer("|".join(f"{{{{ strftime_now({form!r}) }}}}" for form in formats))
    fix_settings(tokenizer, base())
    assert tokenizer.text() == "|".join(date(2024, 7, 26).strftime(form) for form in formats)


def test_a_template_without_date_or_arguments_stays_as_it_is() -> None:
    tokenizer = Tokenizer(THINKING)
    assert fix_settings(tokenizer, base()) == ()
    assert tokenizer.chat_template == THINKING


def test_settling_a_saved_template_again_changes_nothing_and_keeps_what_it_was_told() -> None:
    tokenizer = Tokenizer(THINKING + DATED)
    asked = base(chat_template_arguments={"enable_thinking": False})
    fix_settings(tokenizer, asked)
    once = tokenizer.chat_template
    fix_settings(tokenizer, asked)
    assert tokenizer.chat_template == once
    fix_settings(tokenizer, base())
    assert tokenizer.chat_template == once


def test_each_of_several_templates_is_told() -> None:
    tokenizer = Tokenizer({"default": "{{ 1 }}", "tool_use": THINKING})
    fix_settings(tokenizer, base(chat_template_arguments={"enable_thinking": False}))
    assert tokenizer.chat_template["default"] == "{{ 1 }}"
    assert Tokenizer(tokenizer.chat_template["tool_use"]).text() == "Hi<think></think>"


@pytest.mark.parametrize(
    ("text", "settings", "named"),
    [
        (None, {}, "none"),
        (THINKING, {}, "own"),
        (THINKING, {"chat_template_arguments": {"enable_thinking": False}}, "own, enable_thinking=false"),
        (DATED, {}, "own"),
        (DATED, {"chat_template_date": "2025-01-02"}, "own, date 2025-01-02"),
        (THINKING, {"chat_template_date": "2025-01-02"}, "own"),  # which writes no date
    ],
)
def test_prompts_of_other_settings_have_another_name(text: str | None, settings: dict[str, Any], named: str) -> None:
    tokenizer = Tokenizer(text)
    fix_settings(tokenizer, base(**settings))
    assert told(tokenizer, base(**settings)) == named


def test_a_template_of_a_file_is_known_by_its_text() -> None:
    file = base(chat_template="chats/mine.jinja")
    one, other = told(Tokenizer(THINKING), file), told(Tokenizer(DATED), file)
    assert one.startswith("mine.jinja (")
    assert one != other

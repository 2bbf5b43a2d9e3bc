"""A project as YAML whose every key says what it is, in the words of its field."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tunery.config.fields import field_at
from tunery.config.project import Project

_WIDTH = 118  # columns; a comment that would be longer stands above its key
_SCHEMA = "# All keys: docs/config.md. Any of them is an option of the verbs too: --adapter.rank 32."


def commented(tree: Mapping[str, Any]) -> str:
    """The text of project.yaml: keys in the tree's order, one a line, each with its field's description."""
    return "\n".join([_SCHEMA, *_section(tree, "", "")]) + "\n"


def _section(tree: Mapping[str, Any], prefix: str, indent: str) -> Iterator[str]:
    for name, value in tree.items():
        yield from _key(name, value, f"{prefix}{name}", indent)


def _key(name: str, value: Any, key: str, indent: str) -> Iterator[str]:
    deeper = f"{indent}  "
    if isinstance(value, Mapping) and value and _is_section(f"{key}.{next(iter(value))}"):
        yield from _line(f"{indent}{name}:", key)
        yield from _section(value, f"{key}.", deeper)
    elif key == "search.space" and value:
        yield from _line(f"{indent}{name}:", key)
        for searched, values in value.items():
            yield from _line(f"{deeper}{searched}: {_flow(values)}", searched)
    elif isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
        yield from _line(f"{indent}{name}:", key)
        for place, entry in enumerate(value):
            lines = list(_section(entry, f"{key}.{place}.", f"{deeper}  "))
            first = next(number for number, line in enumerate(lines) if not line.lstrip().startswith("#"))
            lines[first] = f"{deeper}- {lines[first].lstrip()}"
            yield from lines
    else:
        yield from _line(f"{indent}{name}: {_flow(value)}", key)


def _is_section(key: str) -> bool:
    """Whether a key is a field of its own, and not an entry of a mapping that a field holds."""
    return field_at(Project, key) is not None


def _line(text: str, key: str) -> Iterator[str]:
    field = field_at(Project, key)
    told = f"# {field.description}" if field is not None and field.description else ""
    if len(text) + len(told) + 2 > _WIDTH:
        margin = text[: len(text) - len(text.lstrip())]
        yield from textwrap.wrap(told[2:], _WIDTH, initial_indent=f"{margin}# ", subsequent_indent=f"{margin}# ")
        yield text
    else:
        yield f"{text}  {told}".rstrip()


def _flow(value: Any) -> str:
    """A value on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    return text.removesuffix("...\n").strip()

"""The two files that are made from the config's own definitions: a JSON Schema for editors, a page for people.

`python -m tunery.config.schema` writes both into the working folder; a test keeps them current.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tunery.config.project import Project
from tunery.config.suites import MEASURES, SUITES

SCHEMA_FILE = Path("projects/project.schema.json")
PAGE_FILE = Path("docs/config.md")


def json_schema() -> str:
    """The JSON Schema of project.yaml; editors offer completion when a file's first line names it."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Project.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def page() -> str:
    """Every key of project.yaml with its default and its one line, as Markdown."""
    lines = [
        "# Keys of project.yaml",
        "",
        "Made by `python -m tunery.config.schema` from the definitions in `src/tunery/config`.",
        "Any key can be set on the command line: `--adapter.rank 32`, or `-P adapter.rank=32` under `mlflow run`.",
        "",
        "## Suites",
        "",
        *(f"- `{name}`: {', '.join(tasks)}" for name, tasks in SUITES.items()),
        "",
        "Of these tasks it is said what they measure, here and in the report:",
        "",
        *(f"- `{task}`: {what}" for task, what in MEASURES.items()),
        "",
        "`capabilities` follows Wang et al. 2023, arXiv:2306.04751; `evaluation.allow_code: true` adds `humaneval`.",
        "",
        *_section(Project, ""),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _section(section: type[BaseModel], prefix: str) -> Iterator[str]:
    nested: list[tuple[type[BaseModel], str]] = []
    yield f"## `{prefix.rstrip('.') or 'project'}`"  # code: <key> would be taken for an HTML tag
    yield ""
    yield (section.__doc__ or "").strip()
    yield ""
    yield "| key | values | default | what it is |"
    yield "| --- | --- | --- | --- |"
    properties = section.model_json_schema()["properties"]
    for name, field in section.model_fields.items():
        cells = f"`{prefix}{name}`", _cell(_values(properties[name])), _default(field), _cell(field.description or "")
        yield f"| {' | '.join(cells)} |"
        nested += [(inner, f"{prefix}{name}{mark}.") for inner, mark in _inner(field.annotation)]
    yield ""
    for inner, place in nested:
        yield from _section(inner, place)


def _inner(annotation: Any, mark: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, mark
        return
    marks: dict[object, str] = {list: ".0", dict: ".<key>"}
    container = marks.get(get_origin(annotation), mark)
    for argument in get_args(annotation):
        yield from _inner(argument, container)


def _values(schema: dict[str, Any]) -> str:
    """What a key may hold, read from its JSON Schema: "int >= 1", "nf4, int8 or none", "list of str"."""
    options = schema.get("anyOf", schema.get("oneOf"))
    if options is not None:
        return " or ".join(_values(option) for option in options if option.get("type") != "null")
    if "$ref" in schema:
        return "section"
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_values(schema.get('items', {}))}"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties", {})  # true where any value may stand
        return f"mapping to {_values(values) if isinstance(values, dict) else 'any value'}"
    bounds = [f"{sign} {schema[name]:g}" for name, sign in _BOUNDS.items() if name in schema]
    return " ".join([_WORDS.get(schema.get("type", ""), "any value"), *bounds])


_WORDS = {"integer": "int", "number": "float", "boolean": "true or false", "string": "text"}
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "needed"
    if isinstance(field.default, BaseModel):
        return "see below"
    return _cell(f"`{json.dumps(field.default)}`")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def write(root: Path) -> None:
    """Write both files under `root`."""
    for file, text in ((SCHEMA_FILE, json_schema()), (PAGE_FILE, page())):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path.cwd())

"""One dotted key: its field, whether it is a number, a value as the field would keep it, its place in a tree."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo


def field_at(section: type[BaseModel], key: str) -> FieldInfo | None:
    """The field of a dotted key, lists entered by number: data.train.0.weight; None when there is no such key."""
    head, _, rest = key.partition(".")
    field = section.model_fields.get(head)
    if field is None or not rest:
        return field
    inner, in_list = next(_sections_in(field.annotation), (None, False))
    index, _, inside = rest.partition(".") if in_list else ("0", "", rest)
    return field_at(inner, inside) if inner and index.isdigit() and inside else None


def number_type(field: FieldInfo) -> type[int] | type[float] | None:
    """Int or float for a field of numbers (unset, or a word such as auto, allowed), None for any other."""
    kinds = {kind for kind in _types_in(field.annotation) if kind not in (type(None), Literal)}
    if not kinds or not kinds <= {int, float}:
        return None
    return float if float in kinds else int


def kept(field: FieldInfo, value: object) -> Any:
    """The value as the field would keep it, in plain YAML types ("2e-4" -> 0.0002); itself where it does not fit."""
    kind: Any = field.annotation
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[(kind, *field.metadata)] if field.metadata else kind)
    try:
        return adapter.dump_python(adapter.validate_python(value), mode="json")
    except ValidationError:
        return value


def value_at(tree: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key of a resolved project; None below a section that is not there."""
    place: Any = tree
    for step in key.split("."):
        if isinstance(place, list):
            place = place[int(step)] if int(step) < len(place) else None
        elif place is not None:
            place = place.get(step)
    return place


def put_at(tree: dict[str, Any], key: str, value: object) -> None:
    """Set the value at a dotted key that `value_at` can reach."""
    way, _, last = key.rpartition(".")
    place = value_at(tree, way) if way else tree
    if isinstance(place, list):
        place[int(last)] = value
    elif place is not None:
        place[last] = value


def _types_in(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _types_in(argument)
    elif origin is Annotated:
        yield from _types_in(get_args(annotation)[0])
    else:
        yield Literal if origin is Literal else annotation


def dotted_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a section and of the sections in it; a list's entries are written `key.0`."""
    for name, field in section.model_fields.items():
        key = f"{prefix}{name}"
        yield key
        for inner, in_list in _sections_in(field.annotation):
            yield from dotted_keys(inner, f"{key}.0." if in_list else f"{key}.")


def nearest(name: str, known: Iterable[str]) -> str:
    """ "Did you mean …?" for a misspelt name, or nothing when no known name is near."""
    known = list(known)
    whole = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    if whole:
        return f"Did you mean {whole[0]!r}?"
    by_leaf = {key.rpartition(".")[2]: key for key in reversed(known)}
    leaf = difflib.get_close_matches(name.rpartition(".")[2], by_leaf, n=1, cutoff=0.75)
    return f"Did you mean {by_leaf[leaf[0]]!r}?" if leaf else ""


def _sections_in(annotation: Any) -> Iterator[tuple[type[BaseModel], bool]]:
    for inner in _types_in(annotation):
        in_list = get_origin(inner) is list
        section = get_args(inner)[0] if in_list else inner
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield section, in_list

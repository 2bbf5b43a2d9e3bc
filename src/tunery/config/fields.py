"""One dotted key: its field, whether it is a number, a value as the field would keep it, its place in a tree."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo


def field_at(section: type[BaseModel], key: str) -> FieldInfo | None:
    """The field of a dotted key, lists entered by number: data.train.0.weight; None when there is no such key."""
    head, _, rest = key.partition(".")
    field = section.model_fields.get(head)
    if field is None or not rest:
        return field
    for inner in _types_in(field.annotation):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return field_at(inner, rest)
        if get_origin(inner) is list:
            return _field_of_entry(inner, rest)
    return None


def number_type(field: FieldInfo) -> type[int] | type[float] | None:
    """Int or float for a field of numbers (unset allowed), None for any other."""
    kinds = {kind for kind in _types_in(field.annotation) if kind is not type(None)}
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


def _field_of_entry(entries: Any, rest: str) -> FieldInfo | None:
    index, _, inside = rest.partition(".")
    (entry,) = get_args(entries)
    if index.isdigit() and inside and isinstance(entry, type) and issubclass(entry, BaseModel):
        return field_at(entry, inside)
    return None


def _types_in(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _types_in(argument)
    elif origin is Annotated:
        yield from _types_in(get_args(annotation)[0])
    else:
        yield Literal if origin is Literal else annotation

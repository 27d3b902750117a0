"""What may stand at a place of the configuration: an invalid choice is told with the choices."""

import re
from collections.abc import Iterator
from typing import Any

from msgspec import inspect

_INVALID = re.compile(r"Invalid enum value .*?(?= - at `\$(?P<path>[^`]*)`|\Z)", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>\w+)|\[[^\]]*\]")


def with_choices(error: str, of: Any) -> str:  # noqa: ANN401 -- a type
    """Return a text of msgspec with what may be chosen, where it is about an invalid choice.

    Args:
        error: A ValidationError's text, with its path.
        of: The type that was converted to.
    """
    found = _INVALID.search(error)
    if found is None:
        return error
    places = [inspect.type_info(of)]
    for step in _STEP.finditer(found["path"] or ""):
        places = [inner for place in places for inner in _inside(place, step["name"])]
    choices = [str(choice) for place in places for choice in _choices(place)]
    if not choices:
        return error
    return f"{error[: found.start()]}expected {', '.join(choices)}{error[found.end() :]}"


def _inside(place: inspect.Type, name: str | None) -> Iterator[inspect.Type]:
    """Yield what a step of a path leads to; None is a step into a list or a table."""
    match place:
        case inspect.UnionType(types=types):
            for one in types:
                yield from _inside(one, name)
        case inspect.Metadata(type=inner):
            yield from _inside(inner, name)
        case inspect.StructType(fields=fields) if name is not None:
            yield from (field.type for field in fields if field.encode_name == name)
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            yield item
        case inspect.DictType(value_type=value):
            yield value
        case _:
            return


def _choices(place: inspect.Type) -> Iterator[object]:
    match place:
        case inspect.UnionType(types=types):
            for one in types:
                yield from _choices(one)
        case inspect.Metadata(type=inner):
            yield from _choices(inner)
        case inspect.EnumType(cls=cls):
            yield from (member.value for member in cls)
        case inspect.LiteralType(values=values):
            yield from values
        case _:
            return

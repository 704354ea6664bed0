"""Fields of classes: what a class declares about the state of its instances, so that a changed class is noticed."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Fields = Mapping[str, str] | Sequence[str]

__all__ = ["describe_difference", "fields_of"]

#: Values of enum members whose `repr` is the same in every process.
_PLAIN: Final = frozenset({bool, bytes, complex, float, int, str, type(None)})


def fields_of(value: Any) -> Fields | None:
    """The fields that a class declares, members of an enum with their values; None if it declares none."""
    if not isinstance(value, type):
        return None
    if issubclass(value, Enum):
        return {name: _description(each.value) for name, each in value.__members__.items()} or None
    for find in (_named_tuple, _dataclass, _attrs, _pydantic):
        found = find(value)
        if found is not None:
            return found
    return _slots(value)


def _description(value: Any) -> str:
    if type(value) is tuple:
        return f"({', '.join(map(_description, value))})"
    return repr(value) if type(value) in _PLAIN else f"a {type(value).__qualname__}"


def _named_tuple(cls: type) -> Fields | None:
    return getattr(cls, "_fields", None) if issubclass(cls, tuple) else None


def _dataclass(cls: type) -> Fields | None:
    if not dataclasses.is_dataclass(cls):
        return None
    names = [each.name for each in dataclasses.fields(cls)]
    # a frozen class with slots sets them in their order
    return tuple(names if "__slots__" in vars(cls) else sorted(names))


def _attrs(cls: type) -> Fields | None:
    found = vars(cls).get("__attrs_attrs__")
    return None if found is None else tuple(each.name for each in found)


def _pydantic(cls: type) -> Fields | None:
    found = getattr(cls, "__pydantic_fields__", None)
    return tuple(sorted(found)) if isinstance(found, dict) else None


def _slots(cls: type) -> Fields | None:
    if issubclass(cls, BaseException) or "__slots__" not in vars(cls):
        return None
    slots = [vars(kind).get("__slots__", ()) for kind in cls.__mro__]
    names = [name for each in slots for name in ((each,) if isinstance(each, str) else each)]
    return tuple(sorted({*names} - {"__dict__", "__weakref__"}))


def describe_difference(before: Fields | None, now: Fields | None) -> str:
    """How the fields of a class differ from those of stored instances; empty if these can be restored."""
    if before is None or before == now:
        return ""
    if isinstance(before, dict):
        members = now if isinstance(now, dict) else {}
        if before.items() <= members.items():  # new members affect no instance
            return ""
    return f"with {_listed(before)}, and it has {_listed(now)} now"


def _listed(fields: Fields | None) -> str:
    if isinstance(fields, dict):
        return f"the members {', '.join(f'{name} = {value}' for name, value in fields.items())}"
    return f"the fields {', '.join(fields)}" if fields else "no fields"

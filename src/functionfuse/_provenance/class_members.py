"""Members of classes that count: those that a class body, dataclass, enumeration or metaclass sets."""

from __future__ import annotations

import dataclasses
import functools
import linecache
from enum import Enum
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["members_of", "names_in"]

#: Attributes that Python makes, or that do not count; those of a dataclass are read from its fields.
_SKIPPED: Final = frozenset(
    {
        *("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__firstlineno__"),
        *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
        *("__abstractmethods__", "_abc_impl", "__static_attributes__", "__type_params__"),
        *("__parameters__", "__orig_bases__", "__dataclass_params__", "__dataclass_fields__"),
        *("_is_protocol", "_is_runtime_protocol", "__protocol_attrs__", "__signature__"),
        *(
            "__non_callable_proto_members__",
            "__callable_proto_members_only__",
            "__slotnames__",
            "__match_args__",
        ),
    }
)
#: Attributes that pydantic and attrs make; the fields in them are read on their own.
_LIBRARY_MADE: Final = ("__pydantic_", "__attrs_", "__class_vars__", "__private_attributes__")
_PYTHON_MADE: Final = (MemberDescriptorType, GetSetDescriptorType)
#: Libraries whose functions in a class are made by a base class or decorator that counts by its name.
_GENERATORS: Final = frozenset({"dataclasses", "collections", "typing", "enum", "attr", "pydantic"})
_FIELD_OPTIONS: Final = ("init", "repr", "hash", "compare", "kw_only")
_ATTRS_OPTIONS: Final = ("default", "validator", "converter", "init", "kw_only", "eq", "alias")
_CLASS_OPTIONS: Final = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")


def members_of(kind: type, *, reads_annotations: bool) -> Iterator[tuple[str, Any]]:
    """The members of a class in an order that does not depend on where they are in its body.

    Args:
        kind: Any class.
        reads_annotations: Its metaclass may read annotations, as that of pydantic does.
    """
    if issubclass(kind, Enum):
        yield from ((f"member {name}", value) for name, value in _enum_members(kind))
    is_generated = dataclasses.is_dataclass(kind) or "__attrs_attrs__" in vars(kind)
    for name, value in sorted(vars(kind).items()):
        if not (_is_skipped(kind, name, value) or (is_generated and _is_generated(value))):
            yield name, value
    if "__dataclass_fields__" in vars(kind):
        yield from _dataclass_members(kind)
    if "_field_defaults" in vars(kind) and issubclass(kind, tuple):
        yield "fields", (kind.__dict__["_fields"], kind.__dict__["_field_defaults"])
    for name, field in vars(kind).get("__pydantic_fields__", {}).items():
        yield f"field {name}", field
    for field in vars(kind).get("__attrs_attrs__", ()):
        yield from (
            (f"field {field.name} {option}", getattr(field, option)) for option in _ATTRS_OPTIONS
        )
    if reads_annotations:
        yield from _annotations_of(kind)


def _is_skipped(kind: type, name: str, value: Any) -> bool:
    if name in _SKIPPED or name.startswith(_LIBRARY_MADE) or issubclass(type(value), _PYTHON_MADE):
        return True
    if issubclass(kind, Enum) and not _is_code(value):
        return True
    if issubclass(kind, tuple) and (
        name in {"_fields", "_field_defaults"} or type(value).__name__ == "_tuplegetter"
    ):
        return True
    module = getattr(getattr(value, "__func__", value), "__globals__", {}).get("__name__", "")
    return str(module).startswith("namedtuple_") or str(module).partition(".")[0] in _GENERATORS


def _is_code(value: Any) -> bool:
    """Whether an attribute of an enumeration is a method: its members and tables are not."""
    return issubclass(
        type(value),
        FunctionType | property | staticmethod | classmethod | functools.cached_property,
    )


def _is_generated(value: Any) -> bool:
    """Whether a method was compiled from a text that a library made."""
    value = getattr(value, "__wrapped__", value)  # of the wrapper that stops recursive texts
    code = getattr(value, "__code__", None)
    if code is None or not code.co_filename.startswith("<"):
        return False
    return (
        code.co_filename == "<string>"
        or not linecache.getlines(code.co_filename)
        or (code.co_filename.startswith("<attrs generated"))
    )


def _enum_members(kind: type[Enum]) -> Iterator[tuple[str, Any]]:
    for name, member in kind.__members__.items():
        yield name, member.value


def _dataclass_members(kind: Any) -> Iterator[tuple[str, Any]]:
    options = kind.__dataclass_params__
    yield "options", tuple(getattr(options, name) for name in _CLASS_OPTIONS)
    for name, field in kind.__dataclass_fields__.items():
        kind_of_field = field._field_type.name  # noqa: SLF001 - says what is a ClassVar or an InitVar
        settings = *(getattr(field, option) for option in _FIELD_OPTIONS), kind_of_field
        yield (
            f"field {name}",
            tuple(None if each is dataclasses.MISSING else each for each in settings),
        )
        if field.default is not dataclasses.MISSING:
            yield f"field {name} default", field.default
        if field.default_factory is not dataclasses.MISSING:
            yield f"field {name} default_factory", field.default_factory
        if field.metadata:
            yield f"field {name} metadata", dict(field.metadata)


def _annotations_of(kind: type) -> Iterator[tuple[str, Any]]:
    """The types of fields, with those within `list[Model]` and the like."""
    for name, annotation in vars(kind).get("__annotations__", {}).items():
        for inner in _types_in(annotation):
            yield f"annotation {name}", inner


def _types_in(annotation: Any) -> Iterator[Any]:
    arguments = get_args(annotation)
    yield repr(annotation) if arguments or not isinstance(annotation, type) else annotation
    for inner in arguments:
        yield from _types_in(inner)


def names_in(member: Any) -> tuple[str, ...]:
    """The names of attributes that a method reads."""
    code = getattr(getattr(member, "__func__", member), "__code__", None)
    return code.co_names if code is not None else ()

"""Raw state of objects: read it without running their code, and build objects of a class from it."""

from __future__ import annotations

from dataclasses import MISSING
from types import BuiltinFunctionType, MemberDescriptorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ObjectBuilder", "attributes_of", "split_object"]


def attributes_of(value: object) -> dict[str, Any]:
    """The attributes of an object that pickle sees, in its `__dict__` and its slots.

    No property, `__getattr__` or `__getstate__` of the object's class runs: lazy attributes stay lazy.
    """
    try:
        state = object.__getstate__(value)
    except Exception:  # noqa: BLE001 - a class may break the protocol
        return {}
    if type(state) is tuple:
        return {**(state[0] or {}), **state[1]}
    return dict(state) if type(state) is dict else {}


def split_object(value: object) -> tuple[ObjectBuilder, list[Any]] | None:
    """Take an object apart: the function that builds its like, and the parts; None if that is not possible."""
    kind = type(value)
    base = next(base for base in kind.__mro__ if _makes_instances(base))
    content = _content(value, base)
    if content is None:
        return None
    attributes = _field_defaults(kind) | attributes_of(value)
    return ObjectBuilder(kind, base, tuple(attributes)), [content, *attributes.values()]


def _field_defaults(kind: type) -> dict[str, Any]:
    """The default values of a dataclass's fields that instances find in the class, as with `init=False`."""
    fields: dict[str, Any] = getattr(kind, "__dataclass_fields__", {})
    return {
        name: field.default
        for name, field in fields.items()
        if not field.init
        and field.default is not MISSING
        and any(vars(base).get(name) is field.default for base in kind.__mro__)
    }


def _makes_instances(base: type) -> bool:
    return isinstance(vars(base).get("__new__"), BuiltinFunctionType)


def _content(value: Any, base: type) -> Any:
    """The parts of an object that are not attributes; None if they are unknown."""
    if base is object:
        return ()
    if issubclass(base, BaseException):
        return value.args
    if base is dict:
        return dict(value)
    return base(value) if base in {list, tuple, set, frozenset} else None


class ObjectBuilder:
    """Builds objects of a class from their attributes, without calling the class."""

    __slots__ = ("base", "kind", "names")

    def __init__(self, kind: type, base: type, names: tuple[str, ...]) -> None:
        self.kind, self.base, self.names = kind, base, names

    def __call__(self, parts: Sequence[Any]) -> Any:
        content, *values = parts
        made = self._new(content)
        # not by `setattr`: the class may be frozen, or have descriptors
        in_dict = vars(made) if hasattr(made, "__dict__") else {}
        for name, value in zip(self.names, values, strict=True):
            if self._is_slot(name):
                object.__setattr__(made, name, value)
            else:
                in_dict[name] = value
        return made

    def label(self, _: object, number: int) -> str:
        """Where a part is, for messages."""
        return f"attribute {self.names[number - 1]!r}" if number else ""

    def _new(self, content: Any) -> Any:
        if issubclass(self.base, tuple | frozenset):
            return self.base.__new__(self.kind, content)
        made: Any = self.base.__new__(self.kind)
        if issubclass(self.base, BaseException):
            made.args = content
        elif self.base is list:
            list.extend(made, content)
        elif self.base is not object:  # dict, set
            self.base.update(made, content)  # type: ignore[attr-defined]
        return made

    def _is_slot(self, name: str) -> bool:
        return any(type(vars(base).get(name)) is MemberDescriptorType for base in self.kind.__mro__)

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectBuilder, (self.kind, self.base, self.names)

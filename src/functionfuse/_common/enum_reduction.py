"""Reduction of enums that are pickled by value: with aliases, and with attributes of members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from enum import Enum

__all__ = ["with_member_attributes"]


def with_member_attributes(cls: type[Enum], reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """Add aliases and attributes to cloudpickle's reduction, which creates the members without `__init__`."""
    construct, arguments, (names, slots), items, pairs, set_state = reduced
    aliases = cls.__members__.keys() - arguments[_MEMBERS].keys()
    # not set later, as attributes are that are not members
    arguments[_MEMBERS].update({name: cls.__members__[name].value for name in aliases})
    state = {name: value for name, value in names.items() if name not in aliases}, slots
    attributes = {name: _attributes(member) for name, member in cls.__members__.items()}
    if not any(attributes.values()):
        return construct, arguments, state, items, pairs, set_state
    return construct, arguments, (set_state, state, attributes), items, pairs, _set_state


#: The position of the members among cloudpickle's arguments.
_MEMBERS: Final = 3


def _attributes(member: Enum) -> dict[str, Any]:
    """The attributes of a member but those of the library, which are named as `_value_`."""
    own = vars(member)
    return {
        name: value
        for name, value in own.items()
        if not (name.startswith("_") and name.endswith("_"))
    }


def _set_state(
    cls: type[Enum],
    state: tuple[Callable[[Any, Any], object], Any, Mapping[str, Mapping[str, Any]]],
) -> None:
    set_state, own, attributes = state
    set_state(cls, own)
    for name, values in attributes.items():
        vars(cls.__members__[name]).update(values)

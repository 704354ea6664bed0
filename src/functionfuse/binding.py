"""Inputs into arguments: what stands for a result becomes that result."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

from functionfuse.graph import Number, Ref
from functionfuse.nodes import ATOMS, Container
from functionfuse.notes import add_note
from functionfuse.units import Stateful, Together

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functionfuse.graph import Step

__all__ = ["UNSHARED", "bind", "copied", "pick", "resolve"]


def bind(
    step: Step, values: Mapping[int, Any], *, sole: bool
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments of a step's call, with results where references stand.

    Args:
        step: The step.
        values: The values of the outcomes of its parents, by their number.
        sole: Nobody else takes the instance that it works on.
    """
    args: Sequence[Any] = step.args
    if not ATOMS.issuperset(map(type, args)):
        args = [value if type(value) in ATOMS else resolve(value, values) for value in args]
    kwargs = step.kwargs
    if kwargs:
        kwargs = {key: resolve(value, values) for key, value in kwargs.items()}
    if step.state is not None:
        before = _own(values[step.state.number], step.state.number)
        args = (_instance(before, sole=sole), *args)
    return args, kwargs


def resolve(argument: Any, values: Mapping[int, Any]) -> Any:
    """An argument with results where references stand.

    Args:
        argument: One of a step's.
        values: The values of the outcomes of the steps that it refers to, by their number.
    """
    kind = type(argument)
    if kind is Number:
        value = values[argument]
        return pick(argument, value) if type(value) in _WRAPPED else value
    if kind is Ref:
        return pick(argument, values[argument.number])
    if kind is Container:
        return argument.build([resolve(part, values) for part in argument.parts])
    return _fresh(argument, kind) if kind in _LITERALS else argument


#: What `capture` copies. A function may change what it takes, and the graph must stay as it is.
_LITERALS: Final = frozenset({list, dict, set, tuple})


def _fresh(literal: Any, kind: type) -> Any:
    """A copy of a list, dict, set or tuple, and of those within it."""
    if kind is dict:
        return {key: _fresh(part, type(part)) for key, part in literal.items()}
    if kind not in _LITERALS:
        return literal
    if ATOMS.issuperset(map(type, literal)):  # a large literal costs one pass in C
        return kind(literal)
    return kind([_fresh(part, type(part)) for part in literal])


def pick(ref: Number | Ref, value: Any) -> Any:
    """What a reference means, out of the value of its step's outcome."""
    value = _own(value, ref.number)
    if type(value) is Stateful and ref.slot != "outcome":
        value = value.state if ref.slot == "state" else value.value
    return _item(ref, value) if type(ref) is Ref and ref.path else value


_WRAPPED: Final = frozenset({Stateful, Together})


def _own(value: Any, number: int) -> Any:
    """A step's own value, also where it ran together with others."""
    return value.values[number] if type(value) is Together else value


def _item(ref: Ref, value: Any) -> Any:
    taken = 0
    try:
        for key in ref.path:
            value = value[key]
            taken += 1
    except Exception as error:
        part = ref._replace(path=ref.path[: taken + 1])
        add_note(error, f"taking item {part} of a {type(value).__qualname__}")
        raise
    return value


#: Values that cannot share anything with the instance whose method returned them.
UNSHARED: Final = frozenset({int, float, complex, bool, str, bytes, type(None)})


def _instance(before: Stateful, *, sole: bool) -> Any:
    """The instance for the next method, which may change it.

    Whoever else holds the instance, or a part of it, must not see the change:
    then the method works on a copy, unless the instance holds what cannot be copied
    (an open file, a connection).
    """
    return before.state if sole and type(before.value) in UNSHARED else copied(before.state)


def copied(instance: Any) -> Any:
    """A copy of an instance, or the instance where it cannot be copied."""
    try:
        return copy.deepcopy(instance)
    except Exception:  # noqa: BLE001 - whatever its parts raise
        return instance

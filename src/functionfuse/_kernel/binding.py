"""Inputs into arguments: what stands for a result becomes that result."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.graph import Number, Ref
from functionfuse._graph.nodes import ATOMS, Container, Item, Node
from functionfuse._kernel.annotations import note_item
from functionfuse._kernel.units import Stateful, Together

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from functionfuse._graph.graph import Step

    Take = Callable[[Any], Any]  # gives what somebody stands for

__all__ = ["UNSHARED", "bind", "copied", "pick", "resolve"]


def bind(
    step: Step | Node[Any], take: Take, *, sole: bool
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments of a step's call, with results where references stand.

    Args:
        step: The step, or the node that it is made of.
        take: Gives the value of the outcome of a parent: by its number, or of a node by the node.
            It is asked once for each time that a reference stands there.
        sole: Nobody else takes the instance that it works on.
    """
    args: Sequence[Any] = step.args
    if not ATOMS.issuperset(map(type, args)):
        args = [value if type(value) in ATOMS else resolve(value, take) for value in args]
    kwargs = step.kwargs
    if kwargs:
        kwargs = {key: resolve(value, take) for key, value in kwargs.items()}
    state = step.state
    if state is not None:
        before = _own(state, take(state if type(state) is Node else state.number))
        args = (_instance(before, sole=sole), *args)
    return args, kwargs


def resolve(argument: Any, take: Take) -> Any:
    """An argument with results where references stand.

    Args:
        argument: One of a step's.
        take: Gives the values of the outcomes that it refers to, see `bind`.
    """
    kind = type(argument)
    if kind is Number or kind is Node:
        value = take(argument)
        return pick(argument, value) if type(value) in _WRAPPED else value
    if kind is Ref:
        return pick(argument, take(argument.number))
    if kind is Item:
        return pick(argument, take(argument.node))
    if kind is Container:
        return argument.build([resolve(part, take) for part in argument.parts])
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


def pick(ref: Number | Ref | Node[Any] | Item, value: Any) -> Any:
    """What a reference means, out of the value of its step's outcome."""
    value = _own(ref, value)
    if type(value) is Stateful and ref.slot != "outcome":
        value = value.state if ref.slot == "state" else value.value
    return _item(ref, value) if ref.path else value


_WRAPPED: Final = frozenset({Stateful, Together})


def _own(ref: Any, value: Any) -> Any:
    """A step's own value, also where it ran together with others."""
    return value.values[ref.number] if type(value) is Together else value


def _item(ref: Any, value: Any) -> Any:
    taken = 0
    try:
        for key in ref.path:
            value = value[key]
            taken += 1
    except Exception as error:
        note_item(error, ref, ref.path[: taken + 1], type(value))
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

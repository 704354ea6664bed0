"""Inputs into arguments: what stands for a result becomes that result."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.graph import ItemRef, ResultRef
from functionfuse._graph.nodes import ATOMS, Container, Item, Node
from functionfuse._kernel.annotations import add_item_note
from functionfuse._kernel.units import GroupResult, InstanceResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from functionfuse._graph.graph import GraphNode

    Lookup = Callable[[Any], Any]  # gives what somebody stands for

__all__ = ["UNSHARED_TYPES", "bind", "copy_instance", "resolve_argument", "resolve_reference"]


def bind(
    node: GraphNode | Node[Any], lookup: Lookup, *, exclusive_instance: bool
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments of a step's call, with results where references stand.

    Args:
        node: The step, or the node that it is made of.
        lookup: Gives the value of the outcome of a parent: by its number, or of a node by the node.
            It is asked once for each time that a reference stands there.
        exclusive_instance: Nobody else takes the instance that it works on.
    """
    args: Sequence[Any] = node.args
    if not ATOMS.issuperset(map(type, args)):
        args = [
            value if type(value) in ATOMS else resolve_argument(value, lookup) for value in args
        ]
    kwargs = node.kwargs
    if kwargs:
        kwargs = {key: resolve_argument(value, lookup) for key, value in kwargs.items()}
    state = node.state
    if state is not None:
        before = _unwrap_group(state, lookup(state if type(state) is Node else state.number))
        args = (_instance(before, exclusive_instance=exclusive_instance), *args)
    return args, kwargs


def resolve_argument(argument: Any, lookup: Lookup) -> Any:
    """An argument with results where references stand.

    Args:
        argument: One of a step's.
        lookup: Gives the values of the outcomes that it refers to, see `bind`.
    """
    kind = type(argument)
    if kind is ResultRef or kind is Node:
        value = lookup(argument)
        return resolve_reference(argument, value) if type(value) in _WRAPPER_TYPES else value
    if kind is ItemRef:
        return resolve_reference(argument, lookup(argument.number))
    if kind is Item:
        return resolve_reference(argument, lookup(argument.node))
    if kind is Container:
        return argument.build([resolve_argument(part, lookup) for part in argument.parts])
    return _literal_copy(argument, kind) if kind in _LITERALS else argument


#: What `capture` copies. A function may change what it takes, and the graph must stay as it is.
_LITERALS: Final = frozenset({list, dict, set, tuple})


def _literal_copy(literal: Any, kind: type) -> Any:
    """A copy of a list, dict, set or tuple, and of those within it."""
    if kind is dict:
        return {key: _literal_copy(part, type(part)) for key, part in literal.items()}
    if kind not in _LITERALS:
        return literal
    if ATOMS.issuperset(map(type, literal)):  # a large literal costs one pass in C
        return kind(literal)
    return kind([_literal_copy(part, type(part)) for part in literal])


def resolve_reference(ref: ResultRef | ItemRef | Node[Any] | Item, value: Any) -> Any:
    """What a reference means, out of the value of its step's outcome."""
    value = _unwrap_group(ref, value)
    if type(value) is InstanceResult and ref.slot != "outcome":
        value = value.state if ref.slot == "state" else value.value
    return _item(ref, value) if ref.path else value


_WRAPPER_TYPES: Final = frozenset({InstanceResult, GroupResult})


def _unwrap_group(ref: Any, value: Any) -> Any:
    """A step's own value, also where it ran together with others."""
    return value.values[ref.number] if type(value) is GroupResult else value


def _item(ref: Any, value: Any) -> Any:
    taken = 0
    try:
        for key in ref.path:
            value = value[key]
            taken += 1
    except Exception as error:
        add_item_note(error, ref, ref.path[: taken + 1], type(value))
        raise
    return value


#: Values that cannot share anything with the instance whose method returned them.
UNSHARED_TYPES: Final = frozenset({int, float, complex, bool, str, bytes, type(None)})


def _instance(before: InstanceResult, *, exclusive_instance: bool) -> Any:
    """The instance for the next method, which may change it.

    Whoever else holds the instance, or a part of it, must not see the change:
    then the method works on a copy, unless the instance holds what cannot be copied
    (an open file, a connection).
    """
    return (
        before.state
        if exclusive_instance and type(before.value) in UNSHARED_TYPES
        else copy_instance(before.state)
    )


def copy_instance(instance: Any) -> Any:
    """A copy of an instance, or the instance where it cannot be copied."""
    try:
        return copy.deepcopy(instance)
    except Exception:  # noqa: BLE001 - whatever its parts raise
        return instance

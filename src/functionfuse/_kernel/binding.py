"""Argument binding: replace the references among a node's arguments by results."""

from __future__ import annotations

import copy
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.graph import ItemRef, ResultRef
from functionfuse._graph.nodes import ATOMS, Container, Item, Node
from functionfuse._graph.seeds import SeedSource
from functionfuse._kernel.annotations import add_item_note
from functionfuse._kernel.units import GroupResult, InstanceResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from functionfuse._graph.graph import GraphNode

    Lookup = Callable[[Any], Any]  # gives the value of a node's outcome
    Memo = dict[int | SeedSource, Any]

__all__ = [
    "LITERALS",
    "UNSHARED_TYPES",
    "bind",
    "copy_instance",
    "resolve_argument",
    "resolve_reference",
]


def bind(
    node: GraphNode | Node[Any], lookup: Lookup, *, exclusive_instance: bool
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the arguments of a node's call, with results in place of references.

    Args:
        node: A node of a graph, or a `Node`.
        lookup: Gives the value of a parent's outcome, by the parent's number, or by the `Node`.
            It is called once for each occurrence of a reference.
        exclusive_instance: No other node and no target uses the instance of this method.
    """
    args: Sequence[Any] = node.args
    memo: Memo = {}
    if not ATOMS.issuperset(map(type, args)):
        args = [
            value if type(value) in ATOMS else resolve_argument(value, lookup, memo)
            for value in args
        ]
    kwargs = node.kwargs
    if kwargs:
        kwargs = {key: resolve_argument(value, lookup, memo) for key, value in kwargs.items()}
    state = node.state
    if state is not None:
        before = _unwrap_group(state, lookup(state if type(state) is Node else state.number))
        args = (_instance(before, exclusive_instance=exclusive_instance), *args)
    return args, kwargs


def resolve_argument(argument: Any, lookup: Lookup, memo: Memo) -> Any:
    """Return an argument with results in place of references.

    Args:
        argument: An argument of a node.
        lookup: Gives the values of parents' outcomes, see `bind`.
        memo: The containers of this call by the identity of those that were captured:
            one that occurs twice among the arguments is one object for the function.
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
        build = argument.build
        # a call takes one generator, also if several arguments that hold it were sent separately
        key = build if type(build) is SeedSource else id(argument)
        if key not in memo:
            memo[key] = build([resolve_argument(part, lookup, memo) for part in argument.parts])
        return memo[key]
    return _literal_copy(argument, kind, memo) if kind in LITERALS else argument


#: Containers that `capture` copies. A function may change its arguments, and must not change the graph.
LITERALS: Final = frozenset({list, dict, set, tuple})


def _literal_copy(literal: Any, kind: type, memo: Memo) -> Any:
    """A copy of a list, dict, set or tuple, and of those within it."""
    if kind not in LITERALS:
        return literal
    copied = memo.get(id(literal))
    if copied is None:
        if kind is dict:
            copied = {key: _literal_copy(part, type(part), memo) for key, part in literal.items()}
        elif ATOMS.issuperset(map(type, literal)):  # a large literal costs one pass in C
            copied = kind(literal)
        else:
            copied = kind([_literal_copy(part, type(part), memo) for part in literal])
        memo[id(literal)] = copied
    return copied


def resolve_reference(ref: ResultRef | ItemRef | Node[Any] | Item, value: Any) -> Any:
    """Return the value of a reference, given the value of its node's outcome."""
    value = _unwrap_group(ref, value)
    if type(value) is InstanceResult and ref.slot != "outcome":
        value = value.state if ref.slot == "state" else value.value
    if type(value) in _MEMORY_FILES:  # each consumer reads from the position of the result
        value = copy.copy(value)
    return _item(ref, value) if ref.path else value


_MEMORY_FILES: Final = frozenset({BytesIO, StringIO})
#: Types of outcomes' values that are not the value for a consumer.
_WRAPPER_TYPES: Final = _MEMORY_FILES | {InstanceResult, GroupResult}


def _unwrap_group(ref: Any, value: Any) -> Any:
    """The value of a node, also out of the result of its group."""
    return value.values[ref.number] if type(value) is GroupResult else value


def _item(ref: Any, value: Any) -> Any:
    depth = 0
    try:
        for key in ref.path:
            value = value[key]
            depth += 1
    except Exception as error:
        add_item_note(error, ref, ref.path[: depth + 1], type(value))
        raise
    return value


#: Types of values that cannot share a part with the instance whose method returned them.
UNSHARED_TYPES: Final = frozenset({int, float, complex, bool, str, bytes, type(None)})


def _instance(before: InstanceResult, *, exclusive_instance: bool) -> Any:
    """Return the instance for the next method, which may change it.

    It is a copy if another node or a result may refer to the instance or to a part of it,
    unless something in the instance cannot be copied (an open file, a connection).
    """
    return (
        before.state
        if exclusive_instance and type(before.value) in UNSHARED_TYPES
        else copy_instance(before.state)
    )


def copy_instance(instance: Any) -> Any:
    """A copy of an instance, or the instance where it cannot be copied."""
    from functionfuse._context.event_loop import refers_to_loop  # most runs need none

    if refers_to_loop(instance):  # half-made copies of connections complain when they are deleted
        return instance
    try:
        return copy.deepcopy(instance)
    except Exception:  # noqa: BLE001 - of any of its parts
        return instance

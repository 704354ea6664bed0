"""Guard of a call's arguments: private copies that show what a node changes, and read-only arrays.

A node that is checked works on a copy of its arguments, and a second copy shows the changes.
So the value of another node is unchanged, and the error names the node that made the change,
also where several nodes take the value at the same time.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from functionfuse._graph.nodes import ATOMS, Kind
from functionfuse._kernel.annotations import add_note
from functionfuse._kernel.argument_sources import Owner, Part, name_arguments, owned_parts
from functionfuse._kernel.borrowed_values import borrowed_values_of
from functionfuse._kernel.read_only import has_instances, is_read_only_error, read_only
from functionfuse._kernel.value_changes import change_of
from functionfuse._kernel.value_copies import copy_value, copy_value_twice
from functionfuse.errors import MutationError, MutationWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from functionfuse._graph.graph import GraphNode
    from functionfuse._kernel.argument_sources import Source

    Compute = Callable[[GraphNode, Sequence[Any], Mapping[str, Any]], Any]

__all__ = ["ArgumentGuard"]


class ArgumentGuard(NamedTuple):
    """Guards the arguments of one node, in any process."""

    run: str  # the id of the run
    sources: Mapping[str, Source]  # by the names of arguments
    check: bool
    read_only: bool

    def call(
        self, compute: Compute, node: GraphNode, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Compute a node with guarded arguments.

        Raises:
            MutationError: The node changed an argument that it shares with others.
        """
        is_method = node.kind is Kind.METHOD
        named = name_arguments(node.func, args, kwargs, is_method=is_method)
        names, values = [name for name, _ in named], [value for _, value in named]
        check = None
        if self.check:
            check = _Check(self, node, names, values, args[0] if is_method else None)
            values = check.begin()
        if self.read_only:
            values = [self._read_only(*pair) for pair in zip(names, values, strict=True)]
        count = len(args) - is_method
        kwargs = dict(zip(names[count:], values[count:], strict=True))
        try:
            value = compute(node, (*args[:is_method], *values[:count]), kwargs)
        except Exception as error:
            if self.read_only and is_read_only_error(error):
                taken = [name for name in names if self.sources.get(name) is not None]
                add_note(error, _READ_ONLY_ADVICE.format(", ".join(taken)))
            raise
        if check is not None:
            check.end(value)
        return value

    def _read_only(self, name: str, value: Any) -> Any:
        return value if has_instances(self.sources.get(name)) else read_only(value)


class _Check:
    """Check of one call for changes of its arguments."""

    def __init__(
        self,
        guard: ArgumentGuard,
        node: GraphNode,
        names: Sequence[str],
        values: Sequence[Any],
        instance: Any,
    ) -> None:
        self._node = node
        self._sources = [guard.sources.get(name) for name in names]
        self._names = names
        self._values = list(values)
        self._instance = instance
        self._borrowed = borrowed_values_of(guard.run)
        self._pairs: list[tuple[Part, Any]] = []  # parts of the node's arguments, with their copies

    def begin(self) -> list[Any]:
        """Copy the arguments; return the copies for the call."""
        given, before = self._copy()
        for source, name, value, copy in zip(
            self._sources, self._names, given, before, strict=True
        ):
            parts = owned_parts(source, value, name)
            copies = owned_parts(source, copy, name)
            self._pairs += [(part, each.value) for part, each in zip(parts, copies, strict=True)]
        for owner, value in self._borrowed.of_instance(self._instance):
            self._pairs.append((Part(_INSTANCE, owner, value), self._copy_or_warn(value)))
        return given

    def _copy(self) -> tuple[list[Any], list[Any]]:
        if all(source is None for source in self._sources):
            return self._values, self._values
        try:
            return copy_value_twice(self._values)
        except Exception:  # noqa: BLE001 - of one of them
            given = [self._copy_or_warn(value) for value in self._values]
            return given, [self._copy_or_warn(value) for value in given]

    def _copy_or_warn(self, value: Any) -> Any:
        try:
            return copy_value(value)
        except Exception as error:  # noqa: BLE001 - the classes of its parts raise any exception
            message = (
                f"node {self._node.name!r} cannot be checked for changes of a {type(value).__qualname__} "
                f"that it takes, since that cannot be copied: {type(error).__name__}: {error}"
            )
            warnings.warn(message, MutationWarning, stacklevel=2)
            return value

    def end(self, value: Any) -> None:
        """Compare the arguments with their copies, and record which of them the result contains."""
        for part, before in self._pairs:
            owner = self._borrowed.owner_behind(part.owner)
            mismatch = owner and change_of(before, part.value, part.path)
            if owner is not None and mismatch is not None:
                message = self._message(part, owner, mismatch.path or part.path)
                message += f": {mismatch.expected} before, {mismatch.actual} after. {_advice(part)}"
                raise MutationError(message)
        self._record_borrowed(value)

    def _record_borrowed(self, value: Any) -> None:
        parts = [part for part, _ in self._pairs if type(part.value) not in ATOMS]
        if not parts:
            return
        if self._node.kind is Kind.FUNCTION:
            self._borrowed.add_value(self._node.name, value, parts)
            return
        self._borrowed.add_instance(value.state, parts)
        if value.value is not None:
            self._borrowed.add_value(self._node.name, value.value, parts)

    def _message(self, part: Part, owner: Owner, path: str) -> str:
        node = self._node
        text = f"node {node.name!r} ({node.function} at {node.location}) changed "
        text += "what its instance holds" if part.path == _INSTANCE else f"its argument {path}"
        text += " in place"
        if not owner.node:
            return f"{text}, an object that was captured by reference when the call was written"
        if owner.node != part.owner.node and part.owner.node:
            text += f", the value of node {part.owner.node!r}, which has parts of"
        else:
            text += ","
        return f"{text} the value of node {owner.node!r}, which {_join(owner.shared_with)} has, too"


#: The path of a part of a method's instance.
_INSTANCE = "(instance)"


def _join(names: Sequence[str]) -> str:
    shown, more = names[:3], len(names) - 3
    return " and ".join(shown) + (f" and {more} more" if more > 0 else "")


def _advice(part: Part) -> str:
    if part.path == _INSTANCE:
        return "Copy it where the instance takes it: self.x = copy.deepcopy(x)"
    name = part.path if part.path.isidentifier() else "value"
    copied = f"{name}.copy()" if _has_array_copy(part.value) else f"copy.deepcopy({name})"
    return f"Change a copy: {name} = {copied}"


def _has_array_copy(value: Any) -> bool:
    return hasattr(value, "copy") and hasattr(value, "shape")


_READ_ONLY_ADVICE = (
    "the workflow has read_only=True: arrays and frames in the arguments of its nodes ({}) cannot be written. "
    "Change a copy, as in values = values.copy()"
)

"""Mutation checks: find nodes that change their arguments."""

from __future__ import annotations

import functools
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.graph import ItemRef, ResultRef
from functionfuse._graph.nodes import Container, Kind
from functionfuse._kernel.argument_sources import LITERAL, Owner, name_arguments, owned_parts
from functionfuse._kernel.kernel import materialize_result
from functionfuse._kernel.value_copies import copy_value
from functionfuse.comparison.equality import Equality

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from functionfuse._graph.graph import Graph, GraphNode
    from functionfuse._kernel.argument_sources import Part, Source

__all__ = ["Mutation", "read_mutations", "with_mutation_checks"]


@dataclass(frozen=True, slots=True)
class Mutation:
    """A node changed one of its arguments."""

    node: str
    function: str  # its name and location
    argument: str  # like `items[0]`
    of: str  # the node whose value it is; empty for a value of the user
    before: str
    after: str

    def __str__(self) -> str:
        whose = f", the value of node {self.of!r}" if self.of else ""
        return (
            f"node {self.node!r} ({self.function}) changes its argument {self.argument}{whose}: "
            f"{self.before} before, {self.after} after"
        )


def with_mutation_checks(graph: Graph, file: Path) -> Graph:
    """A graph with functions that record which of their arguments they change."""
    names = [node.name for node in graph]
    return graph.with_nodes(node._replace(func=_MutationCheck(node, names, file)) for node in graph)


def read_mutations(file: Path) -> list[Mutation]:
    """The recorded mutations, without duplicates."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [Mutation(**json.loads(line)) for line in dict.fromkeys(lines)]


class _MutationCheck:
    """Wrapper of a node's function that compares its arguments before and after the call; picklable."""

    def __init__(self, node: GraphNode, names: Sequence[str], file: Path) -> None:
        functools.update_wrapper(self, node.func, updated=())
        self._func = node.func
        self._file = file
        self._node = node.name, f"{node.function} at {node.location}"
        self._is_method = node.kind is Kind.METHOD
        args = node.args if node.state is None else (node.state, *node.args)
        named = name_arguments(node.func, args, node.kwargs, is_method=self._is_method)
        self._sources = {name: _source(value, names) for name, value in named}

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        named = name_arguments(self._func, args, kwargs, is_method=self._is_method)
        parts = [
            part
            for name, value in named
            for part in owned_parts(self._sources.get(name), value, name)
        ]
        before = [_copy(part.value) for part in parts]
        try:
            value = self._func(*args, **kwargs)
            return materialize_result(value, type(value))  # runs a generator now
        finally:
            for part, copy in zip(parts, before, strict=True):
                self._compare(part, copy, _copy(part.value))

    def _compare(self, part: Part, before: Any, after: Any) -> None:
        if before is _UNCOPYABLE or after is _UNCOPYABLE:
            return
        mismatch = Equality().mismatch(before, after, part.path)
        if mismatch is not None:
            texts = mismatch.path, part.owner.node, mismatch.expected, mismatch.actual
            change = Mutation(*self._node, *texts)
            with (
                suppress(OSError),
                self._file.open("a", encoding="utf-8") as file,
            ):  # another machine
                file.write(f"{json.dumps(asdict(change))}\n")


_UNCOPYABLE: Final = object()


def _copy(value: Any) -> Any:
    try:
        return copy_value(value)
    except Exception:  # noqa: BLE001 - its parts raise any exception
        return _UNCOPYABLE


def _source(argument: Any, names: Sequence[str]) -> Source:
    """The source of an argument, with the name of its node."""
    kind = type(argument)
    if kind is ResultRef or kind is ItemRef:
        return Owner(names[argument.number])
    if kind is Container:
        return tuple([_source(part, names) for part in argument.parts])
    return LITERAL

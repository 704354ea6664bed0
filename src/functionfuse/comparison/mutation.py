"""Mutation checks: find nodes that change their arguments."""

from __future__ import annotations

import copy
import functools
import inspect
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.graph import ItemRef, ResultRef
from functionfuse._graph.nodes import ATOMS, Container, Kind
from functionfuse._kernel.kernel import materialized
from functionfuse.comparison.equality import Equality

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from functionfuse._graph.graph import Graph, GraphNode

__all__ = ["Mutation", "read_mutations", "with_mutation_checks"]

#: Containers that the kernel creates for each call: a function may change them.
_FRESH: Final = frozenset({list, dict, set, tuple})


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
        self._templates = node.args, dict(node.kwargs)
        self._names = {number: names[number] for number in node.parents}

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        given = args[1:] if self._is_method else args
        held = list(self._shared_parts(given, kwargs))
        copies = [_copy(value) for _, _, value in held]
        try:
            value = self._func(*args, **kwargs)
            return materialized(value, type(value))  # runs a generator now
        finally:
            for (label, of, after), before in zip(held, copies, strict=True):
                if before is not _UNCOPYABLE:
                    self._compare(label, of, before, after)

    def _shared_parts(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[tuple[str, str, Any]]:
        """Argument parts that other nodes may share: label, name of their node, and value."""
        positional, named = self._templates
        given = [*zip(self._labels(len(args)), positional, args, strict=True)]
        given += [(name, named[name], value) for name, value in kwargs.items()]
        for name, template, argument in given:
            for label, number, value in _shared_parts(template, argument, name):
                yield label, self._names.get(number, ""), value

    def _labels(self, count: int) -> list[str]:
        """The names of the parameters for the positional arguments."""
        try:
            parameters = [*inspect.signature(self._func).parameters.values()]
        except (TypeError, ValueError):  # a builtin function
            return [f"number {number + 1}" for number in range(count)]
        labels: list[str] = []
        for parameter in parameters[self._is_method :]:
            if parameter.kind is parameter.VAR_POSITIONAL:
                rest = count - len(labels)
                labels += [f"{parameter.name}[{number}]" for number in range(rest)]
            else:
                labels.append(parameter.name)
        return labels[:count]

    def _compare(self, label: str, of: str, before: Any, after: Any) -> None:
        mismatch = Equality().mismatch(before, after, label)
        if mismatch is not None:
            node, function = self._node
            change = Mutation(node, function, mismatch.path, of, mismatch.expected, mismatch.actual)
            with (
                suppress(OSError),
                self._file.open("a", encoding="utf-8") as file,
            ):  # another machine
                file.write(f"{json.dumps(asdict(change))}\n")


_UNCOPYABLE: Final = object()


def _copy(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - its parts raise any exception
        return _UNCOPYABLE


def _shared_parts(template: Any, value: Any, label: str) -> Iterator[tuple[str, int, Any]]:
    """Mutable parts of an argument that other nodes may share.

    With the number of the node whose value each is; -1 for a value of the user.
    """
    kind = type(template)
    if kind is Container:
        pieces = zip(template.parts, _pieces(value, label), strict=False)
        for part, (name, piece) in pieces:
            yield from _shared_parts(part, piece, name)
    elif kind not in _FRESH and type(value) not in ATOMS:
        yield label, template.number if kind is ResultRef or kind is ItemRef else -1, value


def _pieces(value: Any, label: str) -> Iterator[tuple[str, Any]]:
    """The parts of a container, in the order of its template."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield f"a key of {label}", key
            yield f"{label}[{key!r}]", part
    elif isinstance(value, list | tuple):
        yield from ((f"{label}[{number}]", part) for number, part in enumerate(value))
    elif is_dataclass(value):
        names = [field.name for field in fields(value) if hasattr(value, field.name)]
        yield from ((f"{label}.{name}", getattr(value, name)) for name in names)

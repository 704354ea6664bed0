"""Hints at random generators that nodes share: among their arguments, and among the globals of their functions."""

from __future__ import annotations

from itertools import chain
from types import FunctionType
from typing import TYPE_CHECKING, Any

from functionfuse._common.generator_search import generators_in
from functionfuse._common.global_references import is_generator
from functionfuse._graph.nodes import ATOMS, Container, Kind, containers_in
from functionfuse._graph.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functionfuse._graph.graph import Graph, GraphNode

__all__ = ["generator_hints"]


def generator_hints(graph: Graph) -> dict[str, str]:
    """Return a hint for each node that takes a random generator, or uses one of its module, by name."""
    of_function: dict[int, str | None] = {}
    hints: dict[str, str] = {}
    for node in graph.order:
        name = _argument_with_generator(node)
        if name is not None:
            hints[node.name] = (
                f"argument {name} is a random generator: its state is copied to every node; use RNG"
            )
            continue
        if id(node.func) not in of_function:
            of_function[id(node.func)] = _global_generator(node.func)
        variable = of_function[id(node.func)]
        if variable is not None:
            hints[node.name] = (
                f"global {variable} is a random generator: its numbers depend on "
                "what runs earlier in the process; use RNG"
            )
    return hints


def _argument_with_generator(node: GraphNode) -> str | None:
    """The name of the first argument that is or contains a generator."""
    if ATOMS.issuperset(map(type, node.args)) and not node.kwargs:
        return None
    for number, value in enumerate(node.args):
        if _has_generator(value):
            return Signature(node.func, skip=int(node.kind is Kind.METHOD)).argument(number)
    return next((name for name, value in node.kwargs.items() if _has_generator(value)), None)


def _has_generator(value: Any) -> bool:
    parts = chain([value], *[each.parts for each in containers_in([value])])
    values = [part for part in parts if type(part) is not Container and type(part) not in ATOMS]
    return any(True for _ in generators_in(values))


def _global_generator(func: Callable[..., Any]) -> str | None:
    """The name of the first generator among the globals and closure variables that a function uses."""
    return next((name for name, value in _variables(func) if is_generator(value)), None)


def _variables(func: Any) -> Iterator[tuple[str, Any]]:
    for function in _functions_of(func):
        code = function.__code__
        used = function.__globals__
        yield from ((name, used[name]) for name in code.co_names if name in used)
        cells = function.__closure__ or ()
        for name, cell in zip(code.co_freevars, cells, strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:  # empty
                continue


def _functions_of(func: Any) -> Iterator[FunctionType]:
    """A function and those that its decorators wrap, or the functions in a class."""
    members = vars(func).values() if isinstance(func, type) else ()
    for each in chain([func], members):
        function = each
        while isinstance(function, FunctionType):
            yield function
            function = getattr(function, "__wrapped__", None)

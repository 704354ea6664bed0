"""Parameters of task runs: results in place of references, and random generators that each attempt gets new."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from functionfuse._graph.nodes import Container, containers_in
from functionfuse._graph.seeds import SeedSource
from functionfuse._kernel.binding import resolve_argument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Lookup = Callable[[Any], Any]

__all__ = ["build_generators", "parameters_of"]


def parameters_of(
    arguments: Mapping[str, Any], signature: inspect.Signature, lookup: Lookup
) -> dict[str, Any]:
    """Return the arguments of a task run, given those of its node by the names of the function's parameters.

    An argument that holds a random generator stays a container: a generator is another one after its first use.
    """
    memo: dict[Any, Any] = {}
    parameters: dict[str, Any] = {}
    for name, argument in arguments.items():
        if not _holds_generator(argument):
            parameters[name] = resolve_argument(argument, lookup, memo)
        elif signature.parameters[name].kind in {
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        }:
            parts = [_deferred(part, lookup, memo) for part in argument.parts]
            parameters[name] = argument.build(parts)
        else:
            parameters[name] = _deferred(argument, lookup, memo)
    return parameters


def _holds_generator(argument: Any) -> bool:
    builds = [each.build for each in containers_in([argument])]
    return any(type(build) is SeedSource and build.name == "RNG" for build in builds)


def _deferred(argument: Any, lookup: Lookup, memo: dict[Any, Any]) -> Any:
    """Return an argument with results in place of references, as a container if a generator is in it."""
    if not _holds_generator(argument):
        return resolve_argument(argument, lookup, memo)
    key = "deferred", id(argument)
    if key not in memo:
        parts = [_deferred(part, lookup, memo) for part in argument.parts]
        memo[key] = Container(argument.build, tuple(parts))
    return memo[key]


def build_generators(
    args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return the arguments of one attempt, with the containers that hold a generator built."""
    if Container not in set(map(type, (*args, *kwargs.values()))):
        return args, kwargs
    memo: dict[Any, Any] = {}
    return (
        tuple([_built(value, memo) for value in args]),
        {name: _built(value, memo) for name, value in kwargs.items()},
    )


def _built(value: Any, memo: dict[Any, Any]) -> Any:
    return resolve_argument(value, _no_lookup, memo) if type(value) is Container else value


def _no_lookup(_: Any) -> Any:
    raise AssertionError  # references were resolved

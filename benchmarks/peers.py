"""The shapes as users of other libraries write them, to be run in this process.

Only building and running is timed, as it is for us; the functions are there before.
Hamilton and pipefunc know nodes by the names of functions and of their parameters,
so the calls of a shape are written down, and become functions of such names.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from measuring import available
from shapes import SHAPES, add, last, unchanged

if TYPE_CHECKING:
    from collections.abc import Callable

    Maker = Callable[[str, int], Callable[[], Any]]

RECURSION: Final = 1_000_000  # they walk through a graph by recursion
GRAPHS: Final = ("chain", "fan", "star", "grid")


class _Written:
    """The calls of a shape, as functions of no other arguments than results."""

    def __init__(self, shape: str, size: int) -> None:
        self.functions: list[Callable[..., Any]] = []
        SHAPES[shape](self._wrap, size)

    def _wrap(self, function: Callable[..., Any]) -> Callable[..., str]:
        def call(*given: Any) -> str:
            name = f"node_{len(self.functions)}"
            self.functions.append(_named(name, function, given))
            return name

        return call


def _named(name: str, function: Callable[..., Any], given: tuple[Any, ...]) -> Callable[..., Any]:
    needs = [each for value in given for each in _names(value)]

    def named(**results: Any) -> Any:
        return function(*[_resolved(value, results) for value in given])

    named.__name__ = named.__qualname__ = name
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(each, kind, annotation=Any) for each in dict.fromkeys(needs)]
    named.__signature__ = inspect.Signature(parameters, return_annotation=Any)  # type: ignore[attr-defined]
    named.__annotations__ = dict.fromkeys([*needs, "return"], Any)
    return named


def _names(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for part in value for name in _names(part)]
    return [value] if isinstance(value, str) else []


def _resolved(value: Any, results: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_resolved(part, results) for part in value]
    return results[value] if isinstance(value, str) else value


def plain(shape: str, size: int) -> Callable[[], Any]:
    """Calls, without any library."""
    return lambda: SHAPES[shape](unchanged, size)


def dask_delayed(shape: str, size: int) -> Callable[[], Any]:
    """`dask.delayed` in this thread."""
    from dask.delayed import delayed

    return lambda: SHAPES[shape](delayed, size).compute(scheduler="synchronous")


def hamilton(shape: str, size: int) -> Callable[[], Any]:
    """A driver for a module with a function for each node."""
    from hamilton import ad_hoc_utils, driver

    functions = _Written(shape, size).functions
    module, wanted = ad_hoc_utils.create_temporary_module(*functions), functions[-1].__name__
    sys.setrecursionlimit(RECURSION)
    return lambda: driver.Builder().with_modules(module).build().execute([wanted])[wanted]


def pipefunc(shape: str, size: int) -> Callable[[], Any]:
    """A pipeline with a function for each node."""
    from pipefunc import PipeFunc, Pipeline

    functions = _Written(shape, size).functions
    sys.setrecursionlimit(RECURSION)

    def run() -> Any:
        made = [PipeFunc(function, function.__name__) for function in functions]
        return Pipeline(made).run(functions[-1].__name__, kwargs={})

    return run


def joblib(shape: str, size: int) -> Callable[[], Any]:
    """Independent calls, after the source that they share."""
    from joblib import Parallel, delayed

    def run() -> Any:
        source = [add(0, 1)] if shape == "star" else []
        count = size - 1 - len(source)
        pairs = ((*source, i) if source else (i, 1) for i in range(count))
        return last(Parallel(n_jobs=1)(delayed(add)(*pair) for pair in pairs))

    return run


@dataclass(frozen=True, slots=True)
class Peer:
    """Another way to run a shape."""

    name: str
    make: Maker
    shapes: tuple[str, ...]  # that it can do
    most: int  # nodes that it does in some seconds
    library: str = ""


PEERS: Final = (
    Peer("plain calls", plain, tuple(SHAPES), 1_000_000),
    Peer("dask.delayed", dask_delayed, (*GRAPHS, "items"), 1_000, "dask"),
    Peer("Hamilton", hamilton, GRAPHS, 1_000, "hamilton"),
    Peer("pipefunc", pipefunc, GRAPHS, 100, "pipefunc"),
    Peer("joblib", joblib, ("fan", "star"), 100_000, "joblib"),
)


def installed() -> list[Peer]:
    """The peers that can be imported."""
    return [peer for peer in PEERS if not peer.library or available(peer.library)]

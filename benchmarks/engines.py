"""Graphs on Ray and Dask beside the same graph in the engine's own words: cheap nodes, and large values.

And how often a large literal is pickled that many nodes take.
"""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Final

from clusters import installed, running
from measuring import OURS, Options, Row, Target, checked, in_turns, main, timed
from memory import large_chain
from shapes import calls, chain, unchanged

from functionfuse import workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from shapes import Wrap

    Shape = Callable[[Wrap, int], list[Any]]
    Ways = Mapping[str, Callable[[Any, Shape, int], list[Any]]]

SIZE: Final = 1_000
LARGE: Final = 50  # values ...
LARGE_MEGABYTES: Final = 20  # ... each of this size
CONSUMERS: Final = 20
MEGABYTES: Final = 8
MILLI: Final = 1e3
BY_HAND: Final = "by hand"


def chained(wrap: Wrap, size: int) -> list[Any]:
    """A chain, whose end is the one result."""
    return [chain(wrap, size)]


SHAPES: Final[dict[str, Shape]] = {"chain": chained, "fan": calls}


def chained_large(wrap: Wrap, size: int) -> list[Any]:
    """A chain of large arrays, and the size of the last."""
    return [large_chain(wrap, size, LARGE_MEGABYTES * 2**17)]


def by_hand(cluster: Any, shape: Shape, size: int) -> list[Any]:
    """A shape in the engine's words."""
    found: list[Any] = cluster.results(shape(cluster.wrap, size))
    return found


def by_hand_copied(cluster: Any, shape: Shape, size: int) -> list[Any]:
    """The same, where each function takes arrays of its own, to which it may write."""
    found: list[Any] = cluster.results(shape(lambda f: cluster.wrap(copying(f)), size))
    return found


def ours(cluster: Any, shape: Shape, size: int, **given: Any) -> list[Any]:
    """A shape as a workflow."""
    found = cluster.ours(*shape(workflow, size), **given).run()
    return found if isinstance(found, list) else [found]


WAYS: Final[Ways] = {OURS: ours, BY_HAND: by_hand}
#: Ray hands out arrays that nobody can write to.
READ_ONLY: Final[Ways] = {OURS: partial(ours, read_only=True), BY_HAND: by_hand}
WRITEABLE: Final[Ways] = {OURS: ours, f"{BY_HAND}, copied": by_hand_copied, BY_HAND: by_hand}


def copying(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which copies the arrays that it takes."""

    @wraps(function)
    def call(*given: Any) -> Any:
        return function(*[each.copy() if hasattr(each, "copy") else each for each in given])

    return call


def times(cluster: Any, options: Options) -> Iterator[Row]:
    """A row for each shape, and for large values."""
    for name, shape in SHAPES.items():
        yield side_by_side(cluster, options, WAYS, f"{name} of", shape, SIZE)
    name = f"chain with {LARGE_MEGABYTES} MB each of"
    if cluster.name != "ray":
        yield side_by_side(cluster, options, WAYS, name, chained_large, LARGE)
        return
    yield side_by_side(cluster, options, READ_ONLY, f"read-only {name}", chained_large, LARGE)
    yield side_by_side(cluster, options, WRITEABLE, name, chained_large, LARGE)


def side_by_side(  # noqa: PLR0913 - what a row is made of
    cluster: Any, options: Options, ways: Ways, name: str, shape: Shape, full: int
) -> Row:
    """The time that a node of a graph takes."""
    size = options.size(full)
    expected = shape(unchanged, size)
    contestants = {
        label: timed(checked(partial(way, cluster, shape, size), expected), MILLI / size)
        for label, way in ways.items()
    }
    taken = in_turns(contestants, options.repeats)
    target = Target(1.15, list(ways)[1], "ratio")
    return Row.of(cluster.name, f"{name} {size:,}", "ms/node", taken, target)


class Literal:
    """A large value that counts how often it is pickled."""

    def __init__(self, data: bytes) -> None:
        """Not pickled so far."""
        self.data = data
        self.pickled = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Count, and go the way of every object."""
        self.pickled += 1
        return type(self), (self.data,)


def length(literal: Literal, _: int) -> int:
    """Need all of a literal."""
    return len(literal.data)


def pickles(run: Callable[[Shape, int], list[Any]]) -> list[float]:
    """How often a literal is pickled on its way to its consumers."""
    literal = Literal(bytes(MEGABYTES * 2**20))

    def consumers(wrap: Wrap, size: int) -> list[Any]:
        call = wrap(length)
        return [call(literal, number) for number in range(size)]

    assert [len(literal.data)] * CONSUMERS == run(consumers, CONSUMERS)
    return [float(literal.pickled)]


def literals(name: str, ways: Mapping[str, Callable[[Shape, int], list[Any]]]) -> Row:
    """A literal with many consumers."""
    what = f"literal of {MEGABYTES} MB for {CONSUMERS} nodes"
    taken = {label: pickles(way) for label, way in ways.items()}
    return Row.of(name, what, "pickles", taken, Target(1))


def measure(options: Options) -> Iterator[Row]:
    """All rows of each engine."""
    for name in installed():
        with running(name) as cluster:
            yield from times(cluster, options)
            yield literals(name, {label: partial(way, cluster) for label, way in WAYS.items()})


if __name__ == "__main__":
    main(measure, __doc__)

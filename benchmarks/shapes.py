"""Graphs of trivial nodes, each written once for all ways to make calls.

`wrap` says what becomes of a function or class: itself, a node of ours, a task of an engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Wrap = Callable[[Any], Callable[..., Any]]
    Shape = Callable[[Wrap, int], Any]

WIDTH: Final = 20  # of the grid


def add(first: int, second: int) -> int:
    """Do next to nothing."""
    return first + second


def follow(first: int, second: int, third: int) -> int:
    """Do next to nothing with three."""
    return max(first, second, third) + 1


def last(values: list[Any]) -> Any:
    """Take the last of many."""
    return values[-1]


def both(value: int) -> tuple[int, int]:
    """Give two values."""
    return value, value + 1


class Counter:
    """Something with a state."""

    def __init__(self, start: int) -> None:
        """Start to count."""
        self.count = start

    def add(self, number: int) -> int:
        """Count on."""
        self.count += number
        return self.count


def unchanged(target: Any) -> Any:
    """Calls as Python makes them."""
    return target


def calls(wrap: Wrap, size: int) -> list[Any]:
    """Independent nodes."""
    function = wrap(add)
    return [function(index, 1) for index in range(size)]


def chain(wrap: Wrap, size: int) -> Any:
    """Each node takes the one before it."""
    function, value = wrap(add), 0
    for _ in range(size):
        value = function(value, 1)
    return value


def fan(wrap: Wrap, size: int) -> Any:
    """Independent nodes into one."""
    return wrap(last)(calls(wrap, size - 1))


def star(wrap: Wrap, size: int) -> Any:
    """One source, many readers, one collector."""
    function = wrap(add)
    source = function(0, 1)
    return wrap(last)([function(source, index) for index in range(size - 2)])


def grid(wrap: Wrap, size: int) -> Any:
    """Layers of 20; each node takes three of the layer before."""
    function, layer = wrap(follow), [0] * WIDTH
    for _ in range(size // WIDTH):
        layer = [function(layer[at - 2], layer[at - 1], layer[at]) for at in range(WIDTH)]
    return wrap(last)(layer)


def stateful(wrap: Wrap, size: int) -> Any:
    """Calls of one instance, one after the other."""
    counter: Any = wrap(Counter)(0)
    value = None
    for _ in range(size - 1):
        value = counter.add(1)
    return value


def items(wrap: Wrap, size: int) -> Any:
    """Each node takes an item of the one before it."""
    function = wrap(both)
    found = function(0)
    for _ in range(size - 1):
        found = function(found[1])
    return found


SHAPES: Final[dict[str, Shape]] = {
    "chain": chain,
    "fan": fan,
    "star": star,
    "grid": grid,
    "stateful chain": stateful,
    "items": items,
}

"""Decorated functions and classes of the tests of nodes."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

__all__ = [
    "Accumulator",
    "Options",
    "Pair",
    "PlainAccumulator",
    "Settings",
    "add",
    "free",
    "run",
    "same",
    "strict",
]


@workflow
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@workflow
def same(value: Any) -> Any:
    """Give back what was given."""
    return value


@workflow
def strict(a: int, /, b: int, c: int = 0, *, d: int, e: int = 0) -> tuple[int, ...]:
    """Take one parameter of each kind, and no more."""
    return a, b, c, d, e


@workflow
def free(*numbers: int, **named: int) -> tuple[tuple[int, ...], dict[str, int]]:
    """Take everything."""
    return numbers, named


class Base:
    """The base class of a decorated class."""

    def __init__(self, start: int) -> None:
        """Begin somewhere."""
        self.total = start

    def add(self, number: int) -> int:
        """Go on."""
        self.total += number
        return self.total


@workflow
class Accumulator(Base):
    """Adds up."""

    unit = "m"

    def double(self, *, times: int = 1) -> int:
        """Go on by as much as there is."""
        self.total *= 2**times
        return self.total

    def __call__(self, number: int) -> int:
        """Look at it."""
        return self.total * number

    @property
    def half(self) -> int:
        """Be an attribute, not a method."""
        return self.total // 2

    @staticmethod
    def zero() -> int:
        """Work without an instance."""
        return 0

    @classmethod
    def empty(cls) -> Any:
        """Work without an instance."""
        return cls(0)


#: For type checkers, which do not apply decorators of classes, `Accumulator` is the plain class.
PlainAccumulator: Any = Accumulator.__wrapped__  # type: ignore[attr-defined]


class Pair(NamedTuple):
    """Two values with names."""

    left: Any
    right: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Values with names, in an object that cannot be changed."""

    rate: Any
    layers: Any = ()
    derived: Any = dataclasses.field(init=False, default=None)


@dataclasses.dataclass
class Options:
    """Values with names, in an object that can be changed."""

    rate: Any


def run(*targets: Any) -> Any:
    """Give the results of the targets."""
    return LocalWorkflow(*targets, workflow_name="nodes").run()

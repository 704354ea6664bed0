"""A small study, built with edits: what nodes are called, what they compute, and a log of what ran."""

from __future__ import annotations

from typing import Any

from functionfuse import workflow

#: The names of functions that ran, with their arguments, in this order.
calls: list[str] = []


def ran(name: str, *args: Any) -> None:
    """Note that a function runs."""
    calls.append(f"{name}{args}")


@workflow
def load(count: int, start: int = 0) -> list[int]:
    """Data."""
    ran("load", count, start)
    return list(range(start, start + count))


@workflow
def parts(data: list[int]) -> dict[str, Any]:
    """A result with items."""
    ran("parts")
    return {"even": data[::2], "odd": data[1::2]}


@workflow
def fit(data: Any, C: float = 1.0, seed: int | None = None) -> float:
    """A model."""
    ran("fit", C)
    return sum(data) * C + (seed or 0)


@workflow
def train(data: Any, C: float = 1.0) -> float:
    """Another model."""
    ran("train", C)
    return -sum(data) * C


@workflow
def sign(data: list[int]) -> int:
    """The same value for much data."""
    ran("sign")
    return 1 if sum(data) >= 0 else -1


@workflow
def table(rows: Any, **options: Any) -> list[Any]:
    """What all rows give, with the options in their order."""
    ran("table")
    return [repr(rows), repr(options)]


@workflow
def subtract(left: Any, right: Any) -> Any:
    """Not symmetric."""
    ran("subtract")
    return left - right


@workflow
class Model:
    """An instance with calls."""

    def __init__(self, scale: float = 1.0) -> None:
        """Begin."""
        ran("Model", scale)
        self.scale = scale
        self.seen: list[float] = []

    def see(self, value: float) -> int:
        """Change the instance."""
        ran("see", value)
        self.seen.append(value * self.scale)
        return len(self.seen)

    def total(self) -> float:
        """Read the instance."""
        ran("total")
        return sum(self.seen)

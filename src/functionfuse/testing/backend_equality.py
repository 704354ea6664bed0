"""Assertion that a graph has the same results on several backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functionfuse.comparison import compare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["assert_same_everywhere"]


def assert_same_everywhere(
    *targets: Any, backends: Sequence[Callable[..., Any]], rtol: float = 0.0, atol: float = 0.0
) -> None:
    """Fail if a node differs on two backends; see `functionfuse.compare`.

    Raises:
        DifferentResults: A node differs; the exception is an AssertionError too.
    """
    __tracebackhide__ = True
    compare(*targets, backends=backends, rtol=rtol, atol=atol).raise_if_different()

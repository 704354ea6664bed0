"""Options by query: nodes get them by a regular expression over their names."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from functionfuse._common.validation import closest_names
from functionfuse.errors import NoMatchWarning, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from functionfuse._graph.graph import Graph

__all__ = ["Options", "Plugin", "compile_pattern", "for_run", "select"]


@runtime_checkable
class Plugin(Protocol):
    """Something that prepares the process in which a node runs."""

    def local_initialize(self) -> object:
        """Called where the workflow runs, once for every node of the graph, in graph order."""

    def remote_initialize(self) -> Callable[[], object] | None:
        """Give what the worker calls before the node's function, if anything; it travels there."""


class Options:
    """What the nodes of one workflow were given; a later value replaces an earlier one of its kind."""

    def __init__(self) -> None:  # noqa: D107
        self._values: dict[str, dict[str, Any]] = {}

    def set(self, kind: str, names: Iterable[str], value: Any) -> None:
        """Give some nodes a value."""
        self._values.setdefault(kind, {}).update(dict.fromkeys(names, value))

    def of(self, kind: str) -> Mapping[str, Any]:
        """The nodes that have an option of this kind, with its value."""
        return self._values.get(kind, {})


def for_run(plugin: Plugin) -> Plugin:
    """The plugin that one run uses: a fresh copy where the plugin offers it by `for_run()`."""
    fresh: Callable[[], Plugin] | None = getattr(plugin, "for_run", None)
    return fresh() if fresh else plugin


def compile_pattern(pattern: str | None) -> re.Pattern[str] | None:
    """A pattern over node names; None is all.

    Raises:
        OptionError: It is no regular expression.
    """
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
        compiled.fullmatch("")  # one of bytes cannot
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        message = f"{pattern!r} is no regular expression over node names: {error}"
        raise OptionError(message) from error
    return compiled


def select(graph: Graph, pattern: str | None, *, stacklevel: int) -> list[str]:
    """The names of a graph that a pattern matches in full, with a warning if there are none.

    Args:
        graph: The graph.
        pattern: A regular expression; None is all.
        stacklevel: How many frames above this one the user's line is.
    """
    names = graph.select(compile_pattern(pattern))
    if not names:
        close = closest_names(str(pattern), graph.nodes)
        hint = f"; the nearest names are {', '.join(map(repr, close))}" if close else ""
        message = f"no node's name matches {pattern!r} in full{hint}"
        warnings.warn(message, NoMatchWarning, stacklevel=stacklevel + 1)
    return names

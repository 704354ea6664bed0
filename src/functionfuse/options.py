"""Node options, selected by regular expressions over node names."""

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
    """Protocol of objects that prepare the process in which a node runs."""

    def local_initialize(self) -> object:
        """Called where the workflow runs, once for every node of the graph, in graph order."""

    def remote_initialize(self) -> Callable[[], object] | None:
        """Return what the worker calls before the node's function, or None; it must be picklable."""


class Options:
    """The options of the nodes of one workflow; a later value of a kind replaces an earlier one."""

    def __init__(self) -> None:  # noqa: D107
        self._values: dict[str, dict[str, Any]] = {}

    def set(self, kind: str, names: Iterable[str], value: Any) -> None:
        """Set an option of some nodes."""
        self._values.setdefault(kind, {}).update(dict.fromkeys(names, value))

    def of(self, kind: str) -> Mapping[str, Any]:
        """The values of this kind of option, by node name."""
        return self._values.get(kind, {})


def for_run(plugin: Plugin) -> Plugin:
    """The plugin for one run: a fresh copy if the plugin has `for_run()`."""
    fresh: Callable[[], Plugin] | None = getattr(plugin, "for_run", None)
    return fresh() if fresh else plugin


def compile_pattern(pattern: str | None) -> re.Pattern[str] | None:
    """Compile a pattern over node names; None matches all.

    Raises:
        OptionError: The pattern is not a valid regular expression.
    """
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
        compiled.fullmatch("")  # a pattern of bytes does not match str
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        message = f"invalid regular expression over node names: {pattern!r}: {error}"
        raise OptionError(message) from error
    return compiled


def select(graph: Graph, pattern: str | None, *, stacklevel: int) -> list[str]:
    """The names of nodes that match a pattern in full; warns if there are none.

    Args:
        graph: The graph.
        pattern: A regular expression; None matches all.
        stacklevel: The number of frames between this one and the user's line.
    """
    names = graph.select(compile_pattern(pattern))
    if not names:
        close = closest_names(str(pattern), graph.nodes)
        hint = f"; the nearest names are {', '.join(map(repr, close))}" if close else ""
        message = f"no node's name matches {pattern!r} in full{hint}"
        warnings.warn(message, NoMatchWarning, stacklevel=stacklevel + 1)
    return names

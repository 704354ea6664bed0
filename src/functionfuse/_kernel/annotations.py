"""Notes on users' exceptions: the node and the item that raised them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.nodes import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functionfuse._graph.graph import GraphNode, ItemRef
    from functionfuse._graph.nodes import Node

__all__ = ["add_failures_note", "add_item_note", "add_node_note", "add_note", "name_item_note"]

_MAX_FAILURES: Final = 20  # that a note shows
_MAX_TEXT: Final = 300  # characters of the message of each


def add_node_note(error: BaseException, node: GraphNode, workflow: str) -> None:
    """Add the node that raised an exception as a note, once."""
    note = f"in node {node.name!r} ({node.function} at {node.location}) of workflow {workflow!r}"
    if note not in getattr(error, "__notes__", ()):
        add_note(error, note)
        if _misses_terminal(error):
            add_note(error, _NO_TERMINAL)


_NO_TERMINAL: Final = (
    "a debugger and input() need a terminal, and the process of this node has none: "
    "to debug the node, run it in LocalWorkflow without workers, in a program that has a terminal"
)


def _misses_terminal(error: BaseException) -> bool:
    """Tell whether a debugger, or `input`, has read the end of a standard input that is not a terminal."""
    if type(error).__name__ != "BdbQuit" and not (
        isinstance(error, EOFError) and "reading a line" in str(error)
    ):
        return False
    try:
        return not sys.stdin.isatty()
    except (AttributeError, ValueError):  # none, or a closed one
        return True


def add_failures_note(error: BaseException, others: Sequence[tuple[str, BaseException]]) -> None:
    """Add the other failures of a run as a note: their nodes, types and messages."""
    if not others:
        return
    lines = [f"  {name!r}: {_describe(other)}" for name, other in others[:_MAX_FAILURES]]
    if len(others) > _MAX_FAILURES:
        lines.append(f"  and {len(others) - _MAX_FAILURES} more, which the report names")
    add_note(error, "\n".join(["other nodes failed as well:", *lines]))


def _describe(error: BaseException) -> str:
    """The type and the start of the message of an exception, also if its `__str__` raises."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        text = "(its __str__ raises)"
    shown = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
    return f"{type(error).__qualname__}: {shown}" if shown else type(error).__qualname__


def add_item_note(
    error: BaseException, ref: ItemRef | Item, path: tuple[Any, ...], kind: type
) -> None:
    """Add the item that could not be resolved as a note; the name of a `Node` comes later, by `name_item_note`."""
    item = "".join(f"[{key!r}]" for key in path) + f" of a {kind.__qualname__}"
    if type(ref) is Item:
        error.__dict__[_UNNAMED_ITEM] = ref.node, item
    else:
        add_note(error, f"taking item {ref.node}{item}")


def name_item_note(error: BaseException, name_of: Callable[[Node[Any]], str]) -> None:
    """Add the note on an item of a `Node`, if there is one, now that the node has a name."""
    node, item = error.__dict__.pop(_UNNAMED_ITEM, (None, ""))
    if node is not None:
        add_note(error, f"taking item {name_of(node)}{item}")


#: The attribute of an exception that keeps its item until the node's name is known.
_UNNAMED_ITEM: Final = "__functionfuse_unnamed_item__"


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception, also if its attributes cannot be set, as in a frozen dataclass."""
    error.__dict__.setdefault("__notes__", []).append(note)

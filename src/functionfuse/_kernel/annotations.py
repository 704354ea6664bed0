"""Notes on users' exceptions: the node and the item that raised them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.nodes import Item

if TYPE_CHECKING:
    from collections.abc import Callable

    from functionfuse._graph.graph import GraphNode, ItemRef
    from functionfuse._graph.nodes import Node

__all__ = ["add_item_note", "add_node_note", "add_note", "name_item_note"]


def add_node_note(error: BaseException, node: GraphNode, workflow: str) -> None:
    """Add the node that raised an exception as a note, once."""
    note = f"in node {node.name!r} ({node.function} at {node.location}) of workflow {workflow!r}"
    if note not in getattr(error, "__notes__", ()):
        add_note(error, note)


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

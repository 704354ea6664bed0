"""What is written on exceptions that users raise: which node they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.nodes import Item

if TYPE_CHECKING:
    from collections.abc import Callable

    from functionfuse._graph.graph import Ref, Step
    from functionfuse._graph.nodes import Node

__all__ = ["add_note", "annotate", "name_item", "note_item"]


def annotate(error: BaseException, step: Step, workflow: str) -> None:
    """Say on an exception which node it comes from, once."""
    note = f"in node {step.name!r} ({step.function} at {step.place}) of workflow {workflow!r}"
    if note not in getattr(error, "__notes__", ()):
        add_note(error, note)


def note_item(error: BaseException, ref: Ref | Item, path: tuple[Any, ...], kind: type) -> None:
    """Say on an exception which item it was that could not be taken; of a node, see `name_item`."""
    item = "".join(f"[{key!r}]" for key in path) + f" of a {kind.__qualname__}"
    if type(ref) is Item:
        error.__dict__[_UNNAMED] = ref.node, item
    else:
        add_note(error, f"taking item {ref.step}{item}")


def name_item(error: BaseException, name_of: Callable[[Node[Any]], str]) -> None:
    """Write the note on an item that could not be taken, if there was one, now that its node has a name."""
    node, item = error.__dict__.pop(_UNNAMED, (None, ""))
    if node is not None:
        add_note(error, f"taking item {name_of(node)}{item}")


#: The attribute of an exception that says which item it comes from, until the node's name is known.
_UNNAMED: Final = "__functionfuse_unnamed_item__"


def add_note(error: BaseException, note: str) -> None:
    """Write a note on an exception, also on one whose attributes cannot be set: a frozen dataclass."""
    error.__dict__.setdefault("__notes__", []).append(note)

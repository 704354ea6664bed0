"""Node scopes: collect the nodes that are made while a node runs.

A decorated function that is called inside a running node makes a node, which never runs
unless the running node passes it to a workflow and runs that.
"""

from __future__ import annotations

import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Self

from functionfuse.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextvars import Token
    from types import FrameType

__all__ = ["NodeScope", "note_node", "open_scopes", "release_nodes"]


class NodeScope:
    """Context manager: the nodes that are made in its block and context, and that no workflow has run."""

    # not by `contextlib`, which changes the exceptions that pass: users' may be frozen
    __slots__ = ("_outermost", "_token", "alone", "made")

    def __init__(self) -> None:
        self.made: dict[int, Any] = {}  # by serial number

    def __enter__(self) -> Self:
        self._outermost: FrameType | None = sys._getframe(1)
        # if True, a thread without our context was started in this scope
        self.alone = threading.active_count() == 1
        open_scopes[self] = None
        self._token: Token[NodeScope | None] = _scope.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _scope.reset(self._token)
        open_scopes.pop(self, None)
        self._outermost = None  # it refers to the scope

    def add(self, node: Any, frame: FrameType) -> None:
        """Add a node, unless a module makes it that is being imported."""
        caller: FrameType | None = frame
        while caller is not None and caller is not self._outermost:
            if caller.f_code.co_name == "<module>":
                return
            caller = caller.f_back
        self.made[node.serial] = node

    def release(self, nodes: Iterable[Any]) -> None:
        """Forget nodes, since a workflow runs them."""
        if self.made:
            for node in nodes:
                self.made.pop(node.serial, None)

    def clear(self) -> None:
        """Forget all nodes."""
        self.made.clear()

    def check(self) -> None:
        """Raise if a node was made that no workflow has run.

        Raises:
            GraphError: Names the nodes, their lines, and the calls to write instead.
        """
        if not self.made:
            return
        nodes = [*self.made.values()]
        self.clear()
        shown = ", ".join(map(repr, nodes[:_SHOWN]))
        if len(nodes) > _SHOWN:
            shown += f" and {len(nodes) - _SHOWN} more"
        calls = dict.fromkeys(f"`{node._plain_call()}`" for node in nodes)
        message = (
            f"calls of decorated functions inside a running node made nodes that never run: {shown}. "
            f"Call the plain functions there: {', '.join([*calls][:_SHOWN])}; "
            "or pass the nodes to a workflow inside the node, and run that"
        )
        raise GraphError(message)


_SHOWN: Final = 3  # nodes in a message

#: The scopes of this process that are open, in order: while it is empty, recording a call costs one lookup.
open_scopes: Final[dict[NodeScope, None]] = {}
_scope: Final[ContextVar[NodeScope | None]] = ContextVar("functionfuse_node_scope", default=None)


def note_node(node: Any, frame: FrameType) -> None:
    """Add a new node to the scope in which it is made, if there is one."""
    scope = _scope.get() or next((each for each in reversed(open_scopes) if each.alone), None)
    if scope in open_scopes:  # a task that outlives its node has a closed scope
        scope.add(node, frame)


def release_nodes(nodes: Iterable[Any]) -> None:
    """Forget nodes in all scopes of this process, since a workflow runs them."""
    for scope in tuple(open_scopes):
        scope.release(nodes)

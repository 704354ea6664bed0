"""Pickled nodes: in the process where a node exists, its pickle is the node; elsewhere it is one copy."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakValueDictionary

from functionfuse._common.process_identity import this_process

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FunctionPickle", "Identity", "identity_of", "known_node", "register_copy"]

Identity = tuple[str, int]  # the process that made a node, and the node's serial number there

#: Nodes that were pickled or unpickled in this process.
_nodes: Final[WeakValueDictionary[Identity, Any]] = WeakValueDictionary()
#: The identities of nodes that were unpickled.
_copies: Final[WeakKeyDictionary[Any, Identity]] = WeakKeyDictionary()


def identity_of(node: Any) -> Identity:
    """Return what identifies a node among all processes."""
    identity = _copies.get(node) or (this_process(), node.serial)
    _nodes[identity] = node
    return identity


def known_node(identity: Identity) -> Any | None:
    """Return the node or the copy of it that exists in this process."""
    return _nodes.get(identity)


def register_copy(node: Any, identity: Identity) -> None:
    """Remember the copy of a node that does not exist in this process."""
    _nodes[identity], _copies[node] = node, identity


class FunctionPickle:
    """Pickles the function of a node, also with plain `pickle`, which finds the decorated one under its name."""

    __slots__ = ("func",)

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def __reduce__(self) -> tuple[Any, ...]:
        from functionfuse._common.pickler import dumps  # cloudpickle: few pickle nodes themselves

        return _load_function, (dumps(self.func),)


@lru_cache(maxsize=256)
def _load_function(pickled: bytes) -> FunctionPickle:
    import pickle

    return FunctionPickle(pickle.loads(pickled))

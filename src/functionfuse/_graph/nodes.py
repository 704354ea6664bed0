"""Nodes, and items of their results: recorded calls of decorated functions.

This module builds values.
It knows nothing of runs, engines or storage, and nothing about them is ever kept on a node.
"""

from __future__ import annotations

import itertools
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from functionfuse._graph.node_pickles import (
    FunctionPickle,
    Identity,
    identity_of,
    known_node,
    register_copy,
)
from functionfuse._graph.placeholder import ERROR_NAME, Placeholder, T_co
from functionfuse._graph.scopes import note_node, open_scopes
from functionfuse._graph.signature import base_name
from functionfuse.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import CodeType, FrameType

__all__ = ["ATOMS", "Container", "Item", "Kind", "Node", "Slot", "containers_in"]

_serial: Final = itertools.count()

#: Types whose values are immutable and hold no other objects.
ATOMS: Final = frozenset({int, float, str, bytes, bool, complex, type(None)})


class Kind(Enum):
    """The kind of a call."""

    FUNCTION = "function"
    CONSTRUCT = "construct"
    METHOD = "method"


#: A part of a method's outcome: its result, or the instance after the call; or both.
#: Strings, here and in a run's records: the garbage collector does not track them.
Slot = Literal["value", "state", "outcome"]


class Node(Placeholder[T_co]):
    """A recorded call of a decorated function, or of a decorated class or its method.

    Nodes refer to the nodes that they depend on and to nothing else.
    """

    path: ClassVar[tuple[Any, ...]] = ()  # as an argument it represents its whole result
    slot: ClassVar[Slot] = "value"

    __slots__ = (
        "__weakref__",
        "args",  # captured, see `capture_arguments`
        "code",  # with instruction: the location of the call
        "func",
        "instruction",
        "kind",
        "kwargs",
        "name",  # None: the graph makes a name
        "serial",  # order of calls in this process; parents come before children
        "state",  # the instance that a METHOD works on
    )

    def __init__(  # noqa: PLR0913 - made by the decorated function
        self,
        func: Callable[..., T_co],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        frame: FrameType,
        kind: Kind = Kind.FUNCTION,
        state: Node[Any] | None = None,
    ) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.kind = kind
        self.state = state
        self.name: str | None = None
        self.serial = next(_serial)
        self.code: CodeType | str = frame.f_code
        self.instruction = frame.f_lasti
        if open_scopes:
            note_node(self, frame)

    def set_name(self, name: str) -> Node[T_co]:
        """Name the node: its result is stored, and its options are found, under this name."""
        self.name = _validated_name(name)
        return self

    def __getitem__(self, key: Any) -> Item:
        """Return a reference to an item of the result."""
        return Item(self, (key if type(key) in ATOMS else _validated_key(key),))

    @property
    def location(self) -> str:
        """The location of the call, as `pipeline.py:41`."""
        code = self.code
        return code if isinstance(code, str) else _format_location(code, self.instruction)

    def __repr__(self) -> str:
        return f"<node {self.name or base_name(self.func)!r} of {self.location}>"

    def _plain_call(self) -> str:
        name = getattr(self.func, "__qualname__", None) or base_name(self.func)
        name = name.rpartition("<locals>.")[2]
        if self.kind is Kind.METHOD:
            owner, _, method = name.rpartition(".")
            return f"{owner}.__wrapped__(...).{method}(...)"
        return f"{name}.__wrapped__(...)"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by recipe: where the node exists, unpickling gives the node, elsewhere a copy."""
        recipe = (
            identity_of(self),
            FunctionPickle(self.func),
            self.args,
            self.kwargs,
            self.kind,
            self.state,
            self.name,
            self.location,
        )
        return _restore_node, recipe


def _restore_node(  # noqa: PLR0913 - the fields of a node
    identity: Identity,
    function: FunctionPickle,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    kind: Kind,
    state: Node[Any] | None,
    name: str | None,
    location: str,
) -> Node[Any]:
    node: Node[Any] | None = known_node(identity)
    if node is None:
        node = Node.__new__(Node)
        node.func, node.args, node.kwargs, node.kind = function.func, args, kwargs, kind
        node.state, node.name, node.serial = state, name, next(_serial)
        node.code, node.instruction = location, 0
        register_copy(node, identity)
    return node


class Item(Placeholder[Any]):
    """An item of a node's result, at any depth."""

    __slots__ = ("node", "path", "slot")

    def __init__(self, node: Node[Any], path: tuple[Any, ...], slot: Slot = "value") -> None:
        self.node = node
        self.path = path
        self.slot = slot

    def __getitem__(self, key: Any) -> Item:
        return Item(self.node, (*self.path, _validated_key(key)), self.slot)

    def _plain_call(self) -> str:
        return self.node._plain_call()

    def __repr__(self) -> str:
        return f"<item {''.join(f'[{key!r}]' for key in self.path)} of {self.node!r}>"


class Container:
    """A standard container or dataclass instance among the arguments, rebuilt for each call."""

    __slots__ = ("build", "parts")

    def __init__(self, build: Callable[[Sequence[Any]], Any], parts: tuple[Any, ...]) -> None:
        self.build = build
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return Container, (self.build, self.parts)


def containers_in(values: Iterable[Any]) -> Iterator[Container]:
    """Yield the containers among some arguments, and in other containers, each once."""
    seen, given = set[int](), [*values]
    while Container in map(type, given):  # a pass in C
        containers = {id(value): value for value in given if type(value) is Container}
        found = [value for key, value in containers.items() if key not in seen]
        yield from found
        seen |= containers.keys()
        given = [part for each in found for part in each.parts]


Node.__name__ = Item.__name__ = ERROR_NAME

# ---- names and locations ----


def _validated_name(name: str) -> str:
    if not isinstance(name, str) or not name:
        message = f"the name of a node is a string that is not empty, not {name!r}"
        raise TypeError(message) if not isinstance(name, str) else GraphError(message)
    return name


def _validated_key(key: Any) -> Any:
    if isinstance(key, Placeholder):
        message = f"{key!r} cannot be an index: take the item in a @workflow function"
        raise TypeError(message)
    return key


def _format_location(code: CodeType, instruction: int) -> str:
    line = next((line for start, end, line in code.co_lines() if start <= instruction < end), None)
    file = code.co_filename.replace("\\", "/").rpartition("/")[2]
    return f"{file}:{line or code.co_firstlineno}"

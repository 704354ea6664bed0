"""Nodes, and items of their results: recorded calls of decorated functions.

This module builds values.
It knows nothing of runs, engines or storage, and nothing about them is ever kept on a node.
"""

from __future__ import annotations

import itertools
import sys
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, NoReturn, TypeVar

from functionfuse._graph.signature import base_name
from functionfuse.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import CodeType, FrameType

    from typing_extensions import TypeVar as TypeVarWithDefault  # type checkers bring it

    T_co = TypeVarWithDefault("T_co", covariant=True, default=Any)
    # A node may be given wherever its result may: to type checkers, it derives from Any.
    Promise = Any
else:
    Promise = object
    T_co = TypeVar("T_co", covariant=True)

__all__ = ["ATOMS", "Container", "Item", "Kind", "Node", "Placeholder", "Slot"]

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


class Placeholder(Generic[T_co], Promise):  # type: ignore[misc] # noqa: PYI059 - Promise is object
    """A value that exists only when a workflow runs; operations that need it earlier raise."""

    __slots__ = ()

    def _refuse(self, what: str) -> NoReturn:
        message = (
            f"{what} {self!r} needs its result, which exists only when a workflow runs: "
            "do it inside a @workflow function that takes the node as an argument"
        )
        raise TypeError(message)

    def __iter__(self) -> Iterator[Any]:
        self._refuse("iterating over")

    def __bool__(self) -> bool:
        self._refuse("the truth of")

    def __len__(self) -> int:
        self._refuse("the length of")

    def __contains__(self, _: object) -> bool:
        self._refuse("looking into")

    def __lt__(self, _: object) -> bool:
        self._refuse("comparing")

    __le__ = __gt__ = __ge__ = __lt__


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

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by recipe: the copy gets a serial number of its own."""
        recipe = (
            self.func,
            self.args,
            self.kwargs,
            self.kind,
            self.state,
            self.name,
            self.location,
        )
        return _restore_node, recipe


def _restore_node(  # noqa: PLR0913 - the fields of a node
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    kind: Kind,
    state: Node[Any] | None,
    name: str | None,
    location: str,
) -> Node[Any]:
    node = Node(func, args, kwargs, sys._getframe(), kind, state)
    node.name, node.code = name, location
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

    def __repr__(self) -> str:
        return f"<item {''.join(f'[{key!r}]' for key in self.path)} of {self.node!r}>"


class Container:
    """A list, tuple, set, dict, named tuple or dataclass instance that holds nodes."""

    __slots__ = ("build", "parts")

    def __init__(self, build: Callable[[Iterable[Any]], Any], parts: tuple[Any, ...]) -> None:
        self.build = build
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return Container, (self.build, self.parts)


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

"""Instances of decorated classes: calls of their methods are nodes, run one after the other."""

from __future__ import annotations

import sys
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    NoReturn,
    ParamSpec,
    Self,
    TypeVar,
)

from functionfuse._graph.capture import capture_arguments
from functionfuse._graph.nodes import Item, Kind, Node, Placeholder, T_co

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from functionfuse._graph.signature import Signature

__all__ = ["Instance"]

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=type)


class Instance(Placeholder[T_co]):
    """What a call of a decorated class gives: calls of its methods are nodes, run one after the other.

    Each decorated class has a subclass, which gets the methods that are called.

    Where the instance itself is an argument or a target,
    it stands for the object as the calls written so far leave it.
    """

    __slots__ = ("_construct", "_latest", "_methods")

    def __init__(self, construct: Node[Any], methods: Callable[[str], Signature]) -> None:
        self._construct = construct
        self._latest = construct
        self._methods = methods

    def set_name(self, name: str) -> Self:
        """Name the node that makes the object."""
        self._construct.set_name(name)
        return self

    def _current(self) -> Item:
        """The object as the calls written so far leave it."""
        return Item(self._latest, (), "state")

    def __getitem__(self, key: Any) -> Item:
        return self._current()[key]

    def __getattr__(self, name: str) -> Callable[..., Node[Any]]:
        if name.startswith("_"):  # notebooks ask for _repr_html_, copying for __deepcopy__
            message = f"a node is made of a public method, which {name!r} is not"
            raise AttributeError(message)
        method = _method(self._methods(name))
        setattr(type(self), name, method)  # from now on, it is found without asking here
        return MethodType(method, self)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Node[Any]:
        return self._call(self._methods("__call__"), args, kwargs, sys._getframe(1))

    def _call(
        self, method: Signature, args: tuple[Any, ...], kwargs: dict[str, Any], frame: FrameType
    ) -> Node[Any]:
        method.check(args, kwargs)
        args, kwargs = capture_arguments(args, kwargs)
        self._latest = node = Node(method.func, args, kwargs, frame, Kind.METHOD, self._latest)
        return node

    def __reduce__(self) -> NoReturn:
        message = f"{self!r} stands for an object that does not exist yet and cannot be pickled"
        raise TypeError(message)

    def __repr__(self) -> str:
        return f"<instance {self._construct!r}>"


def _method(method: Signature) -> Callable[..., Node[Any]]:
    """What makes the nodes of a method."""

    def call(self: Instance[Any], /, *args: Any, **kwargs: Any) -> Node[Any]:
        return self._call(method, args, kwargs, sys._getframe(1))

    return call

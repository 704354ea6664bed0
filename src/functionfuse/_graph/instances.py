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
from functionfuse._graph.nodes import Item, Kind, Node
from functionfuse._graph.placeholder import Placeholder, T_co

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from functionfuse._graph.signature import Signature

__all__ = ["Instance"]

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=type)


class Instance(Placeholder[T_co]):
    """An instance of a decorated class: calls of its methods are nodes, run one after the other.

    Each decorated class has a subclass, which gets the methods that are called.

    As an argument or a target, the instance represents the object after the calls made so far.
    """

    __slots__ = ("_construct", "_latest", "_methods")

    def __init__(self, construct: Node[Any], methods: Callable[[str], Signature]) -> None:
        self._construct = construct
        self._latest = construct
        self._methods = methods

    def set_name(self, name: str) -> Self:
        """Name the node that constructs the object."""
        self._construct.set_name(name)
        return self

    def _current(self) -> Item:
        """Return a reference to the object after the calls made so far."""
        return Item(self._latest, (), "state")

    def __getitem__(self, key: Any) -> Item:
        return self._current()[key]

    def __getattr__(self, name: str) -> Callable[..., Node[Any]]:
        if name.startswith("_"):  # notebooks ask for _repr_html_, copying for __deepcopy__
            message = f"only calls of public methods are nodes, and {name!r} is not public"
            raise AttributeError(message)
        method = _method(self._methods(name))
        setattr(type(self), name, method)  # later accesses do not come here
        return MethodType(method, self)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Node[Any]:
        return self._call(self._methods("__call__"), args, kwargs, sys._getframe(1))

    def _call(
        self, method: Signature, args: tuple[Any, ...], kwargs: dict[str, Any], frame: FrameType
    ) -> Node[Any]:
        args, kwargs = capture_arguments(args, kwargs, method)
        self._latest = node = Node(method.func, args, kwargs, frame, Kind.METHOD, self._latest)
        return node

    def _plain_call(self) -> str:
        return self._construct._plain_call()

    def __reduce__(self) -> NoReturn:
        message = f"{self!r} represents an object that does not exist yet and cannot be pickled"
        raise TypeError(message)

    def __repr__(self) -> str:
        return f"<instance {self._construct!r}>"


def _method(method: Signature) -> Callable[..., Node[Any]]:
    """Return a method whose calls make nodes."""

    def call(self: Instance[Any], /, *args: Any, **kwargs: Any) -> Node[Any]:
        return self._call(method, args, kwargs, sys._getframe(1))

    return call

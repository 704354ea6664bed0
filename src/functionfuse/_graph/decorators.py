"""Decorator `workflow`: calls of decorated functions and classes make nodes."""

from __future__ import annotations

import functools
import inspect
import sys
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    ParamSpec,
    TypeVar,
    cast,
    overload,
)

from functionfuse._graph.capture import capture_arguments
from functionfuse._graph.instances import Instance
from functionfuse._graph.nodes import Kind, Node
from functionfuse._graph.signature import Signature, base_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from io import BytesIO, StringIO

__all__ = ["undecorated", "workflow"]

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound="BytesIO | StringIO")
C = TypeVar("C", bound=type)
C_co = TypeVar("C_co", bound=type, covariant=True)


class WorkflowFunction(Generic[P, T]):
    """A decorated function: its calls are nodes. `__wrapped__` is the plain function."""

    __name__: str
    __qualname__: str
    __wrapped__: Callable[P, T]

    def __init__(self, func: Callable[P, T]) -> None:
        functools.update_wrapper(self, func)
        self._signature = Signature(func)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Node[T]:
        self._signature.check(args, kwargs)
        args, kwargs = capture_arguments(args, kwargs)  # type: ignore[assignment]
        return Node(self.__wrapped__, args, kwargs, sys._getframe(1))

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<workflow function {base_name(self.__wrapped__)}>"


class WorkflowClass(Generic[C_co]):
    """A decorated class: its calls are instances whose method calls are nodes.

    `__wrapped__` is the plain class; `isinstance` and subclassing work with either.
    """

    __wrapped__: C_co

    def __init__(self, cls: C_co) -> None:
        functools.update_wrapper(self, cls, updated=())
        if hasattr(cls, "set_name"):
            message = (
                f"{cls.__qualname__}.set_name would be hidden by the method of that name "
                "of workflow instances: rename it"
            )
            raise TypeError(message)
        self._signature = Signature(cls)
        self._methods: dict[str, Signature] = {}
        self._instance = type(Instance.__name__, (Instance,), {"__slots__": ()})

    # type checkers see a dataclass's signature only at the call, not at the decorator
    def __call__(
        self: WorkflowClass[Callable[P, T]],  # type: ignore[type-var]
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Instance[T]:
        self._signature.check(args, kwargs)
        args, kwargs = capture_arguments(args, kwargs)  # type: ignore[assignment]
        node = Node(self.__wrapped__, args, kwargs, sys._getframe(1), Kind.CONSTRUCT)
        return cast("Instance[T]", self._instance(node, self._method))

    def _method(self, name: str) -> Signature:
        if name not in self._methods:
            attribute = inspect.getattr_static(self.__wrapped__, name, None)
            if not inspect.isroutine(attribute) or isinstance(
                attribute, staticmethod | classmethod
            ):
                message = (
                    f"{self.__wrapped__.__qualname__} has no method {name!r} that works on an instance; "
                    "attributes of the object exist only when a workflow runs: write a method that returns them"
                )
                raise AttributeError(message)
            self._methods[name] = Signature(undecorated(getattr(self.__wrapped__, name)), skip=1)
        return self._methods[name]

    def __getattr__(self, name: str) -> Any:
        if name == "__wrapped__":  # not set yet during unpickling
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self.__wrapped__)

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, self.__wrapped__)

    def __mro_entries__(self, _: tuple[Any, ...]) -> tuple[type]:
        return (self.__wrapped__,)

    def __repr__(self) -> str:
        return f"<workflow class {base_name(self.__wrapped__)}>"


@overload
def workflow(target: C, /) -> WorkflowClass[C]: ...  # type: ignore[overload-overlap] # it is callable as well
@overload
def workflow(target: Callable[P, F], /) -> WorkflowFunction[P, F]: ...  # type: ignore[overload-overlap] # an iterator
@overload
def workflow(target: Callable[P, Iterator[T]], /) -> WorkflowFunction[P, list[T]]: ...
@overload
def workflow(target: Callable[P, AsyncIterator[T]], /) -> WorkflowFunction[P, list[T]]: ...
@overload
def workflow(target: Callable[P, Coroutine[Any, Any, T]], /) -> WorkflowFunction[P, T]: ...
@overload
def workflow(target: Callable[P, T], /) -> WorkflowFunction[P, T]: ...
def workflow(target: Any, /) -> Any:
    """Make calls of a function or class build a graph instead of running.

    The decorated object keeps name, docstring, signature and types;
    `__wrapped__` is the plain function or class.

    Raises:
        TypeError: The target cannot be called.
    """
    if isinstance(target, WorkflowFunction | WorkflowClass):
        return target
    if isinstance(target, type):
        return WorkflowClass(target)
    if not callable(target):
        message = f"@workflow takes a function or a class, not {target!r}"
        raise TypeError(message)
    return WorkflowFunction(target)


def undecorated(target: Callable[..., Any]) -> Callable[..., Any]:
    """Return the plain function or class of a decorated one, and anything else unchanged."""
    if isinstance(target, WorkflowFunction | WorkflowClass):
        return target.__wrapped__
    return target

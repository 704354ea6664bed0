"""Decorator `workflow`: calls of decorated functions and classes make nodes."""

from __future__ import annotations

import functools
import inspect
import sys
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    NoReturn,
    ParamSpec,
    TypeVar,
    cast,
    overload,
)

from functionfuse._graph.capture import capture_arguments
from functionfuse._graph.defaults import signature_with_defaults
from functionfuse._graph.explicit_super import bind_own_name
from functionfuse._graph.instances import Instance
from functionfuse._graph.nodes import Kind, Node
from functionfuse._graph.signature import base_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from io import BytesIO, StringIO

    from functionfuse._graph.signature import Signature

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
        self._signature = signature_with_defaults(func)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Node[T]:
        args, kwargs = capture_arguments(args, kwargs, self._signature)  # type: ignore[assignment]
        return Node(self.__wrapped__, args, kwargs, sys._getframe(1))

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if name == "__wrapped__":  # not set yet during unpickling
                raise AttributeError(name)
            raise AttributeError(_missing_attribute(self.__wrapped__, name))

    def __repr__(self) -> str:
        return f"<workflow function {base_name(self.__wrapped__)}>"


#: What other libraries call the methods that call a decorated function.
_WAYS_TO_CALL: Final = frozenset(
    {"apply", "apply_async", "delay", "map", "remote", "starmap", "submit"}
)


def _missing_attribute(func: Callable[..., Any], name: str) -> str:
    """What to do instead of reading an attribute that a decorated function does not have."""
    called = base_name(func)
    if name in _WAYS_TO_CALL:
        return (
            f"{called} is a workflow function, which has no {name!r}: call it to make a node, "
            f"once for each item, as in `[{called}(item) for item in items]`"
        )
    if hasattr(func, name):
        return f"{called} is a workflow function: the plain function has {name!r}, `{called}.__wrapped__.{name}`"
    return f"the workflow function {called} has no attribute {name!r}"


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
        bind_own_name(cls)
        # `Base.__init__(self)` in a subclass
        self.__dict__ |= {
            name: getattr(cls, name)
            for name in _CALLED_ON_CLASSES
            if any(name in vars(base) for base in cls.__mro__)
        }
        self._signature = signature_with_defaults(cls)
        self._methods: dict[str, Signature] = {}
        self._instance = type(Instance.__name__, (Instance,), {"__slots__": ()})

    # type checkers see a dataclass's signature only at the call, not at the decorator
    def __call__(
        self: WorkflowClass[Callable[P, T]],  # type: ignore[type-var]
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Instance[T]:
        args, kwargs = capture_arguments(args, kwargs, self._signature)  # type: ignore[assignment]
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
            method = undecorated(getattr(self.__wrapped__, name))
            self._methods[name] = signature_with_defaults(method, skip=1)
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

    def __getitem__(self, parameters: Any) -> Any:
        return self.__wrapped__[parameters]  # type: ignore[index] # of a generic class

    def __or__(self, other: Any) -> Any:
        return self.__wrapped__ | other

    def __ror__(self, other: Any) -> Any:
        return other | self.__wrapped__

    def __repr__(self) -> str:
        return f"<workflow class {base_name(self.__wrapped__)}>"


#: Methods of a class that the decorated class has as well, with another meaning.
_CALLED_ON_CLASSES: Final = (
    "__call__",
    "__eq__",
    "__hash__",
    "__init__",
    "__new__",
    "__repr__",
    "__str__",
)


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
    if isinstance(target, staticmethod | classmethod):  # `@workflow` above `@staticmethod`
        return type(target)(workflow(target.__func__))
    if not callable(target):
        message = f"@workflow takes a function or a class, not {target!r}"
        raise TypeError(message)
    return WorkflowFunction(target)


def undecorated(target: Callable[..., Any]) -> Callable[..., Any]:
    """Return the plain function or class of a decorated one, and anything else unchanged."""
    if isinstance(target, WorkflowFunction | WorkflowClass):
        return target.__wrapped__
    return target

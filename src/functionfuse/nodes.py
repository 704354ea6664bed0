"""The frontend: a decorator whose calls make nodes.

This module builds values.
It knows nothing of runs, engines or storage, and nothing about them is ever kept on a node.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import sys
from enum import Enum
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    TypeVar,
    cast,
    overload,
)

from functionfuse.errors import GraphError
from functionfuse.signature import Signature, base_name

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator
    from types import CodeType, FrameType

    # A node may stand wherever its result may. Deriving from Any says so to type checkers.
    Promise = Any
else:
    Promise = object

__all__ = ["Container", "Instance", "Item", "Kind", "Node", "Slot", "workflow"]

P = ParamSpec("P")
T = TypeVar("T")

_serial: Final = itertools.count()


class Kind(Enum):
    """What a call stands for."""

    FUNCTION = "function"
    CONSTRUCT = "construct"
    METHOD = "method"


#: Which half of a method's outcome is meant: what it returned, or the instance it leaves; or both.
#: Strings, here and in a run's records: what holds nothing else costs the garbage collector nothing.
Slot = Literal["value", "state", "outcome"]


class _NotYet(Promise):  # type: ignore[misc]
    """Refuses what needs a result at the time the graph is written."""

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


class Node(_NotYet, Generic[T]):
    """The call of a decorated function, or of a decorated class or its method; nothing has run.

    Nodes point to the nodes they need and to nothing else.
    """

    path: ClassVar[tuple[Any, ...]] = ()  # as an argument it stands for its whole result
    slot: ClassVar[Slot] = "value"

    __slots__ = (
        "__weakref__",
        "args",  # captured, see `capture`
        "code",  # with instruction: where the call was written
        "func",
        "instruction",
        "kind",
        "kwargs",
        "name",  # None: the graph gives a name
        "serial",  # order of writing in this process; parents come before children
        "state",  # the instance that a METHOD works on
    )

    def __init__(  # noqa: D107, PLR0913 - made by the decorated function
        self,
        func: Callable[..., T],
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

    def set_name(self, name: str) -> Node[T]:
        """Name the node: its result is stored, and its options are found, under this name."""
        self.name = _checked_name(name)
        return self

    def __getitem__(self, key: Any) -> Item:
        """Stand for an item of the result, taken where it is used."""
        return Item(self, (key if type(key) in ATOMS else _checked_key(key),))

    @property
    def place(self) -> str:
        """Where the call was written, as `pipeline.py:41`."""
        code = self.code
        return code if isinstance(code, str) else _place(code, self.instruction)

    def __repr__(self) -> str:
        return f"<node {self.name or base_name(self.func)!r} of {self.place}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Be pickled by recipe: the copy gets a place of its own in the order of writing."""
        recipe = (self.func, self.args, self.kwargs, self.kind, self.state, self.name, self.place)
        return _restore_node, recipe


def _restore_node(  # noqa: PLR0913 - the fields of a node
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    kind: Kind,
    state: Node[Any] | None,
    name: str | None,
    place: str,
) -> Node[Any]:
    node = Node(func, args, kwargs, sys._getframe(), kind, state)
    node.name, node.code = name, place
    return node


class Item(_NotYet):
    """An item of a node's result, at any depth."""

    __slots__ = ("node", "path", "slot")

    def __init__(self, node: Node[Any], path: tuple[Any, ...], slot: Slot = "value") -> None:  # noqa: D107
        self.node = node
        self.path = path
        self.slot = slot

    def __getitem__(self, key: Any) -> Item:
        return Item(self.node, (*self.path, _checked_key(key)), self.slot)

    def __repr__(self) -> str:
        return f"<item {''.join(f'[{key!r}]' for key in self.path)} of {self.node!r}>"


class Instance(_NotYet):
    """What a call of a decorated class gives: calls of its methods are nodes, run one after the other.

    Each decorated class has a subclass, which gets the methods that are called.

    Where the instance itself is an argument or a target,
    it stands for the object as the calls written so far leave it.
    """

    __slots__ = ("_construct", "_latest", "_methods")

    def __init__(self, construct: Node[Any], methods: Callable[[str], Signature]) -> None:  # noqa: D107
        self._construct = construct
        self._latest = construct
        self._methods = methods

    def set_name(self, name: str) -> Instance:
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

    def __call__(self, /, *args: Any, **kwargs: Any) -> Node[Any]:  # noqa: D102
        return self._call(self._methods("__call__"), args, kwargs, sys._getframe(1))

    def _call(
        self, method: Signature, args: tuple[Any, ...], kwargs: dict[str, Any], frame: FrameType
    ) -> Node[Any]:
        method.check(args, kwargs)
        args, kwargs = captured(args, kwargs)
        self._latest = node = Node(method.func, args, kwargs, frame, Kind.METHOD, self._latest)
        return node

    def __reduce__(self) -> NoReturn:
        message = f"{self!r} stands for an object that does not exist yet and cannot be pickled"
        raise TypeError(message)

    def __repr__(self) -> str:
        return f"<instance {self._construct!r}>"


def _method(method: Signature) -> Callable[..., Node[Any]]:
    """What makes the nodes of a method."""

    def call(self: Instance, /, *args: Any, **kwargs: Any) -> Node[Any]:
        return self._call(method, args, kwargs, sys._getframe(1))

    return call


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
        args, kwargs = captured(args, kwargs)  # type: ignore[assignment]
        return Node(self.__wrapped__, args, kwargs, sys._getframe(1))

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<workflow function {base_name(self.__wrapped__)}>"


class WorkflowClass(Generic[P, T]):
    """A decorated class: its calls are instances whose method calls are nodes.

    `__wrapped__` is the plain class; `isinstance` and subclassing work with either.
    """

    __wrapped__: type[T]

    def __init__(self, cls: type[T]) -> None:
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

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Node[T]:
        self._signature.check(args, kwargs)
        args, kwargs = captured(args, kwargs)  # type: ignore[assignment]
        node = Node(self.__wrapped__, args, kwargs, sys._getframe(1), Kind.CONSTRUCT)
        return cast("Node[T]", self._instance(node, self._method))

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
        if name == "__wrapped__":  # not there yet while unpickling
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
    """The plain function or class behind a decorated one; anything else as it is."""
    if isinstance(target, WorkflowFunction | WorkflowClass):
        return target.__wrapped__
    return target


# ---- what a call was given ----


class Container:
    """A list, tuple, set, dict, named tuple or dataclass instance that holds nodes."""

    __slots__ = ("build", "parts")

    def __init__(self, build: Callable[[Iterable[Any]], Any], parts: tuple[Any, ...]) -> None:  # noqa: D107
        self.build = build
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return Container, (self.build, self.parts)


def captured(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Take arguments as they are now: containers are copied, and those that hold nodes become a `Container`.

    So a list that grows after the call, or a dict of parameters that is changed for the next call,
    means what it means in plain Python.
    Other objects are taken by reference.

    Raises:
        GraphError: A container contains itself.
    """
    try:
        if not _AS_THEY_ARE.issuperset(map(type, args)):
            args = tuple([capture(value) for value in args])
        return args, {key: capture(value) for key, value in kwargs.items()} if kwargs else _NONE
    except RecursionError:
        message = (
            "an argument contains itself, or is nested deeper than Python's recursion limit: "
            "make it in a @workflow function and pass that node instead"
        )
        raise GraphError(message) from None


_NONE: Final[dict[str, Any]] = {}  # one for all calls without keywords; nothing changes it

#: Types whose values hold nothing and cannot change.
ATOMS: Final = frozenset({int, float, str, bytes, bool, complex, type(None)})
_AS_THEY_ARE: Final = ATOMS | {Node, Item}
_HOLDERS: Final = frozenset({Node, Item, Container})


def capture(value: Any) -> Any:  # noqa: PLR0911 - one for each kind of value
    """Take one argument as it is now; see `captured`."""
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if issubclass(kind, Instance):
        return value._current()
    if kind is dict:
        return _capture_parts(_build_dict, itertools.chain.from_iterable(value.items()))
    if kind is list or kind is tuple or kind is set or kind is frozenset:
        return _capture_parts(kind, value)
    if isinstance(value, tuple) and hasattr(kind, "_make"):
        return _capture_parts(kind._make, value)
    if hasattr(kind, "__dataclass_fields__"):
        return _capture_dataclass(value)
    return value


def _capture_parts(build: Callable[[Iterable[Any]], Any], values: Iterable[Any]) -> Any:
    parts = list(values)
    if ATOMS.issuperset(map(type, parts)):  # a large literal costs one pass in C
        return build(parts)
    parts = [capture(part) for part in parts]
    return build(parts) if _HOLDERS.isdisjoint(map(type, parts)) else Container(build, tuple(parts))


def _capture_dataclass(value: Any) -> Any:
    names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
    parts = [capture(getattr(value, name)) for name in names]
    if _HOLDERS.isdisjoint(map(type, parts)):
        return value
    return Container(_DataclassBuilder(value, tuple(names)), tuple(parts))


def _build_dict(parts: Iterable[Any]) -> dict[Any, Any]:
    keys_and_values = iter(parts)
    return dict(zip(keys_and_values, keys_and_values, strict=True))


class _DataclassBuilder:
    """Copies a dataclass instance with other field values, also a frozen or slotted one."""

    __slots__ = ("names", "pattern")

    def __init__(self, pattern: Any, names: tuple[str, ...]) -> None:
        # without the nodes in its fields, so that neither they nor their graphs travel along
        self.pattern = _with_fields(pattern, names, itertools.repeat(None))
        self.names = names

    def __call__(self, parts: Iterable[Any]) -> Any:
        return _with_fields(self.pattern, self.names, parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _DataclassBuilder, (self.pattern, self.names)


def _with_fields(pattern: Any, names: tuple[str, ...], values: Iterable[Any]) -> Any:
    # not dataclasses.replace: it runs __init__ again, and refuses init=False fields
    new = object.__new__(type(pattern))
    if hasattr(pattern, "__dict__"):
        new.__dict__.update(pattern.__dict__)
    for name, value in zip(names, values, strict=False):
        object.__setattr__(new, name, value)
    return new


# ---- names and places ----


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not name:
        message = f"the name of a node is a string that is not empty, not {name!r}"
        raise TypeError(message) if not isinstance(name, str) else GraphError(message)
    return name


def _checked_key(key: Any) -> Any:
    if isinstance(key, _NotYet):
        message = f"{key!r} cannot be an index: take the item in a @workflow function"
        raise TypeError(message)
    return key


def _place(code: CodeType, instruction: int) -> str:
    line = next((line for start, end, line in code.co_lines() if start <= instruction < end), None)
    file = code.co_filename.replace("\\", "/").rpartition("/")[2]
    return f"{file}:{line or code.co_firstlineno}"

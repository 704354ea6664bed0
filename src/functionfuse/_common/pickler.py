"""Pickler for functions and classes: by reference if their module can be imported, otherwise by value.

It differs from cloudpickle's pickler in four ways:

* A decorated function is not the global of its name, so cloudpickle would pickle it by value, with its module's state.
* A function in a function is pickled by value, but its globals are those of its module, if that can be imported.
* A class that is pickled by value keeps its slots.
* Since 3.1.3, cloudpickle replaces the file name of every code object, to make pickles reproducible.
  Without it, a traceback from a worker has no lines of the user's file, and `inspect.getsource` finds nothing.

The pickles require this package to load.
"""

from __future__ import annotations

import functools
import io
import operator
from collections import ChainMap
from contextvars import ContextVar
from enum import Enum
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, NewType, TypeVar
from weakref import WeakKeyDictionary

import cloudpickle

from functionfuse._common.class_skeletons import skeleton_constructor
from functionfuse._common.context_variables import reduce_context_variable
from functionfuse._common.enum_reduction import with_member_attributes
from functionfuse._common.exception_reduction import reduce_exception
from functionfuse._common.generator_search import generators_in
from functionfuse._common.global_references import (
    GlobalReference,
    importable_module,
    reduce_decorated,
    reduce_generator,
    reduce_method,
    reduce_renamed,
    refer_to_globals,
    reference_to,
)
from functionfuse._common.recursion import deep_recursion
from functionfuse._common.script_objects import identify, may_be_of_script
from functionfuse._common.script_references import is_global_object, reduce_script_object
from functionfuse._common.tensor_reduction import TensorReducer
from functionfuse._common.view_reduction import reduce_array, reduce_memoryview

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pickle import PickleBuffer

    KeepBuffer = Callable[[PickleBuffer], object]
    Reducers = Mapping[type, Callable[[Any], Any]]

__all__ = ["Pickler", "ReferencePickler", "dumps", "with_reducers"]

_REPLACED: Final = "<dynamic-code>"  # cloudpickle's file name for all code


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    construct, fields = cloudpickle.Pickler.dispatch_table[CodeType](code)
    # exact types: a constant of a function may compare in a way of its own
    kept = [
        code.co_filename if type(field) is str and field == _REPLACED else field for field in fields
    ]
    return construct, tuple(kept)


class Pickler(cloudpickle.Pickler):  # type: ignore[misc] # untyped
    """Pickles functions and classes that cannot be imported by value, with their file names."""

    # flat, since the C pickler asks for each object; still sees what is registered with copyreg later
    dispatch_table: ClassVar[Any] = ChainMap(
        {
            CodeType: _reduce_code,
            ContextVar: reduce_context_variable,
            memoryview: reduce_memoryview,
        },
        *cloudpickle.Pickler.dispatch_table.maps,
    )

    def __init__(
        self,
        file: io.BytesIO,
        protocol: int | None = None,
        buffer_callback: KeepBuffer | None = None,
        reducers: Reducers | None = None,
    ) -> None:
        """Pickle into a file.

        Args:
            file: The file.
            protocol: The pickle protocol; by default, the highest.
            buffer_callback: Receives the out-of-band buffers, as in `pickle.dumps`.
            reducers: The dispatch table; by default, that of the class.
        """
        if reducers is not None:
            self.dispatch_table = reducers  # type: ignore[misc] # as pickle documents it
        super().__init__(file, protocol, buffer_callback)
        self._reduce_tensor = TensorReducer()
        self._script_generators: dict[int, Any] = {}  # by id: those in values of global variables

    def dump(self, obj: Any) -> None:
        """Pickle a value, however deep it is."""
        with deep_recursion:
            super().dump(obj)

    def reducer_override(self, obj: Any) -> Any:
        """Reduce functions, classes, and the random generators that libraries share.

        Called for every object but those of a few builtin types.
        """
        kind = type(obj)
        if kind is FunctionType or issubclass(kind, type):
            return self.reduce_global(obj)
        if kind is MethodType or kind is BuiltinFunctionType:
            return reduce_method(obj) or NotImplemented
        if issubclass(kind, BaseException):
            return reduce_exception(obj, self.dispatch_table.get(kind)) or NotImplemented
        if kind.__name__ == "Tensor":
            return self._reduce_tensor(obj) or NotImplemented
        reduce = _REDUCERS.get(kind.__name__)  # a name, so that nothing is imported for a class
        if id(obj) in self._script_generators:
            reduce = _reduce_script_generator
        return NotImplemented if reduce is None else reduce(obj) or NotImplemented

    def reduce_global(self, obj: Any) -> Any:
        """Reduce a function or class."""
        decorated = reduce_decorated(obj)
        if decorated is not None:
            return decorated
        reduced = super().reducer_override(obj)
        by_value = type(reduced) is tuple and len(reduced) > _REFERENCE_LENGTH
        if not by_value:
            return reduced
        return reduce_renamed(obj) or identify(obj, self._reduce_by_value(obj, reduced))

    def _reduce_by_value(self, obj: Any, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
        """A function's or class's reduction by value, with references to what another process has already."""
        is_function = type(obj) is FunctionType
        values = reduced[2][1]["__globals__"] if is_function else reduced[2][0]
        self._script_generators |= {id(each): each for each in generators_in(values.values())}
        return (_function_by_value if is_function else _class_by_value)(obj, reduced)


class ReferencePickler(Pickler):
    """Pickles classes and functions of a script as references, which outlive the process."""

    def reducer_override(self, obj: Any) -> Any:
        """Refer to objects that pickle would find under a name in `__main__`, too."""
        kind = type(obj)
        if kind is FunctionType or issubclass(kind, type) or is_global_object(obj, kind):
            reference = reduce_script_object(obj)
            if reference is not None:
                return reference
        return super().reducer_override(obj)


def _reduce_cached_function(function: Any) -> tuple[Any, ...] | None:
    """A function of `functools.lru_cache`, with an empty cache where it cannot be imported."""
    found = reduce_decorated(function)
    parameters = getattr(function, "cache_parameters", None)
    if found is not None or parameters is None or _is_global(function):
        return found
    decorator = GlobalReference((functools.lru_cache, tuple(parameters().values())))
    return identify(function, (operator.call, (decorator, function.__wrapped__)))


def _is_global(function: Any) -> bool:
    module = importable_module(function.__module__)
    return getattr(module, function.__qualname__, None) is function


def _reduce_cached_property(member: Any) -> tuple[Any, ...] | None:
    """A cached property without its lock, which Python 3.11 gives it."""
    if type(member) is not functools.cached_property:
        return None
    return functools.cached_property, (member.func,), {"attrname": member.attrname}


def _reduce_script_generator(generator: Any) -> Any:
    """A generator in the value of a global variable, as one that is the value."""
    return reference_to(generator).__reduce__()


def _reduce_weak_dict(entries: WeakKeyDictionary[Any, Any]) -> tuple[Any, ...]:
    """As `functools.singledispatch` has: its keys stay alive while others refer to them."""
    return WeakKeyDictionary, (dict(entries),)


def _reduce_new_type(value: Any) -> tuple[Any, ...] | None:
    """A type of `typing.NewType` in a script, by value."""
    if not may_be_of_script(value):
        return None
    arguments = NewType, value.__qualname__, value.__supertype__
    return identify(value, (_made_in_script, arguments))


def _made_in_script(construct: Callable[..., Any], *arguments: Any) -> Any:
    """Call a constructor that takes the module of its caller."""
    made = construct(*arguments)
    made.__module__ = "__main__"
    return made


def _reduce_type_variable(value: TypeVar) -> tuple[Any, ...] | None:
    if not may_be_of_script(value):
        return None
    construct, arguments = cloudpickle.Pickler.dispatch_table[TypeVar](value)
    return identify(value, (_made_in_script, (construct, *arguments)))


_REDUCERS: Final[dict[str, Callable[[Any], Any]]] = {
    "NewType": _reduce_new_type,
    "TypeVar": _reduce_type_variable,
    "WeakKeyDictionary": _reduce_weak_dict,
    "cached_property": _reduce_cached_property,
    "Random": reduce_generator,
    "RandomState": reduce_generator,
    "ndarray": reduce_array,
    "_lru_cache_wrapper": _reduce_cached_function,
}


#: The length of reductions by reference; reductions by value have a state in addition.
_REFERENCE_LENGTH: Final = 2

#: The position of the names that a class is created with, among cloudpickle's arguments.
_NAMESPACE: Final = 3


def _class_by_value(cls: type, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """A class's reduction by value, with its slots, and with references to globals of importable modules."""
    construct, arguments, (attributes, slots), *rest = reduced
    # cloudpickle sets slots later, when they have no effect: instances would have a `__dict__`
    if "__slots__" in vars(cls) and not _chooses_slots(cls):
        arguments[_NAMESPACE]["__slots__"] = vars(cls)["__slots__"]
    construct = skeleton_constructor(cls, construct)
    referring = construct, arguments, (refer_to_globals(attributes), slots), *rest
    return with_member_attributes(cls, referring) if issubclass(cls, Enum) else referring


def _chooses_slots(cls: type) -> bool:
    """Whether the metaclass of a class sets its slots."""
    return issubclass(cls, Enum) or NamedTuple in vars(cls).get("__orig_bases__", ())


def _function_by_value(function: FunctionType, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """A function's reduction by value, with references to globals of importable modules."""
    construct, (code, scope, *others), (attributes, slots), *rest = reduced
    module = importable_module(function.__globals__.get("__name__"))
    if slots["__globals__"] and module is not None and vars(module) is function.__globals__:
        scope = GlobalReference((vars, (module,)))
        slots["__globals__"], slots["_cloudpickle_submodules"] = {}, []
    slots["__globals__"] = refer_to_globals(slots["__globals__"])
    # other defaults, and variables of closures, may be generators seeded for this function alone
    own = {id(value) for value in function.__globals__.values()}
    if slots["__defaults__"]:
        slots["__defaults__"] = tuple(
            reference_to(value) if id(value) in own else value for value in slots["__defaults__"]
        )
    if slots["__kwdefaults__"]:
        slots["__kwdefaults__"] = {
            name: reference_to(value) if id(value) in own else value
            for name, value in slots["__kwdefaults__"].items()
        }
    return construct, (code, scope, *others), (attributes, slots), *rest


def with_reducers(reducers: Reducers) -> Reducers:
    """The dispatch table of `Pickler` with reducers that come first."""
    return ChainMap(reducers, *Pickler.dispatch_table.maps)  # type: ignore[arg-type] # not written


def dumps(
    value: Any,
    *,
    protocol: int | None = None,
    buffer_callback: KeepBuffer | None = None,
    reducers: Reducers | None = None,
) -> bytes:
    """Pickle a value; the arguments are those of `Pickler`."""
    with io.BytesIO() as file:
        Pickler(file, protocol, buffer_callback, reducers).dump(value)
        return file.getvalue()

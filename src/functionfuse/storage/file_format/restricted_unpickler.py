"""Restricted unpickler: reads results of untrusted origin without running code from them.

Names are resolved in a table of constructors, which check their arguments, and among the types that the
reader allows. Nothing else is imported, called or changed.
"""

from __future__ import annotations

import collections
import importlib
import sys
from enum import Enum
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.script_modules import file_of_script_module
from functionfuse._common.script_objects import script_name
from functionfuse._common.script_references import script_object
from functionfuse.errors import OptionError, UntrustedResult
from functionfuse.storage.file_format.pickle_interpreter import PickleInterpreter, Symbol
from functionfuse.storage.file_format.pickle_loop import interpret
from functionfuse.storage.file_format.restricted_constructors import (
    CONSTRUCTORS,
    Construction,
    Constructor,
    Function,
    Unbuilt,
    UnusualArguments,
    not_allowed,
    require,
    set_attributes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["PickleAllowlist"]

#: Types of existing objects that a call may return; their state must not be changed.
_SHARED: Final = (type, Enum, FunctionType, BuiltinFunctionType, MethodType, ModuleType)
_NUMPY_MODULES: Final = frozenset(
    {
        "numpy",
        *("numpy._core.multiarray", "numpy._core.numeric"),
        *("numpy.core.multiarray", "numpy.core.numeric"),  # numpy 1
    }
)
#: The name of `script_object` in pickles.
_SCRIPT_OBJECT: Final = (script_object.__module__, script_object.__qualname__)
_WRONG_ARGUMENTS: Final = (
    *(UnusualArguments, TypeError, ValueError, ArithmeticError, AttributeError),
)


class PickleAllowlist:
    """The types that a result may contain: plain data, numpy arrays, and those that the reader adds."""

    def __init__(self, types: Iterable[type | str] = ()) -> None:
        """Allow types in addition to plain data and arrays.

        Args:
            types: Types, or their names like `"package.module.Name"`, which are imported when needed.
                A forged result can call them with any arguments.

        Raises:
            OptionError: An entry is neither.
        """
        self.types = (types,) if isinstance(types, str | type) else tuple(types)
        for each in self.types:
            _check(each)
        self._names = frozenset(each for each in self.types if isinstance(each, str))
        self._types = {
            (each.__module__, each.__qualname__): each
            for each in self.types
            if isinstance(each, type)
        }

    def __reduce__(self) -> tuple[type[PickleAllowlist], tuple[tuple[type | str, ...]]]:
        return PickleAllowlist, (self.types,)

    def __repr__(self) -> str:
        return f"PickleAllowlist({list(self.types)!r})"

    def load(
        self,
        stream: bytes | memoryview,
        buffers: Sequence[memoryview],
        persistent_load: Callable[[Any], Any] | None,
    ) -> Any:
        """Return the value of a pickle stream.

        Args:
            stream: The stream.
            buffers: Its out-of-band buffers.
            persistent_load: As in `pickle`: returns the object for a persistent id.

        Raises:
            UntrustedResult: The stream uses types that are not allowed.
            UnpicklingError: The stream is malformed.
        """
        return interpret(_RestrictedUnpickler(stream, buffers, persistent_load, self))

    def resolve(self, module: str, name: str) -> Any:
        """Return the type that the reader allows under a name.

        An allowed name may end in nested classes, but modules are resolved by import only:
        an attribute of a module may be any other module.

        Raises:
            UntrustedResult: The name is not allowed.
        """
        if (module, name) in self._types:
            return self._types[module, name]
        full = f"{module}.{name}"
        if full not in self._names:
            raise not_allowed(full)
        found: Any = importlib.import_module(module)
        for number, part in enumerate(name.split(".")):
            if number and not isinstance(found, type):
                raise not_allowed(full)
            found = getattr(found, part)
        return found

    def resolve_of_script(self, file: Any, path: Any, fields: Any) -> Any:
        """Return the class of a script that the reader allows: as a type, "__main__.Name" or "file.Name".

        Raises:
            UntrustedResult: It is not allowed.
        """
        require(type(path) is str and (file is None or type(file) is str))
        full = f"{Path(file).stem if file else '__main__'}.{path}"
        known = any(_is_named(each, file, path) for each in self._types.values())
        if not known and self._names.isdisjoint((full, f"__main__.{path}")):
            raise not_allowed(full)
        return script_object(file, path, fields)


class _RestrictedUnpickler(PickleInterpreter):
    """Interpreter that creates objects with constructors of the table and types of the allowlist."""

    def __init__(
        self,
        stream: bytes | memoryview,
        buffers: Sequence[memoryview],
        persistent_load: Callable[[Any], Any] | None,
        allowlist: PickleAllowlist,
    ) -> None:
        super().__init__(stream, buffers)
        self._persistent_load = persistent_load
        self._allowlist = allowlist
        self._construction = Construction(self.budget)
        self._constructors: dict[int, Constructor] = {}  # by identity of the type or symbol
        self._types: dict[int, Any] = {}  # of the allowlist, by identity
        self._symbols = 0  # on the stack; not 0 at the end if one became part of the result

    def find(self, module: str, name: str) -> Any:
        if (module, name) == _SCRIPT_OBJECT:
            return self._count_symbol(Function(name, self._script_object))
        constructor = _find_constructor(module, name)
        # not of a package, which would be imported
        file = None if constructor or "." in module else file_of_script_module(module)
        if file is not None:
            return self._script_object(self._construction, file, name)
        if constructor is None:
            return self._allow(self._allowlist.resolve(module, name))
        self._constructors[id(constructor.value)] = constructor
        return self._count_symbol(constructor.value)

    def _script_object(self, _: Construction, file: Any, path: Any, fields: Any = None) -> Any:
        return self._allow(self._allowlist.resolve_of_script(file, path, fields))

    def _allow(self, found: Any) -> Any:
        self._types[id(found)] = self.foreign[id(found)] = found
        return found

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        if type(function) is Function:
            self._symbols -= 1
            return self._construct(function.name, function.call, arguments)
        if constructor := self._constructors.get(id(function)):
            return self._construct(_name(function), constructor.call, arguments)
        return self._called(function, function, arguments, {})

    def make(self, kind: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if constructor := self._constructors.get(id(kind)):
            call = None if keywords else constructor.make
            return self._construct(_name(kind), call, arguments)
        if not isinstance(kind, type):
            raise _refused_call(kind)
        return self._called(kind, kind.__new__, (kind, *arguments), keywords)

    def build(self, made: Any, state: Any) -> Any:
        if type(made) is Unbuilt:
            self._symbols -= 1
            made.value = self._checked(made.name, made.build, state)
            return made.value
        if type(made) is collections.OrderedDict and id(made) not in self.foreign:
            self._checked(_name(type(made)), set_attributes, made, state)
        elif id(made) not in self._construction.made:
            raise _refused_change(made)
        elif arrays := _module_for(made):
            self._checked(_name(type(made)), arrays.fill, self._construction, made, state)
        else:
            _set_state(made, state)
        return made

    def extend(self, made: Any, items: list[Any]) -> None:
        if type(made) is collections.deque and id(made) not in self.foreign:
            self._construction.nesting.put(made, items)
            made.extend(items)
            return
        self._require_made(made)
        if hasattr(made, "extend"):
            made.extend(items)
        else:
            for item in items:
                made.append(item)

    def update(self, made: Any, keys: list[Any], values: list[Any]) -> None:
        if type(made) in _DICTS and id(made) not in self.foreign:
            self.budget.spend_on_keys(keys)
            if type(made) is collections.defaultdict:
                self._construction.nesting.put(made, values)
        else:
            self._require_made(made)
        for key, value in zip(keys, values, strict=True):
            made[key] = value

    def add(self, made: Any, items: list[Any]) -> None:
        self._require_made(made)
        for item in items:
            made.add(item)

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent_load is None:
            message = "it needs a serializer, but none is registered"
            raise UntrustedResult(message)
        self.budget.spend_on_tree([pid], (tuple, list))
        return self._persistent_load(pid)

    def recall(self, symbol: Symbol) -> Any:
        if type(symbol) is not Unbuilt:
            return self._count_symbol(symbol)
        if symbol.value is symbol:
            message = f"it uses an object of {symbol.name!r} before its state is set"
            raise UntrustedResult(message)
        return symbol.value

    def finish(self, value: Any) -> Any:
        if self._symbols:
            message = "its result contains a function, or an object without a state"
            raise UntrustedResult(message)
        return value

    def _count_symbol(self, value: Any) -> Any:
        self._symbols += isinstance(value, Symbol)
        return value

    def _construct(self, name: str, call: Any, arguments: tuple[Any, ...]) -> Any:
        """Call a constructor of the table."""
        if call is None:
            raise _unusual(name)
        return self._count_symbol(self._checked(name, call, self._construction, *arguments))

    def _checked(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except _WRONG_ARGUMENTS as error:
            raise _unusual(name) from error

    def _called(
        self,
        allowed: Any,
        function: Any,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
    ) -> Any:
        """Call a type of the allowlist, and record the new object."""
        if id(allowed) not in self._types:
            raise _refused_call(allowed)
        if "numpy" in sys.modules:
            from functionfuse.storage.file_format import restricted_arrays as arrays

            self._checked(_name(allowed), arrays.require_no_arrays, allowed)
        made = function(*arguments, **keywords)
        if not isinstance(made, _SHARED):
            self._construction.made[id(made)] = made
        return made

    def _require_made(self, made: Any) -> None:
        if id(made) not in self._construction.made or _module_for(made):
            raise _refused_change(made)


def _is_named(allowed: type, file: str | None, path: str) -> bool:
    """Tell whether an allowed type is the class of a script with this name."""
    if allowed.__qualname__ != path and (script_name(allowed) or (None, None))[1] != path:
        return False
    return script_object(file, path) is allowed


_DICTS: Final = frozenset({collections.OrderedDict, collections.defaultdict})


def _set_state(made: Any, state: Any) -> None:
    """Set the state of an object of an allowed type, as `pickle` does."""
    setstate = getattr(made, "__setstate__", None)
    if setstate is not None:
        setstate(state)
        return
    attributes, slots = state if type(state) is tuple and len(state) == 2 else (state, None)  # noqa: PLR2004
    if attributes:
        _require_names(made, attributes)
        vars(made).update({sys.intern(name): value for name, value in attributes.items()})
    if slots:
        _require_names(made, slots)
        for name, value in slots.items():
            if not isinstance(getattr(type(made), name, None), MemberDescriptorType):
                raise _unusual(_name(type(made)))
            setattr(made, name, value)


def _require_names(made: Any, attributes: Any) -> None:
    if type(attributes) is not dict or any(type(name) is not str for name in attributes):
        raise _unusual(_name(type(made)))


def _module_for(made: Any) -> Any:
    """Return `restricted_arrays` for arrays, scalars and dtypes of numpy; None for other objects."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(made, numpy.ndarray | numpy.generic | numpy.dtype):
        return None
    from functionfuse.storage.file_format import restricted_arrays

    return restricted_arrays


def _find_constructor(module: str, name: str) -> Constructor | None:
    """Return the entry for a name; None if no table has one. numpy is imported when a name of it is looked up."""
    if module in _NUMPY_MODULES:
        from functionfuse.storage.file_format import restricted_arrays

        return restricted_arrays.CONSTRUCTORS.get((module, name))
    return CONSTRUCTORS.get((module, name))


def _check(allowed: Any) -> None:
    if isinstance(allowed, type):
        return
    parts = allowed.split(".") if isinstance(allowed, str) else []
    if len(parts) > 1 and all(part.isidentifier() for part in parts):
        return
    message = (
        f"allowed_types contains {allowed!r}: give a type, or its name like 'package.module.Name'"
    )
    raise OptionError(message)


def _name(kind: Any) -> str:
    """Return the name of a class or function, for errors."""
    return f"{getattr(kind, '__module__', '?')}.{getattr(kind, '__qualname__', '?')}"


def _unusual(name: str) -> UntrustedResult:
    return UntrustedResult(f"it uses {name!r} in another way than genuine pickles do")


def _refused_call(function: Any) -> UntrustedResult:
    return UntrustedResult(f"it would call an object of {_name(type(function))!r}")


def _refused_change(made: Any) -> UntrustedResult:
    return UntrustedResult(
        f"it would change an object of {_name(type(made))!r} that it did not create, or that is complete"
    )

"""References to globals of modules, for the pickler: objects that another process can import are not sent.

A process that imports a module has the module's functions, locks and random generators already.
A copy of them would be a second one: a lock that locks nothing, a generator that repeats the numbers of the first.
"""

from __future__ import annotations

import pickle
import sys
import types
from importlib.machinery import ModuleSpec
from operator import attrgetter
from types import BuiltinFunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.process_identity import this_process
from functionfuse._common.script_modules import module_global

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Reduced = tuple[Callable[..., Any], tuple[Any, ...]]

__all__ = [
    "GlobalReference",
    "importable_module",
    "is_generator",
    "reduce_decorated",
    "reduce_generator",
    "reduce_method",
    "reduce_renamed",
    "refer_to_globals",
    "reference_to",
]

_MAX_DECORATORS: Final = 10
_GENERATORS: Final = frozenset(
    {
        ("random", "Random"),
        ("numpy.random._generator", "Generator"),
        ("numpy.random.mtrand", "RandomState"),
        ("torch._C", "Generator"),
    }
)
_LOCK_MODULES: Final = frozenset({"_thread", "threading"})


class GlobalReference:
    """Unpickles as an object of a module, in the process that unpickles it."""

    __slots__ = ("_reduced",)

    def __init__(self, reduced: Reduced) -> None:
        self._reduced = reduced

    def __reduce__(self) -> Reduced:
        return self._reduced


# ---- modules that other processes can import ----

_importable: dict[str, tuple[ModuleType, bool]] = {}


def importable_module(name: Any) -> ModuleType | None:
    """The module of this name, if another process with the same `sys.path` would import the same file."""
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or name in {"__main__", "__mp_main__"} or _is_sent_by_value(name):
        return None
    known = _importable.get(name)
    if known is None or known[0] is not module:
        known = _importable[name] = module, _is_found(module, name)
    return module if known[1] else None


def _is_sent_by_value(name: str) -> bool:
    """Tell whether the user registered a module, or a package around it, with cloudpickle."""
    cloudpickle = sys.modules.get("cloudpickle")  # imported if a module was registered
    registered = () if cloudpickle is None else cloudpickle.list_registry_pickle_by_value()
    return any(name == each or name.startswith(f"{each}.") for each in registered)


def _is_found(module: ModuleType, name: str) -> bool:
    """Tell whether the import system finds a module again: files that were loaded by their path are not found."""
    own = getattr(module, "__spec__", None)
    if not isinstance(own, ModuleSpec):
        return False
    package = name.rpartition(".")[0]
    path = getattr(sys.modules.get(package), "__path__", None) if package else None
    if package and path is None:
        return False
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        found = find(name, path) if find is not None else None
        if found is not None:
            return bool(found.origin == own.origin)
    return False


# ---- decorated functions and classes ----


def reduce_decorated(value: Any) -> Reduced | None:
    """Refer to a function or class by the global of its name, if that is a decorator's object around it."""
    module = importable_module(getattr(value, "__module__", None))
    name = getattr(value, "__qualname__", None)
    if module is None or not isinstance(name, str) or "<" in name:
        return None
    try:
        found: Any = attrgetter(name)(module)
        for _ in range(_MAX_DECORATORS):
            found, name = found.__wrapped__, f"{name}.__wrapped__"
            if found is value:
                return attrgetter(name), (module,)
    except Exception:  # noqa: BLE001 - a user's `__getattr__` may raise anything
        return None
    return None


def reduce_renamed(value: Any) -> Reduced | None:
    """Refer to a function or class that a module has only under another name than its own."""
    module = importable_module(getattr(value, "__module__", None))
    # a closure may be set while the program runs, when a worker that imports the module does not have it
    if module is None or "<locals>" in value.__qualname__:
        return None
    if module is types:  # until Python 3.12, of a class of `make_dataclass`
        found = _imported_global(value)
    else:
        name = _name_of(value, vars(module))
        found = None if name is None else (module, name)
    return None if found is None else (module_global, (found[0].__name__, found[1]))


# ---- random generators and locks ----


def reduce_generator(generator: Any) -> Reduced | None:
    """Refer to the shared generator of a library: of `random` or `numpy.random`."""
    kind = type(generator)
    module = importable_module(kind.__module__) if is_generator(generator) else None
    name = None if module is None else _name_of(generator, vars(module))
    return None if name is None else (attrgetter(name), (module,))


def reduce_method(method: Any) -> Reduced | None:
    """Refer to a method of such a generator, as `random.random` and `numpy.random.permutation` are."""
    if type(method) not in {MethodType, BuiltinFunctionType}:
        return None
    reduced = reduce_generator(method.__self__)
    return None if reduced is None else (getattr, (GlobalReference(reduced), method.__name__))


def refer_to_globals(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the generators and locks among the globals of a function, or attributes of a class, by references."""
    return {name: reference_to(value) for name, value in values.items()}


def reference_to(value: Any) -> Any:
    """A reference to a generator, a method of one or a lock; any other value unchanged."""
    if type(value) in {MethodType, BuiltinFunctionType} and is_generator(value.__self__):
        return GlobalReference((getattr, (reference_to(value.__self__), value.__name__)))
    generator = is_generator(value)
    if not generator and type(value).__module__ not in _LOCK_MODULES:
        return value
    found = _imported_global(value)
    if found is not None:
        return GlobalReference((attrgetter(found[1]), (found[0],)))
    return GlobalReference(_reduce_script_generator(value)) if generator else value


def is_generator(value: Any) -> bool:
    """Tell whether a value is a random generator of Python, numpy or torch."""
    return any((kind.__module__, kind.__qualname__) in _GENERATORS for kind in type(value).__mro__)


def _name_of(value: Any, names: Mapping[str, Any]) -> str | None:
    for name, other in list(names.items()):  # another thread may add some
        if other is value:
            return name
    return None


_found: dict[int, tuple[Any, tuple[ModuleType, str] | None]] = {}  # with the object, by its id


def _imported_global(value: Any) -> tuple[ModuleType, str] | None:
    """The importable module and the name of a global, wherever it was imported from."""
    if id(value) not in _found:
        _found[id(value)] = value, _search_modules(value)
    return _found[id(value)][1]


def _search_modules(value: Any) -> tuple[ModuleType, str] | None:
    for module_name, module in list(sys.modules.items()):
        name = _name_of(value, getattr(module, "__dict__", {}))
        if name is not None and (found := importable_module(module_name)) is not None:
            return found, name
    return None


# ---- generators of a script, in other processes ----

_generators: dict[tuple[str, int], Any] = {}


def _reduce_script_generator(generator: Any) -> Reduced:
    key = this_process(), id(generator)
    # this process uses the script's generator itself; it is held, so that its id is not reused
    _generators[key] = generator
    return _generator_of_process, (key, pickle.dumps(generator))


def _generator_of_process(key: tuple[str, int], stream: bytes) -> Any:
    """The only generator of this process for a global of another process's script, with its own seed.

    Each process that unpickles it draws its own numbers, as with the generator of an imported module.
    """
    if key not in _generators:
        generator = pickle.loads(stream)
        if hasattr(generator, "bit_generator"):
            generator = type(generator)(type(generator.bit_generator)())
        else:
            generator.seed()
        _generators.setdefault(key, generator)
    return _generators[key]

"""The safe mode: other people's results, read without running anything that they bring along.

A pickle is a program for a small machine that may call whatever it can name.
Here it can name plain data, arrays and what the reader allows; all else is refused before it is imported.
The machine is Python's own one written in Python: in the one in C one could not stand beside each call.
"""

from __future__ import annotations

import io
import pickle
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from functionfuse.errors import OptionError, UntrustedResult
from functionfuse.storage.safe_arrays import careful, check_call, check_filling, described

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["Allowed"]

_PATHS: Final = "PurePath PurePosixPath PureWindowsPath Path PosixPath WindowsPath"
_ARRAYS: Final = "_reconstruct scalar"
_DEFAULTS: Final = {
    "builtins": "bool int float complex str bytes bytearray list tuple dict set frozenset "
    "range slice object Ellipsis NotImplemented",
    "collections": "OrderedDict defaultdict deque Counter",
    "datetime": "date time datetime timedelta timezone",
    "zoneinfo": "ZoneInfo",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "uuid": "UUID SafeUUID",
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,  # Python 3.13
    "numpy": "ndarray dtype bool bool_ object_ str_ bytes_ void datetime64 timedelta64 "
    "int8 int16 int32 int64 longlong uint8 uint16 uint32 uint64 ulonglong "
    "float16 float32 float64 longdouble complex64 complex128 clongdouble",
    "numpy._core.multiarray": _ARRAYS,
    "numpy.core.multiarray": _ARRAYS,  # numpy 1
    "numpy._core.numeric": "_frombuffer",
    "numpy.core.numeric": "_frombuffer",
}
_DEFAULT_NAMES: Final = frozenset(
    f"{module}.{name}" for module, names in _DEFAULTS.items() for name in names.split()
)
_GETATTR: Final = "builtins.getattr"
#: What a pickle may name but never change.
_FIXED: Final = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType)
_original: Final[Any] = pickle._Unpickler.dispatch


class Allowed:
    """The types that a result may be made of: plain data, arrays of numpy, and what is added."""

    def __init__(self, types: Iterable[type | str] = ()) -> None:
        """Allow some types besides the usual ones.

        Args:
            types: Types, or their names like `"package.module.Name"`, which are imported when needed.
                Whoever can write a result may call them with any arguments.

        Raises:
            OptionError: One is neither.
        """
        self.types = (types,) if isinstance(types, str | type) else tuple(types)
        self._made = dict(_named(made) for made in self.types)

    def __reduce__(self) -> tuple[type[Allowed], tuple[tuple[type | str, ...]]]:
        return Allowed, (self.types,)

    def __repr__(self) -> str:
        return f"Allowed({list(self.types)!r})"

    def load(
        self,
        stream: bytes | memoryview,
        buffers: Sequence[memoryview],
        persistent_load: Callable[[Any], Any] | None,
    ) -> Any:
        """The value of a pickle stream.

        Raises:
            UntrustedResult: It needs something that is not allowed.
        """
        return _Unpickler(stream, buffers, persistent_load, self._made).load()


class _Unpickler(pickle._Unpickler):
    """Makes and changes nothing but what is allowed."""

    stack: list[Any]
    memo: dict[int, Any]

    def __init__(
        self,
        stream: bytes | memoryview,
        buffers: Sequence[memoryview],
        persistent_load: Callable[[Any], Any] | None,
        made: Mapping[str, type | None],
    ) -> None:
        super().__init__(io.BytesIO(stream), fix_imports=False, buffers=buffers)
        self._find = persistent_load
        self._made = made

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle names, if it may."""
        full = f"{module}.{name}"
        if full in _DEFAULT_NAMES:
            return careful(name, super().find_class(module, name))
        if full == _GETATTR:
            return _method_of_zones
        if full in self._made:
            return self._made[full] or super().find_class(module, name)
        raise _refused(full)

    def persistent_load(self, pid: Any) -> Any:
        """What the reader's own serializers make of what they wrote."""
        if self._find is None:
            message = "it needs a serializer, and there is none"
            raise UntrustedResult(message)
        return self._find(pid)

    def get_extension(self, code: int) -> None:
        """Refuse: an extension may be one that is in use already, and would not be looked up."""
        message = f"it needs the extension {code} of copyreg, which the safe mode does not know"
        raise UntrustedResult(message)

    def load_reduce(self) -> None:
        """Call something; its arguments are above it."""
        check_call(*self.stack[-2:])
        _original[pickle.REDUCE[0]](self)

    def load_newobj(self) -> None:
        """Make an object; the arguments are above its class."""
        check_call(*self.stack[-2:])
        _original[pickle.NEWOBJ[0]](self)

    def load_newobj_ex(self) -> None:
        """Make an object, with keyword arguments on top."""
        check_call(*self.stack[-3:-1])
        _original[pickle.NEWOBJ_EX[0]](self)

    def load_instance(self) -> None:
        """Refuse: so were the objects of Python 2 made."""
        message = "it has objects of Python 2, which the safe mode does not know"
        raise UntrustedResult(message)

    def load_build(self) -> None:
        """Give an object its state."""
        made, state = self.stack[-2:]
        if isinstance(made, _FIXED):
            message = f"it would change {made!r}, not only make objects"
            raise UntrustedResult(message)
        check_filling(made)
        new = described(made, state)
        if new is None:
            _original[pickle.BUILD[0]](self)
        else:
            self.stack.pop()
            self._replace(new)

    def _replace(self, new: Any) -> None:
        """Put another object in place of the last one that was made."""
        old, self.stack[-1] = self.stack[-1], new
        for number in reversed(self.memo):
            if self.memo[number] is old:
                self.memo[number] = new
                return

    dispatch: ClassVar[dict[int, Any]] = {
        **_original,
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.INST[0]: load_instance,
        pickle.OBJ[0]: load_instance,
        pickle.BUILD[0]: load_build,
    }


def _method_of_zones(owner: Any, name: Any) -> Any:
    """Stands for `getattr`, by which a time zone is pickled; gives nothing else."""
    from zoneinfo import ZoneInfo

    if owner is ZoneInfo and name == "_unpickle":
        return ZoneInfo._unpickle  # type: ignore[attr-defined]
    raise _refused(_GETATTR)


def _named(allowed: type | str) -> tuple[str, type | None]:
    if isinstance(allowed, type):
        return f"{allowed.__module__}.{allowed.__qualname__}", allowed
    if isinstance(allowed, str) and all(part.isidentifier() for part in allowed.split(".")):
        if "." in allowed:
            return allowed, None
        allowed = f"builtins.{allowed}"
    message = (
        f"{allowed!r} is no type to allow: give a type, or its name like 'package.module.Name'"
    )
    raise OptionError(message)


def _refused(name: str) -> UntrustedResult:
    return UntrustedResult(
        f"it needs {name!r}, which is not among the allowed types and was not run. If you know "
        f"that it does no harm whatever it is called with, allow it: allowed_types=[{name!r}]"
    )

"""Arrays in the safe mode: no pickle may say that numbers are pointers.

numpy believes its pickles: what it rebuilds arrays with takes any memory for objects, if it is told to.
Here these functions are called in the one way in which numpy's own pickles call them.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import UntrustedResult

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["careful", "check_call", "check_filling", "described"]

_ALIGNED: Final = 0x80  # a flag of a dtype, NPY_ALIGNED_STRUCT
_KIND_OF_AN_EMPTY_ARRAY: Final = (b"b", "b")


def careful(name: str, found: Any) -> Any:
    """A function of numpy with a look at its arguments before; all else as it is."""
    check = _CHECKS.get(name)
    if check is None:
        return found

    @functools.wraps(found)
    def checked(*arguments: Any) -> Any:
        if not check(sys.modules["numpy"], *arguments):
            raise _unusual(found)
        return found(*arguments)

    return checked


def check_call(function: Any, arguments: Any) -> None:
    """Refuse to call a type of numpy, but for a dtype of a kind.

    Raises:
        UntrustedResult: That is what it would do.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(function, type):
        return
    if issubclass(function, numpy.dtype):
        kind, *rest = arguments
        if not isinstance(kind, str | type) or rest != [False, True]:
            raise _unusual(function)
    elif issubclass(function, numpy.ndarray | numpy.generic):
        raise _unusual(function)


def check_filling(made: Any) -> None:
    """Refuse to fill an array again: another may share the memory that this would free.

    Raises:
        UntrustedResult: It has been filled.
    """
    numpy = sys.modules.get("numpy")
    if numpy and isinstance(made, numpy.ndarray) and made.nbytes:
        message = "it would fill an array twice"
        raise UntrustedResult(message)


def described(made: Any, state: Any) -> Any:
    """The dtype that a state describes, made anew; None if it is the state of something else.

    The state itself could lie about where in its memory an array holds pointers.

    Raises:
        UntrustedResult: There is no such dtype.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(made, numpy.dtype):
        return None
    try:
        return _made_anew(numpy, made, *state)
    except Exception as error:
        message = f"it describes a dtype that there cannot be: {error}"
        raise UntrustedResult(message) from error


def _made_anew(  # noqa: PLR0913 - the state of a dtype, as numpy pickles it
    numpy: Any,
    made: Any,
    _version: int,
    order: str,
    base: Any,
    names: Any,
    fields: Any,
    size: int,
    _alignment: int,
    flags: int,
    metadata: Any = None,
) -> Any:
    if base is not None:
        return numpy.dtype(base)
    if names:
        record = _record(numpy, names, fields, size, flags)
        return record if made.type is numpy.void else numpy.dtype((made.type, record))
    if made.kind in "mM" and metadata:
        unit, count, *_ = metadata[1]
        made = numpy.dtype(f"{made.kind}8[{count}{unit.decode()}]")
    ordered = made.newbyteorder(order)
    return made if ordered.isnative else ordered


def _record(numpy: Any, names: Any, fields: Any, size: int, flags: int) -> Any:
    columns = [fields[name] for name in names]
    formats, offsets = [column[0] for column in columns], [column[1] for column in columns]
    titles = [column[2] if column[2:] else None for column in columns]
    spec = {
        "names": list(names),
        "formats": formats,
        "offsets": offsets,
        "titles": titles,
        "itemsize": size,
    }
    return numpy.dtype(spec, align=bool(flags & _ALIGNED))


def _is_empty_array(numpy: Any, subtype: Any, shape: Any, kind: Any) -> bool:
    return (
        isinstance(subtype, type)
        and issubclass(subtype, numpy.ndarray)
        and shape == (0,)
        and kind in _KIND_OF_AN_EMPTY_ARRAY
    )


def _is_plain_memory(numpy: Any, memory: Any, dtype: Any, *_: Any) -> bool:
    """Tell whether there can be no pointers: not in the dtype, nor in what the memory is of."""
    return (
        isinstance(memory, bytes | bytearray | memoryview)
        and isinstance(dtype, numpy.dtype)
        and not dtype.hasobject
    )


def _is_scalar(numpy: Any, dtype: Any, content: Any) -> bool:
    """Tell whether the content is of the dtype; that of a record with objects is an array of it."""
    if not isinstance(dtype, numpy.dtype):
        return False
    if not dtype.hasobject:
        return isinstance(content, bytes) and len(content) == dtype.itemsize
    return dtype.type is not numpy.void or (
        type(content) is numpy.ndarray and content.dtype == dtype and content.shape == ()
    )


def _unusual(function: Any) -> UntrustedResult:
    name = f"{function.__module__}.{function.__name__}"
    return UntrustedResult(f"it would call {name!r} in another way than numpy's own pickles do")


_CHECKS: Final[dict[str, Callable[..., bool]]] = {
    "_reconstruct": _is_empty_array,
    "_frombuffer": _is_plain_memory,
    "scalar": _is_scalar,
}

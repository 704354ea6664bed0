"""Reduction of exceptions for the picklers: without a call of a user's `__init__`, and without frames."""

from __future__ import annotations

import copyreg
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.pickle_buffers import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["reduce_exception"]

#: Exceptions whose `__init__` sets fields outside of `args` and `__dict__`.
_WITH_FIELDS: Final = (
    *(AttributeError, BaseExceptionGroup, ImportError, NameError, OSError),
    *(StopIteration, SyntaxError, SystemExit, UnicodeError),
)


def reduce_exception(error: BaseException, registered: Callable[[Any], Any] | None) -> Any:
    """Reduce an exception; None if pickle's own reduction is right.

    By default, an exception is unpickled by a call of its class with `args`,
    which are seldom the arguments of a class with its own `__init__`.

    Args:
        error: The exception.
        registered: The reducer in the pickler's dispatch table.
            The reducer of `tblib`, which Dask installs for all classes, also pickles frames, causes and contexts.
    """
    if registered is not None and not registered.__module__.startswith("tblib"):
        return None
    kind = type(error)
    if _needs_no_init(kind):
        return copyreg.__newobj__, (kind, *error.args), error.__dict__ or None  # type: ignore[attr-defined]
    return None if registered is None else error.__reduce_ex__(PROTOCOL)


def _needs_no_init(kind: type[BaseException]) -> bool:
    return (
        isinstance(kind.__init__, FunctionType)
        and isinstance(kind.__new__, BuiltinFunctionType)
        and kind.__reduce__ is BaseException.__reduce__
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__setstate__ is BaseException.__setstate__
        and kind.__setattr__ is BaseException.__setattr__
        and not issubclass(kind, _WITH_FIELDS)
    )

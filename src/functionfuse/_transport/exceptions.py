"""Exceptions on their way back from another process.

One that cannot be pickled and made again there is lost, with what it says, and often what carries it as well.
"""

from __future__ import annotations

import os
import pickle
import platform
import traceback
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from functionfuse._common.pickler import Reducers

__all__ = [
    "RemoteTraceback",
    "describe_exception",
    "dump_exception",
    "dump_exception_value",
    "load_exception",
    "round_trips",
    "this_process",
]

_LIBRARY_MODULES: Final = frozenset(
    {"functionfuse._kernel.kernel", "functionfuse._transport.worker"}
)


class RemoteTraceback(Exception):
    """Where an exception was raised in another process, as text; shown as the cause of that exception."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def this_process() -> tuple[str, int]:
    """What tells a process from all others."""
    return platform.node(), os.getpid()


def describe_exception(error: BaseException) -> str:
    """An exception's type and what it says, also if it cannot say it."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        text = "(its __str__ raises)"
    name = type(error).__qualname__
    return f"{name}: {text}" if text else name


def dump_exception_value(error: BaseException) -> bytes:
    """An exception as bytes that `pickle.loads` makes an exception of: itself, if there is any way."""
    from functionfuse._common.pickler import dumps

    reducers = _ExceptionReducers(error)
    try:
        data = dumps(error, reducers=reducers.table)
        arrived = pickle.loads(data)
    except Exception as reason:  # noqa: BLE001 - whatever the user's classes raise
        message = (
            f"the node's function raised {describe_exception(error)}, which cannot be sent to another process "
            f"({describe_exception(reason)})"
        )
        envelope = EngineError(message)
        envelope.__dict__.update(reducers.picklable_attributes(error))
        data = dumps(envelope, reducers=reducers.table)
        arrived = envelope
    written = {name: value for name, value in error.__dict__.items() if name.startswith("__")}
    if written.keys() <= arrived.__dict__.keys():
        return data
    return pickle.dumps(_Written(data, written))


class _Written:
    """Becomes, on arrival, an exception with the notes and marks that its own `__reduce__` leaves out."""

    def __init__(self, data: bytes, attributes: dict[str, Any]) -> None:
        self._state = data, attributes

    def __reduce__(self) -> tuple[Any, ...]:
        return _with_attributes, self._state


def _with_attributes(data: bytes, attributes: dict[str, Any]) -> BaseException:
    error: BaseException = pickle.loads(data)
    error.__dict__.update(attributes)
    return error


def dump_exception(error: BaseException) -> bytes:
    """An exception as bytes, as `dump_exception_value` does it, with its traceback as text."""
    lines = traceback.format_exception(type(error), error, _user_frames(error.__traceback__))
    return pickle.dumps((dump_exception_value(error), "".join(lines)))


def load_exception(data: bytes) -> BaseException:
    """The exception out of `dump_exception`; its cause says where it was raised."""
    pickled, text = pickle.loads(data)
    try:
        error: BaseException = pickle.loads(pickled)
    except Exception as reason:  # noqa: BLE001 - whatever the user's classes raise
        error = EngineError(
            f"an exception came that cannot be made here ({describe_exception(reason)})"
        )
    BaseException.__setattr__(error, "__cause__", RemoteTraceback(text))  # also of a frozen one
    return error


def _user_frames(whole: TracebackType | None) -> TracebackType | None:
    """A traceback from the first line on that is not ours."""
    rest = whole
    while rest is not None and rest.tb_frame.f_globals.get("__name__") in _LIBRARY_MODULES:
        rest = rest.tb_next
    return rest or whole


def round_trips(value: Any, reducers: Reducers | None = None) -> bool:
    """Tell whether a value can be pickled and unpickled.

    Args:
        value: The value: most exceptions, but not those whose `__init__` takes other arguments than it hands on.
        reducers: The pickler's dispatch table, if it is not the usual one.
    """
    from functionfuse._common.pickler import dumps

    try:
        pickle.loads(dumps(value, reducers=reducers))
    except Exception:  # noqa: BLE001 - whatever the user's classes raise
        return False
    return True


class _ExceptionReducers:
    """Reducers for the classes of an exception and of its parts whose own reducers do not round-trip.

    Not registered with `copyreg`: that would change how the user's process pickles these classes.
    """

    def __init__(self, error: BaseException) -> None:
        from functionfuse._common.pickler import with_reducers

        self._by_type: dict[type, Callable[[Any], Any]] = {}
        self.table = with_reducers(self._by_type)
        self._add(error)

    def _add(self, error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            for part in error.exceptions:
                self._add(part)
        if not round_trips(error, self.table):
            self._by_type[type(error)] = self._reduce

    def _reduce(self, error: BaseException) -> tuple[Any, ...]:
        args = tuple(map(self._picklable_or_repr, error.args))
        return _rebuild, (type(error), args, self.picklable_attributes(error))

    def picklable_attributes(self, error: BaseException) -> dict[str, Any]:
        """The attributes of an exception, as their `repr` where they cannot be pickled."""
        return {name: self._picklable_or_repr(value) for name, value in error.__dict__.items()}

    def _picklable_or_repr(self, value: Any) -> Any:
        return value if round_trips(value, self.table) else repr(value)


def _rebuild(
    kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]
) -> BaseException:
    error = kind.__new__(kind, *args)
    BaseException.__setattr__(error, "args", args)  # also of a frozen dataclass
    error.__dict__.update(attributes)
    return error

"""Exceptions on their way back from another process.

One that cannot be pickled and made again there is lost, with what it says, and often what carries it as well.
"""

from __future__ import annotations

import copyreg
import os
import pickle
import platform
import traceback
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common import pickler
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "RemoteTraceback",
    "describe_exception",
    "dump_exception",
    "dump_exception_value",
    "ensure_picklable",
    "load_exception",
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
    ensure_picklable(error)
    try:
        data: bytes = pickler.dumps(error)
        arrived = pickle.loads(data)
    except Exception as reason:  # noqa: BLE001 - whatever the user's classes raise
        message = (
            f"the node's function raised {describe_exception(error)}, which cannot be sent to another process "
            f"({describe_exception(reason)})"
        )
        envelope = EngineError(message)
        envelope.__dict__.update(_picklable_attributes(error.__dict__))
        data = pickler.dumps(envelope)
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


def ensure_picklable(error: BaseException) -> bool:
    """See to it that an exception arrives as what it is, also if its class does not help; tell whether it does.

    Exceptions are made again by calling their class with `args`,
    which fails where `__init__` takes other arguments than it hands on.
    """
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            ensure_picklable(part)
    if _round_trips(error):
        return True
    # for all pickling that it goes through on the way, in this process
    copyreg.pickle(type(error), _reduce)
    return _round_trips(error)


def _round_trips(value: Any) -> bool:
    try:
        pickle.loads(pickler.dumps(value))
    except Exception:  # noqa: BLE001 - whatever the user's classes raise
        return False
    return True


def _reduce(error: BaseException) -> tuple[Any, ...]:
    args = tuple(map(_picklable_or_repr, error.args))
    return _rebuild, (type(error), args, _picklable_attributes(error.__dict__))


def _picklable_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: _picklable_or_repr(value) for name, value in attributes.items()}


def _picklable_or_repr(value: Any) -> Any:
    return value if _round_trips(value) else repr(value)


def _rebuild(
    kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]
) -> BaseException:
    error = kind.__new__(kind, *args)
    BaseException.__setattr__(error, "args", args)  # also of a frozen dataclass
    error.__dict__.update(attributes)
    return error

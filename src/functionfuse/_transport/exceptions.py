"""Envelopes for exceptions between processes: pickled, with a summary and the traceback as text.

An exception that does not survive pickling is lost with its message, and often the message that contains it as well.
So each is pickled and unpickled once where it was raised, and replaced by an `EngineError` if nothing else helps.
"""

from __future__ import annotations

import pickle
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = [
    "ExceptionEnvelope",
    "PickledException",
    "RemoteTraceback",
    "describe_exception",
    "dump_exception",
    "load_exception",
    "pickle_exception",
    "round_trips",
    "unpickle_error",
]

_SHOWN_LINES: Final = 100  # at the start and at the end of a traceback
_LIBRARY_MODULES: Final = frozenset(
    {
        "functionfuse._kernel.kernel",
        "functionfuse._context.run_in_context",
        "functionfuse._transport.worker",
    }
)


class RemoteTraceback(Exception):
    """The traceback of another process as text; shown as the cause of the exception that was raised there."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def describe_exception(error: BaseException) -> str:
    """The type and message of an exception, also if its `__str__` raises."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        text = "(its __str__ raises)"
    name = type(error).__qualname__
    return f"{name}: {text}" if text else name


def unpickle_error(what: str, error: Exception, remedy: str) -> EngineError:
    """The error for something that a worker cannot unpickle, most often since it cannot import a module.

    Args:
        what: What cannot be unpickled.
        error: The reason.
        remedy: What to do.
    """
    if isinstance(error, ModuleNotFoundError) and error.name:
        reason = f"its process cannot import the module {error.name!r}"
    else:
        reason = describe_exception(error)
    return EngineError(f"{what} cannot be unpickled in a worker ({reason}): {remedy}")


# ---- pickled exceptions ----


class PickledException:
    """An exception as plain strings and bytes, which every process can unpickle."""

    __slots__ = ("_error", "_stream", "_traceback", "summary")

    def __init__(
        self, summary: str, stream: bytes, traceback: str, error: BaseException | None = None
    ) -> None:
        """Take a pickle of `pickle_exception`.

        Args:
            summary: The exception's type and message.
            stream: The pickle.
            traceback: The traceback; empty if the engine transports tracebacks itself.
            error: The exception, which is not pickled again and stays in this process.
        """
        self.summary = summary
        self._stream = stream
        self._traceback = traceback
        self._error = error

    @property
    def error(self) -> BaseException:
        """The exception, unpickled on first use; the remote traceback is its cause."""
        if self._error is None:
            self._error = self._load()
        return self._error

    def _load(self) -> BaseException:
        try:
            error: BaseException = pickle.loads(self._stream)
        except Exception as reason:  # noqa: BLE001 - whatever the user's classes raise
            error = EngineError(
                f"the node's function raised {self.summary}, "
                f"which cannot be unpickled here ({describe_exception(reason)})"
            )
        if self._traceback:  # set like this for frozen dataclasses
            BaseException.__setattr__(error, "__cause__", RemoteTraceback(self._traceback))
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        return PickledException, (self.summary, self._stream, self._traceback)


def pickle_exception(
    error: BaseException, *, with_traceback: bool, keep: bool = False
) -> PickledException:
    """Pickle an exception, or an `EngineError` with its summary if it cannot be pickled.

    Args:
        error: The exception.
        with_traceback: The engine does not transport tracebacks.
        keep: In this process, the exception is not unpickled, but the same object.
    """
    text = _format_traceback(error) if with_traceback else ""
    kept = error if keep else None
    return PickledException(describe_exception(error), _dump(error), text, kept)


def _format_traceback(error: BaseException) -> str:
    """The traceback of an exception; of a runaway recursion, only the start and the end."""
    frames = _user_frames(error.__traceback__)
    lines = "".join(traceback.format_exception(type(error), error, frames)).splitlines()
    left_out = len(lines) - 2 * _SHOWN_LINES
    if left_out > 0:
        lines[_SHOWN_LINES:-_SHOWN_LINES] = [f"  ... {left_out:,} lines ..."]
    return "".join(f"{line}\n" for line in lines)


def dump_exception(error: BaseException) -> bytes:
    """Pickle an exception with its traceback as text, for `load_exception` in another process."""
    return pickle.dumps(pickle_exception(error, with_traceback=True))


def load_exception(data: bytes) -> BaseException:
    """Unpickle an exception of `dump_exception`; its cause is the remote traceback."""
    pickled: PickledException = pickle.loads(data)
    return pickled.error


class ExceptionEnvelope(Exception):
    """Envelope of an exception for engines that would truncate, replace or lose it.

    All of it is in `args`: tblib, which Dask uses, unpickles exceptions without a call of `__init__`.
    """

    def __init__(self, content: BaseException | PickledException) -> None:
        """Put an exception into an envelope.

        Args:
            content: The exception, which is then `error` in this process; or a pickled one.
        """
        if isinstance(content, BaseException):
            content = pickle_exception(content, with_traceback=False, keep=True)
        super().__init__(content)

    @property
    def error(self) -> BaseException:
        """The exception, unpickled on first use."""
        pickled: PickledException = self.args[0]
        return pickled.error

    def __str__(self) -> str:
        pickled: PickledException = self.args[0]
        return pickled.summary


def _dump(error: BaseException) -> bytes:
    """Pickle an exception, or what replaces it."""
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
    annotations = {name: value for name, value in error.__dict__.items() if name.startswith("__")}
    if annotations.keys() <= arrived.__dict__.keys():
        return data
    return pickle.dumps(_Annotated(data, annotations))


class _Annotated:
    """Unpickles as an exception with the notes and marks that the exception's own `__reduce__` omits."""

    def __init__(self, data: bytes, attributes: dict[str, Any]) -> None:
        self._state = data, attributes

    def __reduce__(self) -> tuple[Any, ...]:
        return _with_attributes, self._state


def _with_attributes(data: bytes, attributes: dict[str, Any]) -> BaseException:
    error: BaseException = pickle.loads(data)
    error.__dict__.update(attributes)
    return error


def _user_frames(whole: TracebackType | None) -> TracebackType | None:
    """A traceback without the library's own frames at its start."""
    rest = whole
    while rest is not None and rest.tb_frame.f_globals.get("__name__") in _LIBRARY_MODULES:
        rest = rest.tb_next
    return rest or whole


def round_trips(value: Any, dumps: Callable[[Any], bytes]) -> bool:
    """Tell whether a value can be pickled and unpickled.

    Args:
        value: The value: most exceptions, but not those whose `__init__` takes other arguments than it hands on.
        dumps: Pickles it as the engine or this library does.
    """
    try:
        pickle.loads(dumps(value))
    except Exception:  # noqa: BLE001 - whatever the user's classes raise
        return False
    return True


class _ExceptionReducers:
    """Reducers for the classes of an exception and of its parts whose own reducers do not round-trip.

    Not registered with `copyreg`: that would change how the user's process pickles these classes.
    """

    def __init__(self, error: BaseException) -> None:
        from functionfuse._common.pickler import dumps, with_reducers

        self._by_type: dict[type, Callable[[Any], Any]] = {}
        self.table = with_reducers(self._by_type)
        self._dumps = partial(dumps, reducers=self.table)
        self._add(error)

    def _add(self, error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            for part in error.exceptions:
                self._add(part)
        if not round_trips(error, self._dumps):
            self._by_type[type(error)] = self._reduce

    def _reduce(self, error: BaseException) -> tuple[Any, ...]:
        args = tuple(map(self._picklable_or_repr, error.args))
        return _rebuild, (type(error), args, self.picklable_attributes(error))

    def picklable_attributes(self, error: BaseException) -> dict[str, Any]:
        """The attributes of an exception, as their `repr` where they cannot be pickled."""
        return {name: self._picklable_or_repr(value) for name, value in error.__dict__.items()}

    def _picklable_or_repr(self, value: Any) -> Any:
        return value if round_trips(value, self._dumps) else repr(value)


def _rebuild(
    kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]
) -> BaseException:
    error = kind.__new__(kind, *args)
    BaseException.__setattr__(error, "args", args)  # also of a frozen dataclass
    error.__dict__.update(attributes)
    return error

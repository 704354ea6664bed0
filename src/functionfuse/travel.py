"""Exceptions on their way back from another process.

One that cannot be pickled and made again there is lost, with what it says, and often what carries it as well.
"""

from __future__ import annotations

import copyreg
import os
import pickle
import platform
from typing import Any

import cloudpickle

from functionfuse.errors import EngineError

__all__ = ["described", "dump_error", "make_sendable", "this_process"]


def this_process() -> tuple[str, int]:
    """What tells a process from all others."""
    return platform.node(), os.getpid()


def described(error: BaseException) -> str:
    """An exception's type and what it says, also if it cannot say it."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        text = "(its __str__ raises)"
    name = type(error).__qualname__
    return f"{name}: {text}" if text else name


def dump_error(error: BaseException) -> bytes:
    """An exception as bytes that `pickle.loads` makes an exception of: itself, if there is any way."""
    make_sendable(error)
    try:
        data: bytes = cloudpickle.dumps(error)
        pickle.loads(data)
    except Exception as reason:  # noqa: BLE001 - whatever the user's classes raise
        message = (
            f"the node's function raised {described(error)}, which cannot be sent to another process "
            f"({described(reason)})"
        )
        stand_in = EngineError(message)
        stand_in.__dict__.update(_parts(error.__dict__))
        data = cloudpickle.dumps(stand_in)
    return data


def make_sendable(error: BaseException) -> None:
    """See to it that an exception arrives as what it is, also if its class does not help.

    Exceptions are made again by calling their class with `args`,
    which fails where `__init__` takes other arguments than it hands on.
    """
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            make_sendable(part)
    if not _arrives(error):
        # for all pickling that it goes through on the way, in this process
        copyreg.pickle(type(error), _reduced)


def _arrives(value: Any) -> bool:
    try:
        cloudpickle.loads(cloudpickle.dumps(value))
    except Exception:  # noqa: BLE001 - whatever the user's classes raise
        return False
    return True


def _reduced(error: BaseException) -> tuple[Any, ...]:
    args = tuple(map(_part, error.args))
    return _made_again, (type(error), args, _parts(error.__dict__))


def _parts(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: _part(value) for name, value in attributes.items()}


def _part(value: Any) -> Any:
    return value if _arrives(value) else repr(value)


def _made_again(
    kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]
) -> BaseException:
    error = kind.__new__(kind, *args)
    BaseException.__setattr__(error, "args", args)  # also of a frozen dataclass
    error.__dict__.update(attributes)
    return error

"""Exceptions on their way back from another process.

One that cannot be pickled and made again there is lost, with what it says, and takes the task run's state with it.
"""

from __future__ import annotations

import copyreg
import os
import platform
from typing import Any

import cloudpickle

__all__ = ["make_sendable", "this_process"]


def this_process() -> tuple[str, int]:
    """What tells a process from all others."""
    return platform.node(), os.getpid()


def make_sendable(error: BaseException) -> None:
    """See to it that an exception arrives as what it is, also if its class does not help.

    Exceptions are made again by calling their class with `args`,
    which fails where `__init__` takes other arguments than it hands on.
    """
    if not _arrives(error):
        # for all pickling that the task's state goes through on the way, in this process
        copyreg.pickle(type(error), _reduced)


def _arrives(value: Any) -> bool:
    try:
        cloudpickle.loads(cloudpickle.dumps(value))
    except Exception:  # noqa: BLE001 - whatever the user's classes raise
        return False
    return True


def _reduced(error: BaseException) -> tuple[Any, ...]:
    args = tuple(map(_part, error.args))
    attributes = {name: _part(value) for name, value in error.__dict__.items()}
    return _made_again, (type(error), args, attributes)


def _part(value: Any) -> Any:
    return value if _arrives(value) else repr(value)


def _made_again(
    kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]
) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error

"""Module with state, for the tests of state that nodes share with the modules of their process."""

from __future__ import annotations

import random
import sys
import threading
from functools import lru_cache, wraps
from random import random as throw
from typing import TYPE_CHECKING, Any

from functionfuse import workflow

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LOCK", "Counter", "cached", "draw", "locked", "own_state"]

rng = random.Random()  # noqa: S311 - not for secrets
LOCK = threading.Lock()
STATE: list[Any] = []


def timed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator of the user's own."""

    @wraps(function)
    def call(*args: Any) -> Any:
        return function(*args)

    return call


@workflow
def locked(value: Any) -> bool:
    """Take a lock of the module, and tell whether its state is that of the module."""
    with LOCK:
        STATE.append(value)
    return _is_own(STATE, LOCK)


@workflow
@timed
def draw(_: int) -> float:
    """Draw from the module's own generator."""
    return rng.random()


@workflow
@lru_cache
def cached(_: int) -> bool:
    """A function that remembers its values."""
    return _is_own(STATE, LOCK)


@workflow
class Counter:
    """A class of a module with a lock."""

    def __init__(self) -> None:
        """Start."""
        self.throws = [throw()]  # noqa: S311

    def throw(self) -> float:
        """Throw once more."""
        with LOCK:
            return throw()  # noqa: S311

    def is_own(self) -> bool:
        """Tell whether its class is that of the module."""
        module: Any = sys.modules[__name__]
        return type(self) is module.Counter.__wrapped__ and _is_own(STATE, LOCK)


def own_state() -> Callable[[], bool]:
    """A function in a function, which uses the module's globals."""

    def check() -> bool:
        with LOCK:
            return _is_own(STATE, LOCK)

    return check


def _is_own(state: Any, lock: Any) -> bool:
    module: Any = sys.modules[__name__]
    return module.STATE is state and module.LOCK is lock

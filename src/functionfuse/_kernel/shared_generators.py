"""Guard of the random generators that all threads of a process share: nodes that must not draw from them get an error.

While it is installed, each method of `random` and `numpy.random` asks for the node whose function runs,
by a context variable: other threads, which belong to engines and to the user, draw as before.
"""

from __future__ import annotations

import random
import sys
from contextvars import ContextVar
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Self

from functionfuse.errors import SeedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import FrameType, ModuleType

__all__ = ["GENERATOR", "GuardScope", "is_guarded", "numpy_random", "refuse"]

#: The generator whose methods are the functions of `random`.
GENERATOR: Final[Any] = random.seed.__self__  # type: ignore[attr-defined]
#: All methods of it call one of these, which are also functions of the module.
_PRIMITIVES: Final = {name: getattr(random, name) for name in ("random", "getrandbits")}
_node: Final[ContextVar[str | None]] = ContextVar("functionfuse_guarded_node", default=None)


def is_guarded() -> bool:
    """Tell whether the function of a guarded node runs here."""
    return _node.get() is not None


def refuse(node: str, generator: str) -> SeedError:
    """Return the error of a node that uses a shared generator."""
    return SeedError(
        f"node {node!r} uses the generator of {generator!r}, which all threads of its process share: "
        "its numbers would differ from run to run. Take a generator or a seed of its own as a parameter, "
        "`rng=RNG` or `seed=SEED`, and call set_seed() on the workflow; or run each node alone in its process"
    )


def numpy_random() -> ModuleType | None:
    """`numpy.random`, imported now, so that a node does not import it with a seed of its own; None without numpy."""
    known = sys.modules.get("numpy.random")
    if known is not None or find_spec("numpy") is None:
        return known
    return import_module("numpy.random")


class GuardScope:
    """Context manager: the function of a guarded node runs in its block."""

    __slots__ = ("_name", "_token")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> Self:
        _guard.enter()
        self._token: Token[str | None] = _node.set(self._name)
        return self

    def __exit__(self, *_: object) -> None:
        _node.reset(self._token)
        _guard.leave()


def _check(generator: str) -> None:
    name = _node.get()
    if name is not None:
        raise refuse(name, generator)


class _Guard:
    """Installed while a guarded node runs in any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._count = 0
        self._remove: list[Callable[[], object]] = []

    def enter(self) -> None:
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._remove = [_guard_random(), _guard_numpy()]

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                for remove in self._remove:
                    remove()


_guard: Final = _Guard()


# ---- the generator of `random` ----


def _checked(original: Callable[..., Any]) -> Callable[..., Any]:
    def draw(*args: Any) -> Any:
        if is_guarded() and not _is_jitter():
            _check("random")
        return original(*args)

    return draw


#: Libraries that draw for the pauses between attempts and for names, never for results.
_JITTER: Final = frozenset(
    {
        *(
            "aiobotocore",
            "aiohttp",
            "azure",
            "backoff",
            "botocore",
            "distributed",
            "email",
            "google",
        ),
        *("httpx", "prefect", "ray", "smtplib", "tempfile", "tenacity", "tornado", "urllib3"),
    }
)


def _is_jitter() -> bool:
    """Tell whether the function that draws is of such a library."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") == "random":
        frame = frame.f_back
    name = frame.f_globals.get("__name__") if frame is not None else None
    return isinstance(name, str) and name.partition(".")[0] in _JITTER


_CHECKED: Final = {name: _checked(original) for name, original in _PRIMITIVES.items()}


def _guard_random() -> Callable[[], None]:
    """Check calls of the primitives, by the generator's other methods and by the module's name."""
    leftover = GENERATOR.gauss_next  # a number that `random.gauss` would return without drawing
    GENERATOR.gauss_next = None
    vars(GENERATOR).update(_CHECKED)
    vars(random).update(_CHECKED)

    def remove() -> None:
        for name, original in _PRIMITIVES.items():
            vars(GENERATOR).pop(name, None)
            if vars(random)[name] is _CHECKED[name]:
                vars(random)[name] = original
        if GENERATOR.gauss_next is None:
            GENERATOR.gauss_next = leftover

    return remove


# ---- the generator of `numpy.random` ----


def _nothing() -> None:
    """Remove nothing."""


def _guard_numpy() -> Callable[[], None]:
    """Check where numpy's generator takes its lock, which it does for each call."""
    module: Any = numpy_random()
    if not hasattr(module, "set_bit_generator"):  # no numpy, or one before 1.24
        return _nothing
    original = module.get_bit_generator()
    guarded = _guarded_bit_generator(original)
    _exchange(module, guarded)

    def remove() -> None:
        if module.get_bit_generator() is guarded:
            _exchange(module, original)

    return remove


def _exchange(module: Any, bit_generator: Any) -> None:
    """Set the bit generator, and keep the number that `normal` would return without drawing."""
    state = module.get_state(legacy=False)
    module.set_bit_generator(bit_generator)
    if state.get("has_gauss"):
        module.set_state(state)


@lru_cache(maxsize=1)  # for all nodes: there is one global generator
def _guarded_bit_generator(original: Any) -> Any:
    """Return a bit generator with the state of another, whose lock checks for guarded nodes when it is acquired."""
    kind = type(original)

    class Guarded(kind):  # type: ignore[misc,valid-type]
        lock = _CheckedLock(original.lock)
        capsule = original.capsule

        @property
        def state(self) -> Any:
            return original.state

        @state.setter
        def state(self, value: Any) -> None:
            original.state = value

        def _legacy_seeding(self, seed: Any) -> None:
            original._legacy_seeding(seed)  # noqa: SLF001 - as numpy.random.seed calls it

        def __reduce__(self) -> Any:
            return original.__reduce__()

    return Guarded()


class _CheckedLock:
    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        _check("numpy.random")
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

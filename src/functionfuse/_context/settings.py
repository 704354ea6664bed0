"""Interpreter and library settings that nodes can see: read, write and default value of each.

Only settings that the caller changed are sent to workers, so that no worker imports a library for them.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse._common.recursion import recursion_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["changed_settings", "is_of_thread", "set_temporarily", "use_own_decimal_context"]


class _Setting(NamedTuple):
    read: Callable[[], Any]
    write: Callable[[Any], object]
    default: str  # its repr
    library: str = "sys"  # the setting is read only if this is imported
    of_thread: bool = False  # each thread has its own


def _decimal_context() -> Any:
    import decimal

    context = decimal.getcontext().copy()
    context.clear_flags()
    return context


def _set_decimal_context(context: Any) -> None:
    import decimal

    decimal.setcontext(context.copy())  # each node has flags of its own


def use_own_decimal_context() -> None:
    """Copy the decimal context in the current context: it is one object, which a node may change in place."""
    decimal = sys.modules.get("decimal")
    if decimal is not None:
        decimal.setcontext(decimal.getcontext().copy())


def _locale() -> Sequence[str]:
    import locale

    return [locale.setlocale(getattr(locale, name)) for name in _CATEGORIES]


def _set_locale(values: Sequence[str]) -> None:
    import locale

    for name, value in zip(_CATEGORIES, values, strict=True):
        locale.setlocale(getattr(locale, name), value)


def _socket_timeout() -> float | None:
    import socket

    return socket.getdefaulttimeout()


def _set_socket_timeout(seconds: float | None) -> None:
    import socket

    socket.setdefaulttimeout(seconds)


def _numpy_errors() -> Any:
    import numpy as np

    return np.geterr(), np.geterrcall()


def _set_numpy_errors(values: tuple[Mapping[str, Any], Any]) -> None:
    import numpy as np

    handling, function = values
    np.seterr(**handling)
    np.seterrcall(function)


def _numpy_print_options() -> Any:
    import numpy as np

    options: Mapping[str, Any] = np.get_printoptions()
    return {name: options[name] for name in _PRINT_OPTIONS if name in options}


def _set_numpy_print_options(options: Mapping[str, Any]) -> None:
    import numpy as np

    np.set_printoptions(**options)


_CATEGORIES: Final = ("LC_NUMERIC", "LC_TIME", "LC_COLLATE", "LC_MONETARY")
_DECIMAL: Final = (
    "Context(prec=28, rounding=ROUND_HALF_EVEN, Emin=-999999, Emax=999999, capitals=1, clamp=0, "
    "flags=[], traps=[InvalidOperation, DivisionByZero, Overflow])"
)
_NUMPY_ERRORS: Final = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
_PRINT_OPTIONS: Final[Mapping[str, Any]] = {
    "edgeitems": 3,
    "threshold": 1000,
    "floatmode": "maxprec",
    "precision": 8,
    "suppress": False,
    "linewidth": 75,
    "nanstr": "nan",
    "infstr": "inf",
    "sign": "-",
    "formatter": None,
    "legacy": False,
}
_DIGITS: Final = sys.int_info.default_max_str_digits
_SETTINGS: Final[Mapping[str, _Setting]] = {
    "current folder": _Setting(os.getcwd, os.chdir, ""),
    "recursion limit": _Setting(recursion_limit, sys.setrecursionlimit, "1000"),
    "integer digits": _Setting(
        sys.get_int_max_str_digits, sys.set_int_max_str_digits, repr(_DIGITS)
    ),
    "socket timeout": _Setting(_socket_timeout, _set_socket_timeout, "None", "socket"),
    "locale": _Setting(_locale, _set_locale, repr(["C"] * len(_CATEGORIES)), "locale"),
    "decimal context": _Setting(
        _decimal_context, _set_decimal_context, _DECIMAL, "decimal", of_thread=True
    ),
    "numpy errors": _Setting(
        _numpy_errors, _set_numpy_errors, repr((_NUMPY_ERRORS, None)), "numpy", of_thread=True
    ),
    "numpy print options": _Setting(
        _numpy_print_options,
        _set_numpy_print_options,
        repr(_PRINT_OPTIONS),
        "numpy",
        of_thread=True,
    ),
}


def changed_settings() -> Iterator[tuple[str, Any]]:
    """The names and values of the settings that differ from their defaults."""
    for name, setting in _SETTINGS.items():
        if setting.library in sys.modules:
            try:
                value = setting.read()
            except Exception:  # noqa: BLE001, S112 - a folder that was removed, a library
                continue
            if repr(value) != setting.default:
                yield name, value


def is_of_thread(name: str) -> bool:
    """Tell whether each thread has its own value of a setting."""
    return _SETTINGS[name].of_thread


def set_temporarily(values: Mapping[str, Any]) -> Callable[[], None]:
    """Set settings in this process and thread; return the function that restores them.

    A setting that this process cannot have, as a folder of another machine, is not changed.
    """
    before: list[tuple[Callable[[Any], object], Any]] = []
    for name, value in values.items():
        setting = _SETTINGS[name]
        try:
            old = setting.read()
            if old != value:
                setting.write(value)
        except Exception:  # noqa: BLE001, S112 - a folder, a locale, a library
            continue
        before.append((setting.write, old))

    def restore() -> None:
        for write, old in reversed(before):
            try:
                write(old)
            except Exception:  # noqa: BLE001, S112 - a folder that the node removed
                continue

    return restore

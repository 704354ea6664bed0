"""Type check of option values by the annotations of `prefect.task` and `prefect.flow`.

Prefect validates few of them before a run, and fails during the run at others, like retries given as text.
"""

from __future__ import annotations

import inspect
import sys
import typing
from datetime import timedelta
from numbers import Integral, Real
from types import NoneType, SimpleNamespace, UnionType
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["check_option_types"]

#: The accepted type by the annotated one: numbers of numpy are accepted as well.
_PLAIN: Final[dict[Any, type]] = {
    str: str,
    bool: bool,
    int: Integral,
    float: Real,
    timedelta: timedelta,
    NoneType: NoneType,
}


def check_option_types(
    what: str, decorator: Callable[..., Any], options: Mapping[str, Any]
) -> None:
    """Refuse values that are not of the annotated type, for annotations of simple types: text, numbers, times, None.

    Args:
        what: The method that set the options, for the message.
        decorator: `prefect.task` or `prefect.flow`.
        options: Its arguments.

    Raises:
        OptionError: A value has another type.
    """
    parameters = inspect.signature(decorator).parameters
    for name, value in options.items():
        kinds = (
            _declared_types(decorator, parameters[name].annotation) if name in parameters else ()
        )
        if kinds and not isinstance(value, tuple(_PLAIN[kind] for kind in kinds)):
            expected = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
            message = f"{what}: {name!r} must be {expected}, not {value!r}"
            raise OptionError(message)


def _declared_types(decorator: Callable[..., Any], annotation: Any) -> tuple[type, ...]:
    """The types that an annotation allows; empty unless it resolves to simple types only."""
    holder = SimpleNamespace(__annotations__={"value": annotation})
    try:
        hint = typing.get_type_hints(holder, vars(sys.modules[decorator.__module__]))["value"]
    except Exception:  # noqa: BLE001 - names that are imported for type checkers only
        return ()
    kinds = typing.get_args(hint) if _is_union(hint) else (hint,)
    return kinds if all(kind in _PLAIN for kind in kinds) else ()


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in {typing.Union, UnionType}

"""Values of options against the types that Prefect declares for them, where these are plain ones.

Prefect looks at few of them before a run, and fails in it at others: at retries that are text, for one.
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

#: By what is declared, what is taken: Python's numbers stand for those of numpy as well.
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
    """See that values are of the types that a decorator declares.

    Args:
        what: Where the options are given, for the message.
        decorator: `prefect.task` or `prefect.flow`.
        options: What it is given.

    Raises:
        OptionError: One is not, of those that are text, numbers, times and the like.
    """
    parameters = inspect.signature(decorator).parameters
    for name, value in options.items():
        kinds = _declared(decorator, parameters[name].annotation) if name in parameters else ()
        if kinds and not isinstance(value, tuple(_PLAIN[kind] for kind in kinds)):
            wanted = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
            message = f"{what}: {name!r} is {wanted}, not {value!r}"
            raise OptionError(message)


def _declared(decorator: Callable[..., Any], annotation: Any) -> tuple[type, ...]:
    """The types that an annotation allows if all are plain; none if not, or if it cannot be understood."""
    holder = SimpleNamespace(__annotations__={"value": annotation})
    try:
        hint = typing.get_type_hints(holder, vars(sys.modules[decorator.__module__]))["value"]
    except Exception:  # noqa: BLE001 - names that only type checkers have
        return ()
    kinds = typing.get_args(hint) if _is_union(hint) else (hint,)
    return kinds if all(kind in _PLAIN for kind in kinds) else ()


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in {typing.Union, UnionType}

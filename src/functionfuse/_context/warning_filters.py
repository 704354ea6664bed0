"""Warning filters of the caller, without importing the modules of their categories in workers."""

from __future__ import annotations

import re
import sys
import warnings
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WarningFilter", "apply_filters", "entries", "warning_filters"]

#: Where an engine's own threads would end if their warnings were errors.
_ENGINES: Final = re.compile(r"(distributed|tornado|zict|ray|prefect)\b")


class WarningFilter(NamedTuple):
    """One of `warnings.filters`, which plain pickle loads in every process but for a category of `__main__`."""

    action: str
    message: str | None  # the pattern, or a text that has to be equal
    category: type | tuple[str, str]  # or its module and name
    module: str | None
    lineno: int
    compiled: tuple[bool, bool]  # whether message and module are patterns

    def entry(self) -> tuple[Any, ...]:
        """The entry of `warnings.filters`."""
        category = self.category
        if isinstance(category, tuple):
            category = _named_category(*category)
        message = (
            re.compile(self.message or "", re.IGNORECASE) if self.compiled[0] else self.message
        )
        module = re.compile(self.module or "") if self.compiled[1] else self.module
        return self.action, message, category, module, self.lineno


def warning_filters() -> Sequence[WarningFilter]:
    """The filters of this process."""
    return [_filter(*each) for each in warnings.filters]


def _filter(action: str, message: Any, category: Any, module: Any, lineno: int) -> WarningFilter:
    compiled = hasattr(message, "pattern"), hasattr(module, "pattern")
    message, module = getattr(message, "pattern", message), getattr(module, "pattern", module)
    return WarningFilter(action, message, _category(category), module, lineno, compiled)


def _category(category: Any) -> Any:
    if not isinstance(category, type):  # several
        return category
    module, name = category.__module__, category.__qualname__
    found = getattr(sys.modules.get(module), name, None)
    by_value = module in {"builtins", "__main__"} or found is not category
    return category if by_value else (module, name)


class _Named(type):
    """A category of a module that is not imported: it has the classes of this name."""

    place: tuple[str, str]

    def __subclasscheck__(cls, other: type) -> bool:
        return cls.place in [(each.__module__, each.__qualname__) for each in other.__mro__]


def _named_category(module: str, name: str) -> type:
    found = getattr(sys.modules.get(module), name, None)
    if isinstance(found, type):
        return found
    return _Named(name, (Warning,), {"__module__": module, "place": (module, name)})


def apply_filters(filters: Sequence[Any]) -> None:
    """Use entries of `warnings.filters`; modules forget which warnings they have shown."""
    warnings.resetwarnings()
    warnings.filters[:] = filters  # type: ignore[index]


def entries(filters: Sequence[WarningFilter]) -> Sequence[Any]:
    """The entries for a worker, whose engine may issue warnings, too."""
    given = [each.entry() for each in filters]
    if any(action == "error" for action, *_ in given):
        return [("ignore", None, Warning, _ENGINES, 0), *given]
    return given

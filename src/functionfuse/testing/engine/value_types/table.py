"""The table of value types: names, and functions that make a value."""

from __future__ import annotations

import functools
import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse.comparison.exact import difference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["LARGE", "ValueType", "difference_of", "value_types"]

#: Bytes; from fewer on, each engine sends a value in another way than a small one.
LARGE: Final = 240_000
#: The modules of this package, by the library that they need.
_MODULES: Final = {
    "sys": ("standard", "containers"),
    "numpy": ("arrays",),
    "pandas": ("pandas_objects",),
    "polars": ("polars_objects",),
    "pyarrow": ("arrow_tables",),
    "xarray": ("datasets",),
    "scipy": ("sparse",),
    "torch": ("tensors",),
}


class ValueType(NamedTuple):
    """A type or shape of values."""

    name: str
    make: Callable[[], Any]  # equal values in each process
    #: What differs between a value and a copy, where `difference` does not fit.
    compare: Callable[[Any, Any], str] | None = None
    #: A call with it may be a GraphError, which says what to do.
    may_be_refused: bool = False


@functools.cache
def value_types() -> Mapping[str, ValueType]:
    """All types of the installed libraries, by name."""
    table: dict[str, ValueType] = {}
    for library, modules in _MODULES.items():
        for module in modules if library == "sys" or find_spec(library) else ():
            found = importlib.import_module(f"{__package__}.{module}").VALUE_TYPES
            assert not {each.name for each in found} & table.keys(), module
            table |= {each.name: each for each in found}
    return table


def difference_of(name: str, actual: Any, *, ignore_writeable: bool = False) -> str:
    """What differs between a value of this type and what should be a copy of it; empty if nothing does."""
    kind = value_types()[name]
    expected = kind.make()
    if kind.compare is not None and type(actual) is type(expected):
        return kind.compare(expected, actual)
    return difference(expected, actual, ignore_writeable=ignore_writeable)

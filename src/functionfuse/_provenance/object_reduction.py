"""Parts of any object: those that pickle would send, in an order that depends on the value alone."""

from __future__ import annotations

import copyreg
import threading
from dataclasses import fields
from functools import cached_property
from io import IOBase
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final
from weakref import ReferenceType

from functionfuse._provenance.raw_parts import Undigestible

if TYPE_CHECKING:
    from collections.abc import Callable

    from functionfuse._provenance.raw_parts import Parts

__all__ = ["reduce_object"]

_PROTOCOL: Final = 4
_LENGTH: Final = 6  # of a reduction
_PAIR: Final = 2  # of attributes in a dict and in slots
#: Attributes that are not part of a value: versions of libraries, and what is computed when it is asked for.
_NOT_VALUES: Final = frozenset(
    {
        *("_sklearn_version", "_stop_words_id"),  # the latter is the address of an object
        *("_has_canonical_format", "_has_sorted_indices"),  # of sparse matrices
        "__networkx_cache__",
    }
)
_WORDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (IOBase, "an open file"),
    ((GeneratorType, AsyncGeneratorType), "a generator"),
    (CoroutineType, "a coroutine"),
    (ReferenceType, "a weak reference"),
    ((type(threading.Lock()), type(threading.RLock())), "a lock"),
)


def reduce_object(value: Any, name_of: Callable[[Any], str]) -> Parts:
    """Take an object apart as pickle would.

    Raises:
        Undigestible: It cannot be pickled.
    """
    try:
        reduced = _reduced(value)
    except Exception as error:  # noqa: BLE001 - of the user's classes
        raise Undigestible(_in_words(value, error)) from None
    if isinstance(reduced, str):
        return ("global", getattr(value, "__module__", None) or "", reduced), (), ()
    full: tuple[Any, ...] = (*reduced, *[None] * _LENGTH)
    function, arguments, state, items, pairs, setter = full[:_LENGTH]
    kind = type(value)
    labels: list[Any] = ["", *(f".__reduce__()[{n}]" for n in range(len(arguments)))]
    values: list[Any] = [function, *arguments]
    names: list[str] = []
    for name, part in _attributes(state, kind):
        names.append(name)
        labels.append(f".{name}")
        values.append(part)
    item_list: list[Any] = [*items] if items is not None else []
    pair_list: list[Any] = [*pairs] if pairs is not None else []
    labels += range(len(item_list))
    labels += [(key,) for key, _ in pair_list for _ in range(2)]
    values += [*item_list, *(part for pair in pair_list for part in pair)]
    if setter is not None:
        labels.append("")
        values.append(setter)
    header = (
        "object",
        name_of(kind),
        len(arguments),
        tuple(names),
        len(item_list),
        len(pair_list),
    )
    return header, labels, values


def _reduced(value: Any) -> Any:
    reduce = copyreg.dispatch_table.get(type(value))
    return value.__reduce_ex__(_PROTOCOL) if reduce is None else reduce(value)


def _attributes(state: Any, kind: type) -> list[tuple[str, Any]]:
    """The attributes in the state of an object, by name; another state is one attribute without a name."""
    if state is None:
        return []
    if getattr(kind.__getstate__, "__name__", "") == "_dataclass_getstate":  # of one with slots
        state = dict(zip([field.name for field in fields(kind)], state, strict=True))
    pair = state if type(state) is tuple and len(state) == _PAIR else (state, None)
    if not all(each is None or type(each) is dict for each in pair):
        return [("", state)]
    parts = {**(pair[0] or {}), **(pair[1] or {})}
    if not all(type(name) is str for name in parts):
        return [("", state)]
    return sorted(
        (name, part)
        for name, part in parts.items()
        if name not in _NOT_VALUES and not isinstance(getattr(kind, name, None), cached_property)
    )


def _in_words(value: Any, error: Exception) -> str:
    for kinds, words in _WORDS:
        if isinstance(value, kinds):
            return words
    kind = type(value)
    if kind.__module__ in {"socket", "_socket"}:
        return "a socket"
    return f"an object of type {kind.__qualname__!r}, which cannot be pickled: {error}"

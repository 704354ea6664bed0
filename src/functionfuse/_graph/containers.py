"""Standard containers: take them apart, and build them again with other parts."""

from __future__ import annotations

import sys
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import ItemsView, KeysView, ValuesView
from functools import partial
from itertools import chain
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Build = Callable[[Sequence[Any]], Any]

__all__ = ["COPIED", "build_dict", "build_iterator", "part_label", "splitter"]

#: Containers that are copied when they are captured, and once more for each call.
COPIED: Final = frozenset({list, tuple, set, frozenset, dict})


def splitter(kind: type) -> Callable[[Any], tuple[Build, list[Any]]] | None:
    """Return the function that takes a container of a type apart.

    It returns the parts, and the function that builds such a container of parts.
    None for any other type: only these very types are known, since subclasses may need more than their parts.
    """
    found = _SPLITTERS.get(kind)
    if found is None and kind is getattr(sys.modules.get("argparse"), "Namespace", None):
        return partial(_split_attributes, kind)
    return found


# ---- building: functions of this module, so that a container can be pickled ----


def _pairs(parts: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Keys and values out of parts in which they alternate."""
    keys_and_values = iter(parts)
    return zip(keys_and_values, keys_and_values, strict=True)


def build_dict(parts: Iterable[Any]) -> dict[Any, Any]:
    """Build a dict from its keys and values in alternation."""
    return dict(_pairs(parts))


def build_iterator(parts: Iterable[Any]) -> Iterator[Any]:
    """Build an iterator of items."""
    return iter([*parts])


def _build_mapping(kind: Callable[..., Any], parts: Iterable[Any]) -> Any:
    return kind(_pairs(parts))


def _build_counter(parts: Iterable[Any]) -> Counter[Any]:
    return Counter(build_dict(parts))


def _build_attributes(kind: Callable[[], Any], parts: Iterable[Any]) -> Any:
    made = kind()
    vars(made).update(_pairs(parts))
    return made


def _build_of_all(kind: Callable[..., Any], parts: Iterable[Any]) -> Any:
    return kind(*parts)


def _build_keys(ordered: Callable[..., Any], parts: Iterable[Any]) -> Any:
    return ordered.fromkeys(parts).keys()  # type: ignore[attr-defined] # of dict or OrderedDict


def _build_values(ordered: Callable[..., Any], parts: Iterable[Any]) -> Any:
    return ordered(enumerate(parts)).values()


def _build_items(ordered: Callable[..., Any], parts: Iterable[Any]) -> Any:
    return ordered(_pairs(parts)).items()


# ---- taking apart ----


def _alternating(mapping: Mapping[Any, Any]) -> list[Any]:
    return [*chain.from_iterable(mapping.items())]


def _split_attributes(kind: Callable[[], Any], value: Any) -> tuple[Build, list[Any]]:
    return partial(_build_attributes, kind), _alternating(vars(value))


def _split_default_dict(value: defaultdict[Any, Any]) -> tuple[Build, list[Any]]:
    return partial(_build_default_dict, value.default_factory), _alternating(value)


def _build_default_dict(factory: Callable[[], Any] | None, parts: Iterable[Any]) -> Any:
    return defaultdict(factory, _pairs(parts))


def _split_deque(value: deque[Any]) -> tuple[Build, list[Any]]:
    return partial(deque, maxlen=value.maxlen), [*value]


def _split_slice(value: slice) -> tuple[Build, list[Any]]:
    return partial(_build_of_all, slice), [value.start, value.stop, value.step]


def _split_proxy(value: MappingProxyType[Any, Any]) -> tuple[Build, list[Any]]:
    try:
        mapping = value.copy()
    except AttributeError:  # of a mapping without that method
        mapping = dict(value)
    return partial(_build_of_all, MappingProxyType), [mapping]


def _split_view(kind: type, value: Any) -> tuple[Build, list[Any]]:
    return partial(_build_of_all, kind), [value._mapping]  # noqa: SLF001 - a view has no public name for it


def _dict_views(ordered: Any) -> dict[type, Callable[[Any], tuple[Build, list[Any]]]]:
    """Split functions of the views of dicts, which are built from a new dict."""
    empty = ordered()
    return {
        type(empty.keys()): lambda value: (partial(_build_keys, ordered), [*value]),
        type(empty.values()): lambda value: (partial(_build_values, ordered), [*value]),
        type(empty.items()): lambda value: (
            partial(_build_items, ordered),
            [*chain.from_iterable(value)],
        ),
    }


_SPLITTERS: Final[Mapping[type, Callable[[Any], tuple[Build, list[Any]]]]] = {
    **{kind: partial(lambda kind, value: (kind, [*value]), kind) for kind in COPIED - {dict}},
    dict: lambda value: (build_dict, _alternating(value)),
    OrderedDict: lambda value: (partial(_build_mapping, OrderedDict), _alternating(value)),
    defaultdict: _split_default_dict,
    Counter: lambda value: (_build_counter, _alternating(value)),
    deque: _split_deque,
    ChainMap: lambda value: (partial(_build_of_all, ChainMap), [*value.maps]),
    MappingProxyType: _split_proxy,
    UserDict: lambda value: (partial(_build_of_all, UserDict), [value.data]),
    UserList: lambda value: (partial(_build_of_all, UserList), [value.data]),
    SimpleNamespace: partial(_split_attributes, SimpleNamespace),
    slice: _split_slice,
    **_dict_views(dict),
    **_dict_views(OrderedDict),
    **{kind: partial(_split_view, kind) for kind in (KeysView, ValuesView, ItemsView)},
}

# ---- where a part is ----

_ITEMS_VIEWS: Final[frozenset[type]] = frozenset({type({}.items()), type(OrderedDict().items())})
_KEYED: Final = frozenset({dict, OrderedDict, defaultdict, Counter}) | _ITEMS_VIEWS
_WRAPPERS: Final = frozenset(
    {MappingProxyType, UserDict, UserList, KeysView, ValuesView, ItemsView}
)
_SETS: Final = frozenset({set, frozenset})


def part_label(kind: type, parts: Sequence[Any], number: int) -> str:
    """Where a part of a container is, as `item 'rate'`; empty for the container inside a wrapper."""
    if kind in _WRAPPERS:
        return ""
    if kind in _SETS:
        return "a member"
    if kind in _KEYED:
        return f"item {parts[number - 1]!r}" if number % 2 else "a key"
    if kind in _SPLITTERS and kind is not SimpleNamespace:
        return f"item {number}"
    return f"attribute {parts[number - 1]!r}"

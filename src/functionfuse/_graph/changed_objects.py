"""Detect objects that change between two calls that capture them: nodes have the object, not its contents.

An array that is refilled in a loop and given to three calls has its last contents in all of them.
A sample of the contents is taken at the first call and compared at later ones.
"""

from __future__ import annotations

import sys
from collections import deque
from enum import Enum
from functools import cached_property, partial
from itertools import islice
from operator import attrgetter
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from functionfuse._common.user_warnings import user_location, warn_user
from functionfuse._graph.nodes import ATOMS
from functionfuse.errors import MutationWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["forget_objects", "note_object"]

_CLOSELY: Final = 16  # the first calls with an object; then it is looked at after twice as many
_ELEMENTS: Final = 256  # of an array
_ROWS: Final = 8  # of a frame
_ITEMS: Final = 16  # of a container, or attributes of an object
_PARTS: Final = 200  # of an object with all its parts
_KEPT: Final = 16  # objects to which there are no weak references
_HEAP_TYPE: Final = 1 << 9  # a class that is defined in Python
_CONTAINERS: Final = frozenset({list, tuple, dict, set, frozenset})


_version_of: Final = attrgetter("_version")


class _Captured:
    """An object that a call was given."""

    __slots__ = ("calls", "location", "object", "sample")

    def __init__(self, sample: Any, reference: Callable[[], Any]) -> None:
        self.object = reference
        self.sample = sample
        self.location = user_location()
        self.calls = 1


_captured: Final[dict[int, _Captured]] = {}
_kept: Final[deque[int]] = deque()


def note_object(value: Any) -> None:
    """Note an object that a call captures by reference; warn if it has changed since an earlier call."""
    known = _captured.get(id(value))
    if known is not None and known.object() is value:
        known.calls += 1
        if known.calls <= _CLOSELY or known.calls & (known.calls - 1) == 0:
            _compare(value, known)
    else:
        sample = _sample_or_none(value)
        if sample is not None:
            _captured[id(value)] = _Captured(sample, _reference(value))


def _reference(value: Any) -> Callable[[], Any]:
    if type(value).__weakrefoffset__:
        return ref(value, partial(_forget, id(value)))
    _kept.append(id(value))
    if len(_kept) > _KEPT:
        _captured.pop(_kept.popleft(), None)
    return lambda: value


def forget_objects() -> None:
    """Forget all objects: a workflow runs, and what is changed afterwards is changed for the next one."""
    _captured.clear()
    _kept.clear()


def _forget(number: int, reference: ref[Any]) -> None:
    known = _captured.get(number)
    if known is not None and known.object is reference:
        del _captured[number]


def _compare(value: Any, known: _Captured) -> None:
    sample = _sample_or_none(value)
    if sample == known.sample:
        return
    known.sample = sample
    kind = type(value).__name__
    message = (
        f"this {kind} was given to the call at {known.location} as well, and was changed since: "
        "calls capture it by reference, so both nodes will get its last contents. "
        "Pass a copy to each call: values.copy() or copy.deepcopy(values)"
    )
    warn_user(message, MutationWarning)


def _is_mutable(value: Any) -> bool:
    """Tell whether a value can change and can be sampled."""
    kind = type(value)
    if isinstance(value, type | Enum | PurePath) or callable(value):
        return False
    parameters = getattr(kind, "__dataclass_params__", None)
    if parameters is not None and parameters.frozen:
        return False
    python = kind.__flags__ & _HEAP_TYPE or kind in _MUTABLE
    return bool(python) or (hasattr(value, "__array__") and bool(getattr(value, "shape", ())))


_MUTABLE: Final = (bytearray,)


def _sample_or_none(value: Any) -> Any:
    """The sample of a value; None if it cannot change or cannot be sampled."""
    try:
        return _Sampler().sample(value) if _is_mutable(value) else None
    except Exception:  # noqa: BLE001 - whatever its classes raise
        return None


class _Sampler:
    """Makes samples: values that are equal as long as others do not change, as far as some of their parts tell."""

    def __init__(self) -> None:
        self._left = _PARTS

    def sample(self, value: Any) -> Any:
        """The sample of a value."""
        kind = type(value)
        self._left -= 1
        if kind in ATOMS:
            return kind, repr(value) if kind is float or kind is complex else value
        if kind in _CONTAINERS:
            return kind, len(value), self._some(value.items() if kind is dict else value)
        data = _sample_data(value)
        return (kind, self._some(_attributes(value))) if data is None else data

    def _some(self, parts: Iterable[Any]) -> list[Any]:
        first = islice(parts, _ITEMS)
        return [self.sample(part) for part in first if self._left > 0]


def _attributes(value: Any) -> list[tuple[str, Any]]:
    """The attributes of an object, without those that it may compute when it is looked at."""
    kind = type(value)
    return [
        (name, part)
        for name, part in sorted(getattr(value, "__dict__", {}).items())
        if "cache" not in name and not isinstance(getattr(kind, name, None), cached_property)
    ]


def _sample_data(value: Any) -> Any:
    """The sample of an array or a frame; None for other values."""
    if type(value) is bytearray:
        return len(value), bytes(value[:: max(len(value) // _ELEMENTS, 1)])
    if hasattr(value, "untyped_storage"):  # a tensor of PyTorch's counts its changes
        return _version_of(value)
    if hasattr(value, "iloc"):
        step = max(len(value) // _ROWS, 1)
        rows = value.iloc[::step].to_numpy().tolist()
        return value.shape, str(rows), str(list(value.axes[-1][:_ITEMS]))
    if "numpy" in sys.modules and isinstance(value, sys.modules["numpy"].ndarray):
        step = max(value.size // _ELEMENTS, 1)
        return value.shape, value.dtype.str, value.flat[::step].tobytes()
    return None

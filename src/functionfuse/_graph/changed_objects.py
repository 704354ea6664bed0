"""Changed objects: warn if an object changes between two calls that capture it by reference.

An array that is refilled in a loop and passed to three calls has its last contents in all of them.
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

_ALWAYS_COMPARED: Final = 16  # calls with an object; later ones compare it at powers of two
_ELEMENTS: Final = 256  # of an array
_ROWS: Final = 8  # of a frame
_ITEMS: Final = 16  # of a container, or attributes of an object
_PARTS: Final = 200  # of an object with all its parts
_MAX_HELD: Final = 16  # objects without weak references, held strongly
_HEAP_TYPE: Final = 1 << 9  # a class that is defined in Python
_CONTAINERS: Final = frozenset({list, tuple, dict, set, frozenset})

_version_of: Final = attrgetter("_version")


class _Captured:
    """An object that a call captured."""

    __slots__ = ("calls", "location", "object", "sample")

    def __init__(self, sample: Any, reference: Callable[[], Any]) -> None:
        self.object = reference
        self.sample = sample
        self.location = user_location()
        self.calls = 1


_captured: Final[dict[int, _Captured]] = {}
_held: Final[deque[int]] = deque()


def note_object(value: Any) -> None:
    """Note an object that a call captures by reference; warn if it has changed since an earlier call."""
    known = _captured.get(id(value))
    if known is not None and known.object() is value:
        known.calls += 1
        if known.calls <= _ALWAYS_COMPARED or known.calls & (known.calls - 1) == 0:
            _compare(value, known)
    else:
        sample = _sample_or_none(value)
        if sample is not None:
            _captured[id(value)] = _Captured(sample, _reference(value))


def _reference(value: Any) -> Callable[[], Any]:
    if type(value).__weakrefoffset__:
        return ref(value, partial(_forget, id(value)))
    _held.append(id(value))
    if len(_held) > _MAX_HELD:
        _captured.pop(_held.popleft(), None)
    return lambda: value


def forget_objects() -> None:
    """Forget all objects, since a workflow runs: later changes are for the next workflow."""
    _captured.clear()
    _held.clear()


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
    except Exception:  # noqa: BLE001 - its classes raise any exception
        return None


class _Sampler:
    """Takes samples of values: the sample of an unchanged value stays equal."""

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
    """The attributes of an object, without cached ones, which it may compute on access."""
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

"""Borrowed values: results and instances that contain an argument of the call that made them, or a part of it.

A node that changes such a result changes the value of the node that the argument came from.
"""

from __future__ import annotations

import gc
import sys
from collections import OrderedDict, deque
from enum import Enum
from pathlib import PurePath
from threading import Lock
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.nodes import ATOMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from functionfuse._kernel.argument_sources import Owner, Part

__all__ = ["borrowed_values_of", "forget_run"]

_MAX_RUNS: Final = 2  # in a worker process, which does not learn of the end of a run
_MAX_OBJECTS: Final = 100_000  # of one value that are searched
_MUTABLE: Final = (list, dict, set, bytearray, deque)
_IMMUTABLE: Final = (type, Enum, PurePath, FunctionType, BuiltinFunctionType, ModuleType)
_HEAP_TYPE: Final = 1 << 9  # a class that is defined in Python


class BorrowedValues:
    """The borrowed values of one run in one process."""

    def __init__(self) -> None:
        self._owners: dict[str, Owner] = {}  # an owner of parts, by the node that returned them
        self._instances: dict[int, tuple[Any, list[tuple[Owner, Any]]]] = {}  # by id

    def owner_behind(self, owner: Owner) -> Owner | None:
        """The owner whose value a change of this owner's value would change; None if the change is allowed."""
        if owner.shared_with or not owner.node:
            return owner
        return self._owners.get(owner.node)

    def of_instance(self, instance: Any) -> Sequence[tuple[Owner, Any]]:
        """The borrowed parts of an instance."""
        held, parts = self._instances.get(id(instance), (None, []))
        return parts if held is instance else ()

    def add_value(self, node: str, value: Any, arguments: Iterable[Part]) -> None:
        """Record which argument the result of a node contains."""
        for owner, _ in self._find_contained(value, arguments):
            self._owners.setdefault(node, owner)

    def add_instance(self, instance: Any, arguments: Iterable[Part]) -> None:
        """Record which arguments an instance holds after a call."""
        known = [*self.of_instance(instance)]
        held = {id(part) for _, part in known}
        new = [
            pair for pair in self._find_contained(instance, arguments) if id(pair[1]) not in held
        ]
        if new:
            self._instances[id(instance)] = instance, known + new

    def _find_contained(self, value: Any, arguments: Iterable[Part]) -> Iterator[tuple[Owner, Any]]:
        inside: set[int] | None = None
        for part in arguments:
            owner = self.owner_behind(part.owner)
            if owner is not None:
                inside = _memory(value) if inside is None else inside
                if not inside.isdisjoint(_memory(part.value)):
                    yield owner, part.value


_runs: Final[OrderedDict[str, BorrowedValues]] = OrderedDict()
_lock: Final = Lock()


def borrowed_values_of(run: str) -> BorrowedValues:
    """The borrowed values of a run; drops those of the oldest run."""
    with _lock:
        values = _runs.setdefault(run, BorrowedValues())
        while len(_runs) > _MAX_RUNS and next(iter(_runs)) != run:
            _runs.popitem(last=False)
        return values


def forget_run(run: str) -> None:
    """Release the borrowed values of a run."""
    with _lock:
        _runs.pop(run, None)


def _memory(value: Any) -> set[int]:
    """The ids of the mutable objects in a value; of arrays, those of the arrays that own their memory."""
    found: set[int] = set()
    seen: dict[int, Any] = {}
    waiting = [value]
    while waiting and len(seen) < _MAX_OBJECTS:
        part = waiting.pop()
        kind = type(part)
        if kind in ATOMS or isinstance(part, _IMMUTABLE) or id(part) in seen:
            continue
        seen[id(part)] = part
        if _is_array(part):
            found.add(id(_base(part)))
        elif isinstance(part, _MUTABLE) or kind.__flags__ & _HEAP_TYPE:
            found.add(id(part))
            if not kind.__module__.startswith("pandas"):  # frames copy columns before they change
                waiting += gc.get_referents(part)
        else:
            waiting += gc.get_referents(part)
    return found


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _base(array: Any) -> Any:
    while _is_array(array.base):
        array = array.base
    return array if array.base is None else array.base

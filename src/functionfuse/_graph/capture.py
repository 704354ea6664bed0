"""Argument capture: copy containers among a call's arguments when the call is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import islice
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.changed_objects import note_object
from functionfuse._graph.containers import COPIED, build_iterator, part_label, splitter
from functionfuse._graph.cycles import CyclicCopier, find_objects
from functionfuse._graph.nodes import ATOMS, Container, Item, Node
from functionfuse._graph.objects import split_object
from functionfuse._graph.placeholder import Placeholder
from functionfuse._graph.search import find_placeholder
from functionfuse._graph.signature import base_name
from functionfuse.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from functionfuse._graph.signature import Signature

    Label = Callable[[Sequence[Any], int], str]

__all__ = ["capture_arguments"]


def capture_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any], signature: Signature
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Check and capture arguments: copy containers, and turn those that hold nodes into a `Container`.

    A list that grows after the call, or a dict of parameters that is changed for the next call,
    then has the same effect as in plain Python.
    Iterators are exhausted now, and each execution gets a new one.
    Other objects are captured by reference, and must not hold nodes.

    Args:
        args: The positional arguments.
        kwargs: The keyword arguments, which the caller does not use afterwards.
        signature: The signature of the function.

    Raises:
        TypeError: An argument is missing, surplus or unknown.
        GraphError: A container contains itself, or a node is in an object of another type.
    """
    signature.check(args, kwargs)
    if signature.defaults is not None:
        args, kwargs = signature.defaults.added_to(args, kwargs)
    if _UNCHANGED_TYPES.issuperset(map(type, args)) and (
        not kwargs or _UNCHANGED_TYPES.issuperset(map(type, kwargs.values()))
    ):
        return args, kwargs or _NONE
    capture = _Capture(signature)
    captured = tuple([capture.argument(value, number) for number, value in enumerate(args)])
    return captured, {name: capture.argument(value, name) for name, value in kwargs.items()}


_NONE: Final[dict[str, Any]] = {}  # shared by all calls without keywords; never changed

_UNCHANGED_TYPES: Final = ATOMS | {Node, Item}
_REFERENCE_TYPES: Final = frozenset({Node, Item, Container})
_FLAT: Final = frozenset({list, tuple, set, frozenset})
_OPEN: Final = object()  # in the memo: a container whose parts are being captured
_MAX_ITEMS: Final = 1_000_000  # of an iterator


class _Refused(Exception):
    """An argument cannot be captured; its labels lead from the refused part outwards."""

    def __init__(self, problem: str, *labels: str) -> None:
        super().__init__(problem)
        self.labels = [*labels]


class _Member(list[Any]):
    """In the memo: a dataclass instance is copied as a part of another, inside these containers."""


class _Cycle(Exception):
    """A dataclass instance refers to itself; `root` is the outermost object that takes part."""

    def __init__(self, root: Any) -> None:
        super().__init__()
        self.root = root


class _Capture:
    """Captures the arguments of one call; an object that occurs twice is captured once."""

    __slots__ = ("_memo", "_signature")

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        # by id: the object, held so that its id is not reused, and its captured form
        self._memo: dict[int, tuple[Any, Any]] = {}

    def argument(self, value: Any, place: int | str) -> Any:
        """Capture one argument, given its number or name.

        Raises:
            GraphError: It cannot be captured.
        """
        kind = type(value)
        if kind in _UNCHANGED_TYPES:
            return value
        if kind in _FLAT and ATOMS.issuperset(map(type, value)):  # one pass in C
            return self._memo.setdefault(id(value), (value, kind(value)))[1]
        try:
            return self._capture(value)
        except RecursionError:
            problem = (
                "contains itself, or is nested deeper than Python's recursion limit: "
                "make it in a @workflow function and pass that node instead"
            )
            message = self._message(place, problem, ())
        except _Refused as refused:
            message = self._message(place, str(refused), refused.labels)
        raise GraphError(message)

    def _message(self, place: int | str, problem: str, labels: Iterable[str]) -> str:
        name = place if isinstance(place, str) else self._signature.argument(place)
        path = "".join(f", {label}" for label in reversed([*labels]) if label)
        return f"{base_name(self._signature.func)}(): argument {name!r}{path} {problem}"

    def _capture(self, value: Any) -> Any:
        kind: Any = type(value)
        if kind in _UNCHANGED_TYPES:
            return value
        known = self._memo.get(id(value))
        if known is None:
            try:
                return _method(kind)(self, value)
            except _Cycle as cycle:
                if cycle.root is not value:
                    raise
            return self._cyclic(value)
        if known[1] is _OPEN:
            self._refuse_cycle(value)
        if type(known[1]) is _Member:
            return self._member(value, known[1])
        return known[1]

    # ---- objects that refer to each other ----

    def _opened(self) -> list[Any]:
        return [whole for whole, captured in self._memo.values() if captured is _OPEN]

    def _refuse_cycle(self, value: Any) -> None:
        """Raise, since the parts of an object refer to the object."""
        opened = self._opened()
        start = next(number for number, whole in enumerate(opened) if whole is value)
        if not any(hasattr(type(whole), "__dataclass_fields__") for whole in opened[start:]):
            raise RecursionError
        reachable = find_objects(value).seen
        raise _Cycle(next(whole for whole in opened if id(whole) in reachable))

    def _cyclic(self, root: Any) -> Any:
        opened = self._opened()
        start = next(number for number, whole in enumerate(opened) if whole is root)
        for whole in opened[start:]:
            del self._memo[id(whole)]
        found = find_objects(root)
        for leaf in found.leaves:
            self.other_object(leaf)
        if not found.placeholders:  # then dataclass instances are captured by reference
            self._memo |= {id(each): (each, each) for each in found.dataclasses}
            return self._capture(root)
        try:
            build = CyclicCopier.of(root, found)
        except RecursionError:
            raise
        except Exception as error:  # noqa: BLE001 - of any of its parts
            problem = f"refers to itself, holds nodes, and cannot be copied: {error}"
            raise _Refused(problem) from None
        captured = Container(build, tuple(map(self._capture, found.placeholders)))
        outside = _Member(opened[:start])
        self._memo |= {id(each): (each, outside) for each in found.dataclasses}
        self._memo[id(root)] = root, captured
        return captured

    def _member(self, value: Any, outside: _Member) -> Any:
        """Capture an object that was copied as a part of another: together with what holds both."""
        pairs = zip(outside, self._opened(), strict=False)
        holders = [one for one, other in pairs if one is other]
        if holders:
            raise _Cycle(holders[-1])
        del self._memo[id(value)]  # the other one is in another argument
        return self._capture(value)

    # ---- by kind of value ----

    def placeholder(self, value: Any) -> Any:
        return value._current()

    def container(self, value: Any) -> Any:
        kind = type(value)
        split = splitter(kind)
        assert split is not None
        build, parts = split(value)
        captured = self._parts(value, parts, partial(part_label, kind))
        return self._built(value, build, captured, copied=kind in COPIED)

    def named_tuple(self, value: Any) -> Any:
        kind: Any = type(value)
        split = split_object(value) if getattr(value, "__dict__", None) else None
        if split is None:
            return self._built(
                value, kind._make, self._parts(value, value, _field_label), copied=True
            )
        build, parts = split  # with attributes of a subclass
        return self._built(value, build, self._parts(value, parts, build.label), copied=True)

    def iterator(self, value: Iterator[Any]) -> Any:
        items = [*islice(value, _MAX_ITEMS + 1)]
        if len(items) > _MAX_ITEMS:
            problem = (
                f"is an iterator of more than {_MAX_ITEMS:,} items: "
                "make it in the function, or pass a list"
            )
            raise _Refused(problem)
        captured = self._parts(value, items, partial(part_label, list))
        return self._built(value, build_iterator, captured, copied=False)

    def async_generator(self, _: Any) -> Any:
        problem = (
            "is an asynchronous generator, which can be consumed only once: "
            "make it in the function, or pass a list of its items"
        )
        raise _Refused(problem)

    def _parts(self, value: Any, parts: Sequence[Any], label: Label) -> Sequence[Any]:
        """Capture the parts of an object."""
        if ATOMS.issuperset(map(type, parts)):
            return parts
        self._memo[id(value)] = value, _OPEN
        captured: list[Any] = []
        try:
            for part in parts:
                captured.append(self._capture(part))  # noqa: PERF401 - its length is the number of the failing part
        except _Refused as refused:
            refused.labels.append(label(parts, len(captured)))
            raise
        return captured

    def _built(
        self,
        value: Any,
        build: Callable[[Sequence[Any]], Any],
        parts: Sequence[Any],
        *,
        copied: bool,
    ) -> Any:
        """Build a container of captured parts, now if it is copied and holds no references."""
        if copied and _REFERENCE_TYPES.isdisjoint(map(type, parts)):
            captured = build(parts)
        else:
            captured = Container(build, tuple(parts))
        self._memo[id(value)] = value, captured
        return captured

    def dataclass_instance(self, value: Any) -> Any:
        split = split_object(value)
        if split is None:
            return self.other_object(value)
        build, parts = split
        captured = self._parts(value, parts, build.label)
        unchanged = _REFERENCE_TYPES.isdisjoint(map(type, captured))
        if unchanged:
            note_object(value)
        made = value if unchanged else Container(build, tuple(captured))
        self._memo[id(value)] = value, made
        return made

    def other_object(self, value: Any) -> Any:
        found = find_placeholder(value)
        if found is not None:
            placeholder, path = found
            problem = (
                f"is {placeholder!r}, which is not replaced by its result inside an object of type "
                f"{type(value).__qualname__!r}: pass the node as an argument of its own, "
                "or inside a list, dict or dataclass, and make the object in the function"
            )
            raise _Refused(problem, path.removeprefix(", "))
        note_object(value)
        self._memo[id(value)] = value, value
        return value


def _field_label(value: Any, number: int) -> str:
    return f"attribute {value._fields[number]!r}"


#: Modules of iterators that have no other use than to yield their items.
_ITERATOR_MODULES: Final = frozenset({"builtins", "itertools", "collections", "csv", "array"})


@lru_cache(maxsize=4096)
def _method(kind: type) -> Callable[[_Capture, Any], Any]:  # noqa: PLR0911 - one for each kind of type
    """Return the method that captures values of a type."""
    if issubclass(kind, Placeholder):
        return _Capture.placeholder
    if splitter(kind) is not None:
        return _Capture.container
    if issubclass(kind, tuple) and hasattr(kind, "_make"):
        return _Capture.named_tuple
    if hasattr(kind, "__dataclass_fields__"):
        return _Capture.dataclass_instance
    if issubclass(kind, AsyncGeneratorType):
        return _Capture.async_generator
    if issubclass(kind, Iterator) and kind.__module__.lstrip("_") in _ITERATOR_MODULES:
        return _Capture.iterator
    return _Capture.other_object

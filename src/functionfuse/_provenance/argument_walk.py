"""Walk through the arguments of a node: results of other nodes are references to the node's parents."""

from __future__ import annotations

from functools import partial
from itertools import chain
from marshal import dumps
from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.graph import ItemRef, ResultRef
from functionfuse._graph.nodes import Container
from functionfuse._graph.objects import ObjectBuilder
from functionfuse._graph.seeds import SeedSource
from functionfuse._provenance.value_paths import format_path
from functionfuse._provenance.value_walk import ValueWalk

if TYPE_CHECKING:
    from collections.abc import Callable

    from functionfuse._provenance.encoding_cache import EncodingCache
    from functionfuse._provenance.value_paths import Path

__all__ = ["ArgumentWalk", "result_token"]

_VERSION: Final = 2  # of marshal's format


class ArgumentWalk(ValueWalk):
    """Encodes the arguments of one node; a reference is the position of its node among the node's parents."""

    def __init__(
        self,
        name_of: Callable[[Any], str],
        text_of: Callable[[Any], str] | None,
        encodings: EncodingCache,
    ) -> None:
        super().__init__(name_of, text_of, encodings)
        self.parents: dict[int, int] = {}  # positions by number, in the order of the arguments
        self.references: list[tuple[str, ResultRef | ItemRef]] = []  # each with its place

    def token(self, value: Any, path: Path) -> bytes:
        """Return the token of an argument or of a part of one."""
        kind = type(value)
        if kind is ResultRef or kind is ItemRef:
            return self._reference(value, path)
        if kind is Container:
            if (
                type(value.build) is SeedSource
            ):  # SEED or RNG: the seed itself counts as that of the node
                return b"s" + dumps(str(value.build), _VERSION)
            return self._tracked(value, path, _container_parts)
        return super().token(value, path)

    def _reference(self, reference: ResultRef | ItemRef, path: Path) -> bytes:
        position = self.parents.setdefault(reference.number, len(self.parents))
        self.references.append((format_path(path), reference))
        self._marks += 1  # the positions of parents depend on the whole call
        if type(reference) is ResultRef:
            return result_token(position)
        start = b"i" + dumps((position, reference.slot, len(reference.path)), _VERSION)
        return start + b"".join([self.token(key, (None, "")) for key in reference.path])


def result_token(position: int) -> bytes:
    """The token of the whole result of a node, by its position among the parents."""
    return b"p" + dumps(position, _VERSION)


def _container_parts(container: Container) -> Any:
    """A container that holds references: how it is built, and its captured parts."""
    build, parts = container.build, container.parts
    if (
        build is set or build is frozenset
    ):  # in the order of hashes, which differs between processes
        parts = tuple(sorted(parts, key=_sort_key))
    labels = _labels(build, parts)
    return ("container",), ("", *labels), (build, *parts)


def _sort_key(part: Any) -> tuple[str, ...]:
    """A key of a member of a set that holds references: nodes by their numbers, in the order of the calls."""
    kind = type(part)
    if kind is ResultRef or kind is ItemRef:
        path = [text for key in part.path for text in _sort_key(key)]
        return "reference", f"{part.number:09}", part.slot, *path
    if kind is Container:
        return "container", *chain.from_iterable(map(_sort_key, part.parts))
    return kind.__qualname__, repr(part)


def _labels(build: Any, parts: tuple[Any, ...]) -> list[Any]:
    if isinstance(build, ObjectBuilder):
        return ["", *(f".{name}" for name in build.names)]
    fields = getattr(getattr(build, "__self__", None), "_fields", None)  # of a named tuple
    if fields is not None:
        return [f".{name}" for name in fields]
    function: Any = build.func if type(build) is partial else build
    if getattr(function, "__name__", "") in _KEYED:
        return [(parts[number - number % 2],) for number in range(len(parts))]
    return [*range(len(parts))]


#: Functions that build containers of keys and values in alternation.
_KEYED: Final = frozenset({"build_dict", "_build_mapping", "_build_counter", "_build_default_dict"})

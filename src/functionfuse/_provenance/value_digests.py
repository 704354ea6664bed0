"""Structural digests of values: equal for equal values in every process, different for different ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from functionfuse._common.recursion import deep_recursion
from functionfuse._provenance.encoding_cache import EncodingCache
from functionfuse._provenance.raw_parts import hash_bytes
from functionfuse._provenance.value_walk import ValueWalk

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ValueDigest", "ValueDigests", "token_of"]

W = TypeVar("W", bound=ValueWalk)


class ValueDigest(NamedTuple):
    """The digest of a value, and what it leaves open."""

    #: XXH3-128 in 32 hexadecimal digits.
    digest: str
    #: Parts that have no digest, each with its place: "rows[2].file: an open file".
    unknown: tuple[str, ...] = ()
    #: Functions and types in the value: they count by their name here, and by their text elsewhere.
    reached: tuple[Any, ...] = ()


class ValueDigests:
    """Digests of values for one plan: a large array is hashed once, however many values hold it."""

    def __init__(
        self,
        name_of: Callable[[Any], str],
        text_of: Callable[[Any], str] | None = None,
    ) -> None:
        """Make the digests of one plan.

        Args:
            name_of: Gives the stable qualified name of a function or type.
            text_of: Gives the digest of the text of a lambda or local function, whose name says little.
                Without it, these count by their name and by the values that they hold.
        """
        self._name_of = _Names(name_of).of
        self._text_of = text_of
        self._encodings = EncodingCache()

    def walk(self, kind: type[W]) -> W:
        """Begin a walk: objects that occur twice in it are one object."""
        return kind(self._name_of, self._text_of, self._encodings)

    def of(self, value: Any, place: str = "") -> ValueDigest:
        """Return the digest of a value.

        Args:
            value: Any object; there is none whose digest is an error.
            place: What the value is, for the texts of unknown parts: "argument rows".
        """
        walk = self.walk(ValueWalk)
        with deep_recursion:
            token = token_of(walk, value, place)
        unknown = [f"{place}: {problem}" for place, problem in walk.unknown]
        return ValueDigest(hash_bytes(token).hex(), tuple(unknown), tuple(walk.reached))


class _Names:
    """Remembers the names of functions and types."""

    def __init__(self, name_of: Callable[[Any], str]) -> None:
        self._name_of = name_of
        self._known: dict[int, tuple[Any, str]] = {}  # with the object, so that no id is used again

    def of(self, value: Any) -> str:
        """The name of a function or type."""
        known = self._known.get(id(value))
        if known is None:
            # `pathlib` has its classes in a private module since Python 3.13
            name = self._name_of(value).replace("pathlib._local.", "pathlib.")
            known = self._known[id(value)] = value, name
        return known[1]


def token_of(walk: ValueWalk, value: Any, place: str) -> bytes:
    """Return the token of a value in a walk; of one that cannot be walked, that of something unknown."""
    try:
        return walk.token(value, (None, place))
    except RecursionError:
        walk.unknown.append((place, "a value that is nested too deeply"))
    except Exception as error:  # noqa: BLE001 - of the user's metaclasses
        walk.unknown.append((place, f"a value whose type raises {error!r}"))
    return b"u"

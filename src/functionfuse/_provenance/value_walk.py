"""Walk through a value: encode each object as a token, from which its digest is made.

Tokens are prefix-free: no token begins with another one, so that a sequence of tokens has one meaning.

* An atom is its encoding in version 2 of marshal's format, which has neither references nor interned texts.
* Any other object is the digest of a header and the tokens of its parts.
* An object that is known by its identity, as a list is, has a number: where it occurs again, its token is the number.
  Equal values that can be hashed are interchangeable, and have equal tokens.
"""

from __future__ import annotations

from functools import lru_cache
from marshal import dumps
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.nodes import ATOMS
from functionfuse._provenance.object_reduction import reduce_object
from functionfuse._provenance.value_parts import Raw, Undigestible, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from functionfuse._provenance.unit_cache import Unit, UnitCache
    from functionfuse._provenance.value_parts import Parts

    Path = tuple[
        Any, Any
    ]  # of the whole, and the label of the part: an index, a text, or a tuple of a key

__all__ = ["LARGE", "Path", "ValueWalk", "format_path", "hash_bytes"]

_VERSION: Final = 2  # of marshal's format
LARGE: Final = 4096  # bytes of an atom that is hashed on its own
_MAX_REPEATS: Final = 100_000  # objects in sets that are encoded again
#: Libraries whose objects hold no objects of others: each is hashed once, with numbers of its own.
_UNIT_LIBRARIES: Final = frozenset(
    {"numpy", "pandas", "polars", "pyarrow", "xarray", "dask", "scipy", "torch"}
)


def hash_bytes(data: Any) -> bytes:
    """The XXH3-128 of bytes or a buffer."""
    from xxhash import xxh3_128_digest  # imported when the first digest is made

    return bytes(xxh3_128_digest(data))


class ValueWalk:
    """Encodes values in which an object that occurs twice is one object."""

    def __init__(
        self,
        name_of: Callable[[Any], str],
        text_of: Callable[[Any], str] | None,
        units: UnitCache,
    ) -> None:
        self._name_of, self._text_of, self._units = name_of, text_of, units
        self.unknown: list[str] = []
        self._unknown_parts: list[tuple[str, str]] = []
        self._reached: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}  # of objects known by identity, by id
        self._held: list[Any] = []  # all objects with an entry by id, so that no id is used again
        self._plain: dict[int, bytes] = {}  # tokens of objects without numbers in them
        self._open: dict[int, int] = {}  # depths of objects without numbers that are being encoded
        self._marks = 0  # numbers that were given or used
        self._in_sets = 0
        self._repeats = 0

    @property
    def reached(self) -> Iterable[Any]:
        """The functions and types that were found, in the order of the walk."""
        return self._reached.values()

    @staticmethod
    def digest_of(token: bytes) -> str:
        """Return the digest of a token, in hexadecimal digits."""
        return hash_bytes(token).hex()

    def token(self, value: Any, path: Path) -> bytes:
        """Return the token of a value."""
        kind: Any = type(value)
        if kind in ATOMS:
            if (kind is str or kind is bytes) and len(value) > LARGE:
                return self._large(value, kind)
            return b"a" + dumps(value, _VERSION)
        if kind is Raw:
            return b"r" + dumps(value.data, _VERSION)
        return _encoder(kind)(self, value, path)

    # ---- atoms and functions ----

    def _large(self, value: str | bytes, kind: type) -> bytes:
        known = self._units.get(value)
        if known is None:
            data = value.encode("utf-8", "surrogatepass") if type(value) is str else value
            tag = b"S" if kind is str else b"B"
            known = self._units.add(value, (tag + hash_bytes(data), (), ()))
        return known[0]

    def _reach(self, value: Any) -> str:
        """Note a function or type; return its name."""
        if id(value) not in self._reached:
            self._reached[id(value)] = value
        return self._name_of(value)

    def type_token(self, value: Any, _: Path) -> bytes:
        """A type, by its name."""
        return b"t" + dumps(self._reach(value), _VERSION)

    def function(self, value: FunctionType, path: Path) -> bytes:
        """A function by its name; a lambda or local function also by its text and the values that it holds."""
        name = self._reach(value)
        if "<" not in value.__qualname__:
            return b"f" + dumps(name, _VERSION)
        text = "" if self._text_of is None else self._text_of(value)
        cells = [cell for cell in value.__closure__ or () if not _is_empty(cell)]
        values = [
            *(cell.cell_contents for cell in cells),
            *(value.__defaults__ or ()),
            *(value.__kwdefaults__ or {}).values(),
        ]
        labels = [f"{value.__name__}()"] * len(values)
        header = "lambda", name, text, len(cells), *(value.__kwdefaults__ or ())
        return self._tracked(value, path, lambda _: (header, labels, values))

    # ---- containers ----

    def sequence(self, value: Any, path: Path) -> bytes:
        """A list or tuple."""
        return self._tracked(value, path, _sequence_parts)

    def mapping(self, value: dict[Any, Any], path: Path) -> bytes:
        """A dict, in its order."""
        return self._tracked(value, path, _mapping_parts)

    def set_of_any_order(self, value: Any, path: Path) -> bytes:
        """A set: its members are in the order of their tokens."""
        return self._tracked(value, path, self._set_parts)

    def _set_parts(self, value: Any) -> Parts:
        if ATOMS.issuperset(map(type, value)):
            tokens = sorted([dumps(member, _VERSION) for member in value])
        else:
            tokens = sorted([self._member(member) for member in value])
        return (type(value).__name__, len(tokens)), ("",), (Raw(b"".join(tokens)),)

    def _member(self, member: Any) -> bytes:
        """A member of a set; numbers that it gets are forgotten, since they depend on the set's order."""
        numbers, self._in_sets = len(self._numbers), self._in_sets + 1
        try:
            return self.token(member, (None, "a member of a set"))
        finally:
            self._in_sets -= 1
            while len(self._numbers) > numbers:
                self._numbers.popitem()

    # ---- objects ----

    def object(self, value: Any, path: Path) -> bytes:
        """Any other object: by the parts that are known for its type, else by those that pickle would send."""
        return self._tracked(value, path, self._object_parts)

    def unit(self, value: Any, path: Path) -> bytes:
        """An object of a library for data, which is hashed once."""
        return self._tracked(value, path, self._unit_parts)

    def _unit_parts(self, value: Any) -> Parts:
        unit = self._units.get(value)
        if unit is None:
            walk = type(self)(self._name_of, self._text_of, self._units)
            header, labels, values = walk._object_parts(value)  # noqa: SLF001 - of this class
            token = walk._composite(header, labels, values, (None, ""))  # noqa: SLF001
            made: Unit = token, tuple(walk._unknown_parts), tuple(walk._reached.values())  # noqa: SLF001
            unit = self._units.add(value, made)
        for reached in unit[2]:
            self._reach(reached)
        return ("unit",), ("",), (Raw(unit[0]),)

    def _object_parts(self, value: Any) -> Parts:
        take_apart = parts_of(_type_of(value))
        if take_apart is None:
            return reduce_object(value, self._reach)
        header, labels, values = take_apart(value)
        return (self._reach(type(value)), *header), labels, values

    def _tracked(self, value: Any, path: Path, take_apart: Callable[[Any], Parts]) -> bytes:
        """The token of an object that may occur again, or hold itself."""
        key = id(value)
        number = self._numbers.get(key)
        if number is not None:
            self._marks += 1
            return b"n" + dumps(number, _VERSION)
        plain = self._plain.get(key)
        if plain is not None:
            return plain
        if key in self._open:
            self._marks += 1
            return b"o" + dumps(self._open[key], _VERSION)
        marks = self._marks
        has_identity = _has_identity(type(value))
        if has_identity:
            self._give_number(key)
        else:
            self._open[key] = len(self._open)
        self._held.append(value)
        token = self._encoded(value, path, take_apart)
        if not has_identity:
            del self._open[key]
            if self._marks == marks:
                self._plain[key] = token
            else:
                self._give_number(key)
        return token

    def _give_number(self, key: int) -> None:
        self._numbers[key] = len(self._numbers)
        self._marks += 1

    def _encoded(self, value: Any, path: Path, take_apart: Callable[[Any], Parts]) -> bytes:
        try:
            header, labels, values = take_apart(value)
        except Undigestible as problem:
            return self._unknown(value, path, str(problem))
        except Exception as error:  # noqa: BLE001 - of the user's classes
            return self._unknown(value, path, f"{_kind_name(value)}: {error}")
        return self._composite(header, labels, values, path)

    def _composite(self, header: Any, labels: Any, values: Any, path: Path) -> bytes:
        tokens = [dumps((header, len(values)), _VERSION)]
        for label, part in zip(labels, values, strict=True):
            tokens.append(self.token(part, (path, label)))
        return b"d" + hash_bytes(b"".join(tokens))

    def _unknown(self, value: Any, path: Path, problem: str) -> bytes:
        self._unknown_parts.append((format_path(path), problem))
        self.unknown.append(f"{format_path(path)}: {problem}")
        return b"u" + dumps(self._name_of(type(value)), _VERSION)


def _sequence_parts(value: Any) -> Parts:
    name = type(value).__name__
    if ATOMS.issuperset(map(type, value)):
        return (name, "atoms"), ("",), (Raw(dumps(value, _VERSION)),)
    return (name,), range(len(value)), value


def _mapping_parts(value: dict[Any, Any]) -> Parts:
    keys, values = [*value], [*value.values()]
    if ATOMS.issuperset(map(type, keys)) and ATOMS.issuperset(map(type, values)):
        return ("dict", "atoms"), ("",), (Raw(dumps(value, _VERSION)),)
    labels = [*((key,) for key in keys), *((key,) for key in keys)]
    return ("dict",), labels, [*keys, *values]


def _type_of(value: Any) -> Any:
    return type(value)  # which is hashable, unlike what type checkers make of it


def _has_identity(kind: Any) -> bool:
    return kind.__hash__ is None or kind.__hash__ is object.__hash__


def _is_empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty cell raises
    except ValueError:
        return True
    return False


def _kind_name(value: Any) -> str:
    return f"an object of type {type(value).__qualname__!r}"


def format_path(path: Any) -> str:
    labels: list[str] = []
    while path is not None:
        path, label = path
        labels.append(_format_label(label))
    return "".join(reversed(labels))


def _format_label(label: Any) -> str:
    if type(label) is int:
        return f"[{label}]"
    return f"[{_short(label[0])}]" if type(label) is tuple else str(label)


def _short(key: Any) -> str:
    return repr(key) if type(key) in ATOMS else f"a {type(key).__qualname__}"


@lru_cache(maxsize=4096)
def _encoder(kind: Any) -> Callable[[Any, Any, Any], bytes]:
    """Return the method that encodes values of a type."""
    if kind is list or kind is tuple:
        return ValueWalk.sequence
    if kind is dict:
        return ValueWalk.mapping
    if kind is set or kind is frozenset:
        return ValueWalk.set_of_any_order
    if issubclass(kind, type):
        return ValueWalk.type_token
    if kind is FunctionType:
        return ValueWalk.function
    library = str(kind.__module__).partition(".")[0]
    return ValueWalk.unit if library in _UNIT_LIBRARIES else ValueWalk.object

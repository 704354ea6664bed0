"""Walk through a value: encode each object as a token, from which its digest is made.

Tokens are prefix-free: no token begins with another one, so that a sequence of tokens has one meaning.

* An atom is its encoding in version 2 of marshal's format, which has neither references nor interned texts.
* Any other object is the digest of a header and the tokens of its parts.
* An object that is known by its identity, as a list is, has a number: where it occurs again, its token is the number.
  Objects that can be hashed by value are interchangeable: where one occurs again, its token is the same.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache, partial
from marshal import dumps
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.nodes import ATOMS
from functionfuse._provenance.code_names import function_name
from functionfuse._provenance.object_reduction import reduce_object
from functionfuse._provenance.project_border import is_of_package
from functionfuse._provenance.raw_parts import Raw, Undigestible, hash_bytes
from functionfuse._provenance.value_parts import parts_of
from functionfuse._provenance.value_paths import format_path

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from functionfuse._provenance.encoding_cache import Encoding, EncodingCache
    from functionfuse._provenance.raw_parts import Parts
    from functionfuse._provenance.value_paths import Path

__all__ = ["LARGE", "ValueWalk"]

LARGE: Final = 4096  # characters or bytes of an atom that is hashed on its own
_VERSION: Final = 2  # of marshal's format
_SMALL: Final = ATOMS - {str, bytes}
_KEY_DEPTH: Final = 2  # levels of a member of a set that its place among the members depends on
_ENOUGH: Final = 10  # objects of a package's type that were stable: so are others
_MAX_REPEATS: Final = 10_000  # members of sets with equal keys
#: Modules whose functions and types are not users' code.
_NOT_REACHED: Final = ("builtins", "copyreg", "functionfuse._")
#: Libraries whose objects hold no objects of others: each is hashed once, with numbers of its own.
_CACHED_LIBRARIES: Final = frozenset(
    {"numpy", "pandas", "polars", "pyarrow", "xarray", "dask", "scipy", "torch"}
)


_stable: Final[Counter[type]] = Counter()


class ValueWalk:
    """Encodes values in which an object that occurs twice is one object."""

    def __init__(
        self,
        name_of: Callable[[Any], str],
        text_of: Callable[[Any], str] | None,
        encodings: EncodingCache,
        levels: int = -1,
    ) -> None:
        """Begin a walk.

        Args:
            name_of: Gives the stable qualified name of a function or type.
            text_of: Gives the digest of the text of a lambda or local function.
            encodings: The digests of large objects.
            levels: The levels of nested objects that are encoded; below, only the types count.
        """
        self._name_of, self._text_of, self._encodings, self._levels = (
            name_of,
            text_of,
            encodings,
            levels,
        )
        self.unknown: list[tuple[str, str]] = []  # each with its place
        self._reached: dict[int, Any] = {}
        self._first_reached: dict[str, Any] = {}  # the first of each name
        self._numbers: dict[int, int] = {}  # of objects known by identity, by id
        self._held: list[Any] = []  # all objects with an entry by id, so that no id is used again
        self._plain: dict[int, bytes] = {}  # tokens of objects that hold none with a number
        self._open: dict[int, int] = {}  # depths of objects without numbers that are being encoded
        self._marks = 0  # numbers that were given or used
        self._repeats = 0
        self._is_probe = False

    @property
    def reached(self) -> Collection[Any]:
        """The functions and types that were found, in the order of the walk."""
        return self._reached.values()

    def token(self, value: Any, path: Path) -> bytes:
        """Return the token of a value."""
        kind: Any = type(value)
        if kind in _SMALL:
            return b"a" + dumps(value, _VERSION)
        if kind is str or kind is bytes:
            return b"a" + dumps(value, _VERSION) if len(value) <= LARGE else self._large(value)
        if kind is Raw:
            return b"r" + dumps(value.data, _VERSION)
        return _encoder(kind)(self, value, path)

    def _large(self, value: str | bytes) -> bytes:
        known = self._encodings.get(value)
        if known is None:
            is_text = type(value) is str
            data = value.encode("utf-8", "surrogatepass") if type(value) is str else value
            tag = b"S" if is_text else b"B"
            known = self._encodings.add(value, (tag + hash_bytes(data), (), ()))
        return known[0]

    # ---- types and functions ----

    def _reach(self, value: Any) -> str:
        """Note a function or type; return its name, with its module if others have the name, too."""
        name = self._name_of(value)
        if str(value.__module__).startswith(_NOT_REACHED):
            return name
        self._reached.setdefault(id(value), value)
        first = self._first_reached.setdefault(name, value)
        if first is value or function_name(first) == (full := function_name(value)):
            return name
        return full

    def type_token(self, value: Any, _: Path) -> bytes:
        """A type, by its name."""
        return b"t" + dumps(self._reach(value), _VERSION)

    def function(self, value: FunctionType, path: Path) -> bytes:
        """A function by its name; a lambda or local function also by its text and the values that it holds."""
        if "<" not in value.__qualname__:
            return b"f" + dumps(self._reach(value), _VERSION)
        return self._tracked(value, path, self._local_function_parts)

    def _local_function_parts(self, value: FunctionType) -> Parts:
        text = "" if self._text_of is None else self._text_of(value)
        cells = [_content(cell) for cell in value.__closure__ or ()]
        defaults, keywords = value.__defaults__ or (), value.__kwdefaults__ or {}
        labels = [
            *(f" variable {name!r}" for name in value.__code__.co_freevars),
            *(f" default {number}" for number in range(len(defaults))),
            *(f" default {name!r}" for name in keywords),
        ]
        header = "local", self._reach(value), text, len(cells), len(defaults), *keywords
        return header, labels, [*cells, *defaults, *keywords.values()]

    # ---- containers ----

    def sequence(self, value: Any, path: Path) -> bytes:
        """A list or tuple."""
        if not _is_flat(value):
            return self._tracked(value, path, _sequence_parts)
        if type(value) is list and (number := self._known_or_numbered(value)) is not None:
            return number
        return b"q" + hash_bytes(dumps(value, _VERSION))

    def mapping(self, value: dict[Any, Any], path: Path) -> bytes:
        """A dict, in its order."""
        if not (_is_flat(value) and _is_flat(value.values())):
            return self._tracked(value, path, _mapping_parts)
        number = self._known_or_numbered(value)
        return b"q" + hash_bytes(dumps(value, _VERSION)) if number is None else number

    def members(self, value: Any, path: Path) -> bytes:
        """A set, whose members have no order."""
        return self._tracked(value, path, self._set_parts)

    def _set_parts(self, value: Any) -> Parts:
        header = (type(value).__name__, len(value))
        if _is_flat(value):
            tokens = sorted([dumps(member, _VERSION) for member in value])
            return header, ("",), (Raw(b"".join(tokens)),)
        keyed = sorted([(self._key(member), member) for member in value], key=_first)
        keys = [key for key, _ in keyed]
        if len({*keys}) == len(keys):
            return header, [" member"] * len(keys), [member for _, member in keyed]
        tokens = sorted([self._member(member) for _, member in keyed])
        return header, ("",), (Raw(b"".join(tokens)),)

    def _key(self, member: Any) -> bytes:
        """Where a member of a set is among the others: by its contents, but not by what it refers to far away."""
        levels = _KEY_DEPTH if self._levels < 0 else self._levels - 1
        return self._probe(levels).token(member, (None, ""))

    def _member(self, member: Any) -> bytes:
        """A member with an equal key; numbers that it gets are forgotten, since they depend on the set's order."""
        self._repeats += 1
        if self._repeats > _MAX_REPEATS:
            message = "a set of objects that refer to each other and differ in nothing else"
            raise Undigestible(message)
        numbers = len(self._numbers)
        try:
            return self.token(member, (None, " member"))
        finally:
            while len(self._numbers) > numbers:
                self._numbers.popitem()

    # ---- objects ----

    def object(self, value: Any, path: Path) -> bytes:
        """Any other object: by the parts that are known for its type, else by those that pickle would send."""
        return self._tracked(value, path, self._object_parts)

    def package_object(self, value: Any, path: Path) -> bytes:
        """An object of an installed package; some are other ones each time that they are taken apart."""
        key = id(value)
        is_known = key in self._numbers or key in self._plain or key in self._open
        if is_known or self._is_probe or self._is_stable(value):
            return self.object(value, path)
        kind = type(value).__qualname__
        problem = f"an object of type {kind!r}, whose contents differ each time that they are read"
        return self._unknown(value, path, problem)

    def _is_stable(self, value: Any) -> bool:
        """Encode an object twice; of types of which many were stable, no more are tried."""
        kind = type(value)
        if _stable[kind] >= _ENOUGH:
            return True
        tokens = {self._probe().token(value, (None, "")) for _ in range(2)}
        if len(tokens) > 1:
            return False
        _stable[kind] += 1
        return True

    def _probe(self, levels: int = -1) -> ValueWalk:
        """A walk of its own, which tries nothing out."""
        walk = ValueWalk(self._name_of, self._text_of, self._encodings, levels)
        walk._is_probe = True
        return walk

    def encoding(self, value: Any, path: Path) -> bytes:
        """An object of a library for data, which is hashed once."""
        return self._tracked(value, path, partial(self._encoding_parts, path))

    def _encoding_parts(self, path: Path, value: Any) -> Parts:
        encoding = self._encodings.get(value)
        if encoding is None:
            walk = ValueWalk(self._name_of, self._text_of, self._encodings)
            token = walk._encoded(value, (None, ""), walk._object_parts)
            made: Encoding = token, tuple(walk.unknown), tuple(walk.reached)
            encoding = self._encodings.add(value, made)
        self.unknown += [(format_path(path) + inner, problem) for inner, problem in encoding[1]]
        for reached in encoding[2]:
            self._reach(reached)
        return ("encoding",), ("",), (Raw(encoding[0]),)

    def _object_parts(self, value: Any) -> Parts:
        kind: Any = type(value)
        take_apart = parts_of(kind)
        if take_apart is None:
            return reduce_object(value, self._reach)
        header, labels, values = take_apart(value)
        return (self._reach(kind), *header), labels, values

    # ---- any object with parts ----

    def _known_or_numbered(self, value: Any) -> bytes | None:
        """The number of an object that occurs again; None if it got its number now."""
        number = self._numbers.get(id(value))
        self._marks += 1
        if number is not None:
            return b"n" + dumps(number, _VERSION)
        self._numbers[id(value)] = len(self._numbers)
        self._held.append(value)
        return None

    def _tracked(self, value: Any, path: Path, take_apart: Callable[[Any], Parts]) -> bytes:
        """The token of an object that may occur again, or hold itself."""
        if self._levels == 0:
            return b"z" + dumps(self._name_of(type(value)), _VERSION)
        kind: Any = type(value)
        key = id(value)
        if _has_identity(kind) or key in self._numbers:
            number = self._known_or_numbered(value)
            return self._encoded(value, path, take_apart) if number is None else number
        plain = self._plain.get(key)
        if plain is not None:
            return plain
        if key in self._open:
            self._marks += 1
            return b"o" + dumps(self._open[key], _VERSION)
        marks, self._open[key] = self._marks, len(self._open)
        self._held.append(value)
        token = self._encoded(value, path, take_apart)
        del self._open[key]
        if self._marks == marks:
            self._plain[key] = token
        else:
            self._known_or_numbered(value)
        return token

    def _encoded(self, value: Any, path: Path, take_apart: Callable[[Any], Parts]) -> bytes:
        """The token of an object that was not met before."""
        try:
            header, labels, values = take_apart(value)
        except Undigestible as problem:
            return self._unknown(value, path, str(problem))
        except Exception as error:  # noqa: BLE001 - of the user's classes
            return self._unknown(
                value, path, f"an object of type {type(value).__qualname__!r}: {error}"
            )
        tokens = [dumps((header, len(values)), _VERSION)]
        self._levels -= 1
        for label, part in zip(labels, values, strict=True):
            if type(part) in _SMALL:
                tokens.append(b"a" + dumps(part, _VERSION))
            else:
                tokens.append(self.token(part, (path, label)))
        self._levels += 1
        return b"d" + hash_bytes(b"".join(tokens))

    def _unknown(self, value: Any, path: Path, problem: str) -> bytes:
        self.unknown.append((format_path(path), problem))
        return b"u" + dumps(self._name_of(type(value)), _VERSION)


def _is_flat(values: Iterable[Any]) -> bool:
    """Tell whether all values are atoms, and none is large."""
    kinds = {*map(type, values)}
    if not kinds <= ATOMS:
        return False
    return kinds <= _SMALL or not any(
        len(value) > LARGE for value in values if type(value) is str or type(value) is bytes
    )


def _sequence_parts(value: Any) -> Parts:
    return (type(value).__name__,), range(len(value)), value


def _mapping_parts(value: dict[Any, Any]) -> Parts:
    labels = [(key,) for key in value]
    return ("dict",), [*labels, *labels], [*value, *value.values()]


def _first(pair: tuple[bytes, Any]) -> bytes:
    return pair[0]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty: the function is called before the variable is set
        return Raw(b"empty")


@lru_cache(maxsize=4096)
def _has_identity(kind: Any) -> bool:
    """Tell whether an object that occurs twice differs from two equal objects."""
    if kind is slice:  # whose hash is new in Python 3.12
        return False
    return kind.__hash__ is None or kind.__hash__ is object.__hash__


@lru_cache(maxsize=4096)
def _encoder(kind: Any) -> Callable[[Any, Any, Any], bytes]:
    """Return the method that encodes values of a type."""
    if kind in _ENCODERS:
        return _ENCODERS[kind]
    if issubclass(kind, type):
        return ValueWalk.type_token
    library = str(kind.__module__).partition(".")[0]
    if library in _CACHED_LIBRARIES and kind.__weakrefoffset__:
        return ValueWalk.encoding
    is_of_others = parts_of(kind) is None and is_of_package(str(kind.__module__))
    return ValueWalk.package_object if is_of_others else ValueWalk.object


_ENCODERS: Final[dict[type, Callable[[Any, Any, Any], bytes]]] = {
    list: ValueWalk.sequence,
    tuple: ValueWalk.sequence,
    dict: ValueWalk.mapping,
    set: ValueWalk.members,
    frozenset: ValueWalk.members,
    FunctionType: ValueWalk.function,
}

"""The restricted unpickler makes objects of the types that the reader allows."""

from __future__ import annotations

import enum
import pickle
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import pytest
from unpickler_helpers import RECONSTRUCT, dtype, load, named, text

from functionfuse.errors import UntrustedResult


@dataclass
class Plain:
    """A dataclass."""

    value: Any


@dataclass(frozen=True, slots=True)
class Frozen:
    """A dataclass that has a state of its own."""

    first: int
    second: Any


class Pair(NamedTuple):
    """A tuple with names."""

    first: Any
    second: Any


class Colour(enum.Enum):
    """An enumeration."""

    RED = "red"


class Flags(enum.IntFlag):
    """Flags."""

    A = 1
    B = 2


class Slotted:
    """An object without a dict."""

    __slots__ = ("__dict__", "left")
    left: int

    def __eq__(self, other: object) -> bool:
        """Compare the attributes."""
        return isinstance(other, Slotted) and (self.left, vars(self)) == (other.left, vars(other))

    __hash__ = None  # type: ignore[assignment]


class Stateful:
    """An object that says itself what its state is."""

    def __init__(self, *, number: int) -> None:
        """Take a number."""
        self.number = number

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, int]]:
        """Be made with a keyword."""
        return (), {"number": self.number}

    def __new__(cls, *, number: int) -> Self:
        """Be made with a keyword."""
        return super().__new__(cls)

    def __getstate__(self) -> list[int]:
        """Give the number in a list."""
        return [self.number]

    def __setstate__(self, state: list[int]) -> None:
        """Take it."""
        (self.number,) = state

    def __eq__(self, other: object) -> bool:
        """Compare the numbers."""
        return isinstance(other, Stateful) and self.number == other.number

    __hash__ = None  # type: ignore[assignment]


class Names(dict[str, Any]):
    """A dict of another class."""


class Rows(list[Any]):
    """A list of another class."""


class Numbers(set[int]):
    """A set of another class."""


class Text(str):  # noqa: SLOT000 - it has attributes
    """A text with attributes."""


class Table(np.ndarray[Any, Any]):
    """An array of another class, which has an attribute."""

    unit: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Add the attribute to the state."""
        reduced: Any = super().__reduce__()
        function, arguments, state = reduced
        return function, arguments, (*state, self.unit)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the attribute from the state."""
        self.unit = state[-1]
        super().__setstate__(state[:-1])


def slotted() -> Slotted:
    """An object with an attribute of either kind."""
    made = Slotted()
    made.left, made.right = 1, [2]  # type: ignore[attr-defined]
    return made


def titled() -> Text:
    """A text with an attribute."""
    made = Text("text")
    vars(made)["unit"] = "mm"
    return made


OWN: dict[str, tuple[Any, list[type | str]]] = {
    "dataclass": (Plain([1, Plain(2)]), [Plain]),
    "frozen dataclass with slots": (Frozen(1, [2]), [Frozen]),
    "named tuple": (Pair(1, Pair(2, 3)), [Pair]),
    "enumeration": ([Colour.RED, Colour.RED], [Colour]),
    "flags": (Flags.A | Flags.B, [Flags]),
    "slots": (slotted(), [Slotted]),
    "state and keywords": (Stateful(number=7), [Stateful]),
    "dict": (Names(a=[1]), [Names]),
    "list": (Rows([1, Rows()]), [Rows]),
    "set": (Numbers([1, 2]), [Numbers]),
    "text": (titled(), [Text]),
    "class itself": ([Plain, Colour], [Plain, Colour]),
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("protocol", [4, 5])
def test_types_of_the_readers_are_made_as_pickle_makes_them(name: str, protocol: int) -> None:
    """By type and by name, with all their attributes; without being allowed, not at all."""
    value, types = OWN[name]
    stream = pickle.dumps(value, protocol)
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in types if isinstance(kind, type)]
    for allowed in (types, names):
        found = load(stream, *allowed)
        assert value == found
        assert type(value) is type(found)
        assert getattr(value, "__dict__", None) == getattr(found, "__dict__", None)
    with pytest.raises(UntrustedResult, match="not among the allowed types"):
        load(stream)


def test_an_array_of_a_class_of_the_readers_is_checked_like_others() -> None:
    """Its own state comes behind that of the array, which has to fit."""
    table = np.arange(3).view(Table)
    table.unit = "mm"
    found = load(pickle.dumps(table, 4), Table)
    assert ("mm", [0, 1, 2], Table) == (found.unit, found.tolist(), type(found))
    short = RECONSTRUCT + named(__name__, "Table") + b"K\x00\x85C\x01b\x87R"
    short += b"(K\x01M\xe8\x03\x85" + dtype("O8") + b"\x89]NaNtb."
    with pytest.raises(UntrustedResult, match="another way"):
        load(b"\x80\x04" + short, Table)


def test_records_of_numpy_can_be_allowed() -> None:
    """A type that is not the usual one for its dtype is one of the reader's."""
    records = np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    found = load(pickle.dumps(records, 4), "numpy.rec.recarray", "numpy.record")
    assert (1, 2.0) == (found.a[0], found[0].b)


@pytest.mark.parametrize("name", ["recarray", "ndarray", "dtype", "void"])
def test_allowing_a_class_of_arrays_does_not_allow_to_call_it(name: str) -> None:
    """An allowed class of arrays cannot be called: it would interpret bytes as pointers; its pickles do not call it."""
    stream = b"\x80\x04" + named("numpy", name) + b"K\x01\x85R."
    with pytest.raises(UntrustedResult, match="another way"):
        load(stream, f"numpy.{name}")


@pytest.mark.parametrize(
    ("module", "name"),
    [("numpy", "_core.numeric._frombuffer"), ("numpy._core", "numeric._frombuffer")],
)
def test_a_name_that_is_allowed_does_not_lead_through_modules(module: str, name: str) -> None:
    """An attribute of a module may be any other module."""
    with pytest.raises(UntrustedResult, match="not among the allowed types"):
        load(b"\x80\x04" + named(module, name) + b".", "numpy._core.numeric._frombuffer")


def test_members_and_classes_of_the_readers_stay_unchanged() -> None:
    """A type that is allowed makes objects; neither it nor its members can be changed."""
    state = b"}" + text("_value_") + b"K\x07sb."
    for made in (named(__name__, "Colour") + text("red") + b"\x85R", named(__name__, "Plain")):
        with pytest.raises(UntrustedResult, match="would change"):
            load(b"\x80\x04" + made + state, Colour, Plain)
    assert "red" == Colour.RED.value


def test_slots_are_all_that_a_state_sets() -> None:
    """A state cannot make an object one of another class."""
    state = b"N}" + text("__class__") + named(__name__, "Plain") + b"s\x86b."
    stream = b"\x80\x04" + named(__name__, "Slotted") + b")\x81" + state
    with pytest.raises(UntrustedResult, match="another way"):
        load(stream, Slotted, Plain)

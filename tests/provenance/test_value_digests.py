"""Digests of values: equal for equal values in every process, different for different ones."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import socket
import subprocess
import sys
import threading
import weakref
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from library_kinds import LIBRARY_KINDS, SAME
from standard_digests import STANDARD_DIGESTS
from standard_kinds import STANDARD_KINDS, Slots, Tree, helper

from functionfuse import workflow
from functionfuse._provenance.code import function_name
from functionfuse._provenance.value_digests import ValueDigest, ValueDigests

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Hold a generator that a library shares, which is named; their copies hold another one.
OF_SHARED_GENERATORS = {"global random", "method of the shared generator", "distribution"}
KINDS = {**STANDARD_KINDS, **LIBRARY_KINDS}


def digest_of(value: Any) -> ValueDigest:
    """The digest in a plan of its own."""
    return ValueDigests(function_name).of(value, "value")


@pytest.mark.parametrize("kind", KINDS)
def test_equal_values_have_equal_digests_and_others_differ(kind: str) -> None:
    """Values that are made twice are equal; a value that differs in one respect has another digest."""
    make, make_other = KINDS[kind]
    digest = digest_of(make())
    assert () == digest.unknown
    assert digest.digest == digest_of(make()).digest
    assert digest.digest != digest_of(make_other()).digest


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"own exception"} - OF_SHARED_GENERATORS))
def test_a_copy_has_the_digest_of_the_original(kind: str) -> None:
    """A deep copy is equal; values that cannot be copied are not."""
    value = KINDS[kind][0]()
    try:
        copied = copy.deepcopy(value)
    except TypeError as error:
        assert "cannot pickle" in str(error)  # noqa: PT017 - of views of dicts and memory
        return
    assert digest_of(value).digest == digest_of(copied).digest


@pytest.mark.parametrize("pair", SAME)
def test_how_a_value_is_kept_does_not_count(pair: str) -> None:
    """The order of an array in memory, blocks of a frame, chunks of a table."""
    first, second = SAME[pair]
    assert digest_of(first()) == digest_of(second())


def test_no_two_kinds_have_the_same_digest() -> None:
    """The type is part of the value."""
    kinds: dict[str, str] = {}
    for kind, (make, _) in KINDS.items():
        assert kind == kinds.setdefault(digest_of(make()).digest, kind)


# ---- other processes and versions ----

#: Prints the digests of all kinds, and of pickled values.
PROGRAM = """
import json, pickle, sys
from pathlib import Path
from library_kinds import LIBRARY_KINDS
from standard_kinds import STANDARD_KINDS
from functionfuse._provenance.code import function_name
from functionfuse._provenance.value_digests import ValueDigests

def digest_of(value):
    return ValueDigests(function_name).of(value).digest

made = {kind: digest_of(make()) for kind, (make, _) in {**STANDARD_KINDS, **LIBRARY_KINDS}.items()}
pickled = pickle.loads(Path(sys.argv[1]).read_bytes())
loaded = {kind: digest_of(pickle.loads(value)) for kind, value in pickled.items()}
print(json.dumps([made, loaded]))
"""


@pytest.mark.parametrize("hash_seed", ["0", "17"])
def test_another_process_has_the_same_digests(hash_seed: str, tmp_path: Path) -> None:
    """Of values that it makes, and of those that it unpickles."""
    streams = {kind: stream for kind in KINDS if (stream := _pickled(KINDS[kind][0]())) is not None}
    for kind in OF_SHARED_GENERATORS:
        streams.pop(kind, None)
    file = tmp_path / "values"
    file.write_bytes(pickle.dumps(streams))
    folders = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROGRAM, str(file)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": folders},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    made, loaded = json.loads(done.stdout)
    expected = {kind: digest_of(make()).digest for kind, (make, _) in KINDS.items()}
    assert expected == made
    assert {kind: expected[kind] for kind in streams} == loaded
    assert len(loaded) > 100


def _pickled(value: Any) -> bytes | None:
    """A pickle of a value; None for values that plain pickle cannot bring back."""
    try:
        stream = pickle.dumps(value)
        pickle.loads(stream)
    except (TypeError, AttributeError, pickle.PicklingError):
        return None
    return stream


def test_each_version_of_python_has_the_same_digests() -> None:
    """Digests of standard types are those of the table, which Python 3.11 wrote."""
    made = {kind: digest_of(make()).digest[:12] for kind, (make, _) in STANDARD_KINDS.items()}
    assert STANDARD_DIGESTS == made


SCRIPT = """
import enum, sys
from dataclasses import dataclass
from functionfuse._provenance.code import function_name
from functionfuse._provenance.value_digests import ValueDigests

class Colour(enum.Enum):
    RED = 1

@dataclass
class Settings:
    rate: float

def helper(x):
    return x

def digests():
    values = Colour.RED, Settings(0.1), helper, {Colour.RED: Settings}, Settings(1.0).__repr__, digests
    return [ValueDigests(function_name).of(value).digest for value in values]

if __name__ == "__main__":
    import study
    assert study is not sys.modules["__main__"]
    assert study.digests() == digests()
    print("equal")
"""


def test_a_script_has_the_digests_of_its_import(tmp_path: Path) -> None:
    """Classes, enums and functions of `__main__` are named after the file."""
    script = tmp_path / "study.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, str(script)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)  # noqa: S603
    assert "equal" == done.stdout.strip()


# ---- what has no digest ----


@workflow
def _node(x: int) -> int:
    return x


UNKNOWN: dict[str, tuple[Callable[[], Any], str]] = {
    "file": (lambda: open(__file__), "an open file"),  # noqa: SIM115
    "generator": (lambda: (x for x in "ab"), "a generator"),
    "lock": (threading.Lock, "a lock"),
    "recursive lock": (threading.RLock, "a lock"),
    "socket": (socket.socket, "a socket"),
    "weak reference": (lambda: weakref.ref(helper), "a weak reference"),
    "system's generator": (
        random.SystemRandom,
        "an object of type 'SystemRandom', which cannot be pickled",
    ),
    "node": (partial(_node, 1), "the node <node '_node'"),
    "code": (lambda: helper.__code__, "an object of type 'code', which cannot be pickled"),
    "frame": (sys._getframe, "an object of type 'frame', which cannot be pickled"),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_has_no_digest_is_named(kind: str) -> None:
    """Its place and what it is; all else in the value counts."""
    make, words = UNKNOWN[kind]
    value = make()
    try:
        rows = [1, {"k": 2}, SimpleNamespace(it=value)]
        digest = ValueDigests(function_name).of(rows, "argument rows")
        assert digest.unknown[0].startswith(f"argument rows[2].it: {words}")
        rows[1] = {"k": 3}
        assert digest.digest != ValueDigests(function_name).of(rows).digest
    finally:
        if hasattr(value, "close"):
            value.close()


def test_places_of_unknown_parts() -> None:
    """In attributes, keys, items, arrays, frames and local functions."""
    locks = [threading.Lock() for _ in range(4)]
    lock = locks[0]
    value = {
        "a": Slots("x", [locks[1]]),  # type: ignore[list-item]
        "b": np.array([None, locks[2]]),
        "c": lambda: lock,
        "d": {1: (locks[3],)},
    }
    assert (
        "value['a'].parts[0]: a lock",
        "value['b'][1]: a lock",
        "value['c'] variable 'lock': a lock",
        "value['d'][1][0]: a lock",
    ) == digest_of(value).unknown


def test_a_value_that_is_nested_too_deeply_is_unknown() -> None:
    """It is not an error."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert ("value: a value that is nested too deeply",) == digest_of(value).unknown
    while value:  # not by recursion
        value = value[0]


class Failing:
    """An object whose class raises."""

    def __reduce_ex__(self, _: Any) -> Any:
        message = "not now"
        raise RuntimeError(message)


def test_the_error_of_a_class_is_named() -> None:
    """Digests are never an error."""
    expected = "value: an object of type 'Failing', which cannot be pickled: not now"
    assert (expected,) == digest_of(Failing()).unknown


class Meta(type):
    """A metaclass whose classes cannot be hashed."""

    def __eq__(cls, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


class Unhashable(metaclass=Meta):
    """A class that cannot be hashed."""


def test_a_type_that_cannot_be_hashed_is_no_error() -> None:
    """Objects of it are unknown."""
    assert digest_of([Unhashable()]).unknown[0].startswith("value: a value whose type raises")


# ---- functions and types that are reached ----


def test_functions_and_types_are_reported() -> None:
    """Their text counts elsewhere; those of Python itself are not reported."""
    value = {"f": helper, "t": [Tree(), 1, len, int], "l": lambda: 1}
    reached = digest_of(value).reached
    assert helper in reached
    assert Tree in reached
    assert value["l"] in reached
    assert int not in reached
    assert len(reached) == 3


def test_a_lambda_counts_by_its_text() -> None:
    """As far as the text is known."""
    texts: dict[Any, str] = {}
    values = ValueDigests(function_name, lambda function: texts[function])
    first, second = (lambda x: x for _ in range(2))
    texts |= {first: "x", second: "x"}
    assert values.of(first).digest == values.of(second).digest
    texts[second] = "x + 1"
    assert values.of(first).digest != values.of(second).digest


# ---- large objects ----


@pytest.mark.parametrize("within", [lambda value: value, lambda value: {"a": [value, 1]}])
def test_a_large_object_is_hashed_once(within: Callable[[Any], Any]) -> None:
    """It is known by its identity until the plan is made; the next plan sees that it has changed."""
    values, array = ValueDigests(function_name), np.zeros(1000)
    digest = values.of(within(array))
    array[0] = 1
    assert digest == values.of(within(array))
    assert digest != ValueDigests(function_name).of(within(array))


def test_an_identity_that_is_used_again_is_not_known() -> None:
    """Temporary arrays are released, and others take their place in memory."""
    values = ValueDigests(function_name)
    assert 100 == len({values.of(np.full(10, number)).digest for number in range(100)})


# ---- compared with a model ----

ATOMS = st.sampled_from(
    [0, 1, -1, 2**40, 0.0, -0.0, 1.0, float("nan"), True, False, None, "", "a", "1", b"", b"a", 1j]
)
KEYS = ATOMS | st.lists(ATOMS, max_size=2).map(tuple) | st.frozensets(ATOMS, max_size=2)
VALUES = st.recursive(
    KEYS,
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.lists(parts, max_size=3).map(tuple)
        | st.dictionaries(KEYS, parts, max_size=3)
        | st.sets(KEYS, max_size=3)
        | parts.map(lambda part: Slots("s", part))
        | parts.map(lambda part: SimpleNamespace(part=part))
    ),
    max_leaves=8,
)


def model(value: Any) -> Any:
    """What makes up a value, as a value that Python can compare."""
    kind = type(value).__name__
    if isinstance(value, list | tuple):
        return kind, tuple(map(model, value))
    if isinstance(value, dict):
        return kind, tuple((model(key), model(part)) for key, part in value.items())
    if isinstance(value, set | frozenset):
        return kind, frozenset(map(model, value))
    if isinstance(value, Slots | SimpleNamespace):
        return kind, model(value.parts if isinstance(value, Slots) else value.part)
    return kind, repr(value)


@given(VALUES, VALUES)
def test_digests_are_equal_where_values_are(first: Any, second: Any) -> None:
    """Of any two values of standard types."""
    same = digest_of(copy.deepcopy(first)).digest == digest_of(copy.deepcopy(second)).digest
    assert (model(first) == model(second)) == same


@given(VALUES)
def test_a_digest_does_not_depend_on_identities(value: Any) -> None:
    """Copies and pickles have the same digest."""
    digest = digest_of(value)
    assert digest == digest_of(copy.deepcopy(value))
    assert digest == digest_of(pickle.loads(pickle.dumps(value)))

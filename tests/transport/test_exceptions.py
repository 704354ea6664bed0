"""Exceptions between processes: they arrive as themselves, and pickling elsewhere is unchanged."""

from __future__ import annotations

import copyreg
import pickle
import threading

import pytest

from functionfuse._transport.exceptions import dump_exception, load_exception, round_trips


class TwoArguments(Exception):
    """Hands on one of two arguments, so that unpickling it by its class and `args` fails."""

    def __init__(self, first: int, second: int) -> None:  # noqa: D107
        super().__init__(first)
        self.second = second


def test_class_that_does_not_round_trip_arrives() -> None:
    """Type, `args` and attributes arrive; an attribute that cannot be pickled does so as its repr."""
    error = TwoArguments(1, 2)
    lock = error.__dict__["lock"] = threading.Lock()

    copy = load_exception(dump_exception(error))

    assert (type(copy), copy.args) == (TwoArguments, (1,))
    assert {"second": 2, "lock": repr(lock)} == copy.__dict__


def test_group_with_a_part_that_does_not_round_trip_arrives() -> None:
    """The parts of a group arrive as themselves, also those of a group in it."""
    error = ExceptionGroup("all", [KeyError("k"), ExceptionGroup("some", [TwoArguments(1, 2)])])

    copy = load_exception(dump_exception(error))

    assert isinstance(copy, ExceptionGroup)
    assert copy.subgroup(TwoArguments) is not None
    assert repr(error) == repr(copy)


def test_pickling_by_others_is_unchanged() -> None:
    """Sending an exception does not change how this process pickles its class."""
    before = dict(copyreg.dispatch_table)
    error = TwoArguments(1, 2)

    dump_exception(error)

    assert before == copyreg.dispatch_table
    assert not round_trips(error)
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(error))

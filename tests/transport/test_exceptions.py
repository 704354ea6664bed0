"""Exceptions between processes: they arrive as themselves, and pickling elsewhere is unchanged."""

from __future__ import annotations

import copyreg
import pickle
import threading

import pytest

from functionfuse._transport.exceptions import (
    ExceptionEnvelope,
    dump_exception,
    load_exception,
    round_trips,
)
from functionfuse.errors import EngineError


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


def test_pickling_by_others_is_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sending an exception does not change how this process pickles its class."""
    monkeypatch.delitem(copyreg.dispatch_table, TwoArguments, raising=False)  # of Dask's tblib
    before = dict(copyreg.dispatch_table)
    error = TwoArguments(1, 2)

    dump_exception(error)

    assert before == copyreg.dispatch_table
    assert not round_trips(error, pickle.dumps)
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(error))


def test_reducers_of_tblib_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask registers reducers that pickle frames, which a runaway recursion has too many of."""

    def pickle_exception(_: BaseException) -> tuple[object, ...]:
        message = "would pickle frames"
        raise RecursionError(message)

    pickle_exception.__module__ = "tblib.pickling_support"
    for kind in (TwoArguments, KeyError):
        monkeypatch.setitem(copyreg.dispatch_table, kind, pickle_exception)

    assert load_exception(dump_exception(TwoArguments(1, 2))).args == (1,)
    assert load_exception(dump_exception(KeyError("k"))).args == ("k",)


def test_traceback_of_a_runaway_recursion_is_cut() -> None:
    """Of mutual recursion, whose lines do not repeat, the start and the end are shown."""
    try:
        _left(0)
    except RecursionError as error:
        text = str(load_exception(dump_exception(error)).__cause__)

    assert "lines ..." in text
    assert len(text.splitlines()) < 250
    assert "in _left" in text


def _left(number: int) -> int:
    return _right(number + 1)


def _right(number: int) -> int:
    return _left(number + 1)


def test_envelope_holds_the_exception_itself() -> None:
    """In the process that made the envelope, its exception is the same object."""
    error = TwoArguments(1, 2)

    envelope = ExceptionEnvelope(error)

    assert envelope.error is error
    assert str(envelope) == "TwoArguments: 1"


def test_envelope_is_pickled_as_plain_values() -> None:
    """A scheduler unpickles an envelope without the user's modules; the exception is unpickled once."""
    envelope = pickle.loads(pickle.dumps(ExceptionEnvelope(TwoArguments(1, 2))))

    _, fields = envelope.args[0].__reduce__()
    assert [type(field) for field in fields] == [str, bytes, str]
    assert type(envelope.error) is TwoArguments
    assert envelope.error is envelope.error


def test_envelope_is_unpickled_without_its_init() -> None:
    """All that an envelope has is in `args`, which is all that tblib restores."""
    envelope = ExceptionEnvelope.__new__(ExceptionEnvelope)
    envelope.args = ExceptionEnvelope(KeyError("k")).args

    assert repr(envelope.error) == "KeyError('k')"


class Gone(Exception):
    """Cannot be unpickled once `works` is False."""

    works = True

    def __reduce__(self) -> tuple[object, ...]:
        return make_gone, ()


def make_gone() -> Gone:
    """Make one, or fail."""
    if not Gone.works:
        message = "not here"
        raise RuntimeError(message)
    return Gone("why")


def test_envelope_that_cannot_be_unpickled(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that cannot be unpickled is an EngineError with its type and message, and the reason."""
    envelope = pickle.loads(pickle.dumps(ExceptionEnvelope(Gone("why"))))
    monkeypatch.setattr(Gone, "works", False)

    assert type(envelope.error) is EngineError
    words = "the node's function raised Gone: why, which cannot be unpickled here (RuntimeError: not here)"
    assert words == str(envelope.error)

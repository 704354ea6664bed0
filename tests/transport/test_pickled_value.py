"""Pickled values: which buffers are copied, and what arrives through engines that know buffers and those that do not."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from functionfuse._transport.pickled_value import CopyPolicy, PickledValue, pickle_value
from functionfuse.errors import EngineError

_MANY = 2_000_000


def _read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


def test_writable_buffers_are_copied_and_read_only_ones_are_not() -> None:
    """Each opening of a value has memory of its own, except for read-only buffers."""
    array, fixed = np.ones(_MANY), _read_only(np.ones(_MANY))
    pickled = pickle_value([array, fixed])

    first, second = pickled.open(), pickled.open()

    assert not np.shares_memory(first[0], array)
    assert not np.shares_memory(first[0], second[0])
    assert np.shares_memory(first[1], fixed)
    assert [each.flags.writeable for each in first] == [True, False]


def test_shared_buffers_are_not_copied() -> None:
    """With `SHARE`, arrays of any size are views of the memory of the value; containers are not shared."""
    arrays = [np.ones(_MANY), np.ones(2)]
    pickled = pickle_value(arrays, CopyPolicy.SHARE)

    opened = pickled.open()

    assert opened is not arrays
    assert all(map(np.shares_memory, opened, arrays))
    assert all(each.flags.writeable for each in opened)


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("policy", [*CopyPolicy])
def test_pickles_of_pickled_values(protocol: int, policy: CopyPolicy) -> None:
    """A pickled value can be pickled with protocols that know buffers and with others."""
    value = {"large": np.ones(_MANY), "small": np.ones(2), "empty": np.ones((0, 3), order="F")}

    copy = pickle.loads(pickle.dumps(pickle_value(value, policy), protocol=protocol)).open()

    assert [(each.shape, each.dtype) for each in value.values()] == [
        (each.shape, each.dtype) for each in copy.values()
    ]
    assert copy["large"].sum() == _MANY


def test_frames() -> None:
    """A value can be sent as frames: not copied, and writable where it was, also if frames arrive read-only."""
    value = [np.ones(_MANY), _read_only(np.ones(_MANY))]
    pickled = pickle_value(value, CopyPolicy.SHARE)
    header, frames = pickled.to_frames()
    assert np.shares_memory(np.frombuffer(frames[1], np.uint8), value[0])

    opened = PickledValue.from_frames(header, [bytes(frame) for frame in frames]).open()

    assert [each.flags.writeable for each in opened] == [True, False]
    assert opened[0].sum() == _MANY


class Refusing:
    """An object that cannot be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def test_error_names_the_value() -> None:
    """A failed unpickling is an error with the name of the value, or the reason itself if it has none."""
    with pytest.raises(EngineError, match="the result of node 'a'"):
        pickle_value(Refusing(), what="the result of node 'a'").open()
    with pytest.raises(ValueError, match="no number"):
        pickle_value(Refusing()).open()

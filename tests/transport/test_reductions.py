"""Pickles of memory views, arrays, tensors and deep containers, alone and with out-of-band buffers."""

from __future__ import annotations

import array
import pickle
import sys
from typing import Any

import numpy as np
import pytest

from functionfuse._common import pickler, plain_pickler

BOTH = pytest.mark.parametrize("library", [pickler, plain_pickler], ids=["full", "plain"])


def copies(value: Any, library: Any = pickler) -> list[Any]:
    """Copies of a value, with its buffers in the stream and next to it."""
    buffers: list[pickle.PickleBuffer] = []
    stream = library.dumps(value, protocol=5, buffer_callback=buffers.append)
    return [
        pickle.loads(library.dumps(value, protocol=5)),
        pickle.loads(stream, buffers=buffers),
    ]


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"abc"),
        memoryview(b""),
        memoryview(bytearray(b"abcdefgh"))[::2],
        memoryview(array.array("i", range(5)))[::-1].toreadonly(),
        memoryview(array.array("d", [1.0, 2.0])),
        memoryview(array.array("d")),
        memoryview(array.array("d")).toreadonly(),
        memoryview(array.array("H", range(6))).cast("B").cast("H", (2, 3)),
        np.asfortranarray(np.ones((2, 3))).data,
    ],
    ids=lambda view: f"{view.format}{view.shape}",
)
def test_memory_views(view: memoryview) -> None:
    """A memory view has its bytes, format, shape and right to write in another process."""
    for copy in copies(view):
        assert type(copy) is memoryview
        assert (view.format, view.shape, view.readonly) == (copy.format, copy.shape, copy.readonly)
        assert view.tolist() == copy.tolist()


@pytest.mark.parametrize("view", [np.zeros(3, ">f8").data, np.zeros((0, 3)).data])
def test_memory_views_without_an_equivalent(view: memoryview) -> None:
    """A memory view that cannot be made again is refused when it is pickled."""
    with pytest.raises(pickle.PicklingError, match=r"memoryview of format .* and shape"):
        pickler.dumps(view)


@BOTH
@pytest.mark.parametrize(
    "values",
    [
        np.array([1, 2], ">M8[s]"),
        np.array(5, ">m8[us]"),
        np.zeros((2, 3), ">f8")[:, ::2],
        np.zeros(3, [("a", ">i4"), ("b", "f8")])[::2],
        np.zeros(2, ">i2"),
    ],
    ids=str,
)
def test_byte_order(library: Any, values: Any) -> None:
    """An array in a foreign byte order keeps it, and its numbers."""
    for copy in copies(values, library):
        assert values.dtype == copy.dtype
        assert values.tolist() == copy.tolist()


@BOTH
def test_deep_containers(library: Any) -> None:
    """A container is pickled however deep it is, and the recursion limit is the user's again."""
    value: list[Any] = []
    for _ in range(700):
        value = [value]
    limit = sys.getrecursionlimit()

    copy = pickle.loads(library.dumps(value, protocol=5))

    assert limit == sys.getrecursionlimit()
    depth = 0
    while copy:
        (copy,) = copy
        depth += 1
    assert depth == 700


class SetsLimit:
    """A value whose pickling sets the recursion limit."""

    def __reduce__(self) -> tuple[Any, ...]:
        sys.setrecursionlimit(1234)
        return int, ()


def test_recursion_limit_of_the_user() -> None:
    """A recursion limit that is set while a value is pickled stays."""
    before = sys.getrecursionlimit()
    try:
        pickler.dumps([SetsLimit()])
        assert sys.getrecursionlimit() == 1234
    finally:
        sys.setrecursionlimit(before)


@BOTH
def test_tensors_share_memory(library: Any) -> None:
    """Tensors of one value that share memory do so in the copy, and take it once."""
    torch = pytest.importorskip("torch")
    values = torch.arange(100_000.0)

    stream = library.dumps(list(values.split(1000)), protocol=5)
    first, *_, last = pickle.loads(stream)

    assert first.untyped_storage().data_ptr() == last.untyped_storage().data_ptr()
    assert len(stream) < 2 * values.nbytes


@BOTH
@pytest.mark.parametrize("dtype", ["bfloat16", "uint16", "float8_e4m3fn"])
def test_tensors_of_every_dtype(library: Any, dtype: str) -> None:
    """Tensors are pickled with their dtype."""
    torch = pytest.importorskip("torch")
    tensor = torch.ones(3).to(getattr(torch, dtype))

    copy = pickle.loads(library.dumps([tensor, tensor], protocol=5))

    assert copy[0] is copy[1]
    assert (tensor.dtype, tensor.float().tolist()) == (copy[0].dtype, copy[0].float().tolist())

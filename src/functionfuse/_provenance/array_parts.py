"""Parts of numpy's arrays, scalars and dtypes: the elements in C order, without padding, and without a copy of the whole."""

from __future__ import annotations

import sys
from typing import Any, Final

from functionfuse._provenance.raw_parts import Parts, Raw, hash_bytes

__all__ = ["array_parts", "dtype_parts", "masked_parts", "scalar_parts"]

_CHUNK: Final = 1 << 18  # elements of an array that is not contiguous
_LONG_DOUBLES: Final = "gG"  # codes of dtypes
_X87_MANTISSA: Final = 63  # bits of a long double with ten bytes of 16 in use
_X87_BYTES: Final = 10
_PLAIN_KINDS: Final = frozenset("biufcmMSU")
_STRINGS: Final = "T"  # of variable length: the array holds addresses


def array_parts(array: Any) -> Parts:
    """An array; the order of its elements in memory does not count."""
    array, attributes = _plain(array)
    dtype, shape = array.dtype, array.shape
    if dtype.names:
        fields = [array[name] for name in dtype.names]
        labels = [f"[{name!r}]" for name in dtype.names]
        return ("fields", shape, *dtype.names), (*labels, ""), (*fields, attributes)
    if dtype.hasobject or dtype.char == _STRINGS:
        return ("objects", shape, str(dtype)), ("", ""), (array.ravel().tolist(), attributes)
    header = "array", shape, dtype.str, dtype.name
    return header, ("", ""), (Raw(_hash_elements(array)), attributes)


def masked_parts(array: Any) -> Parts:
    """A masked array: its elements, also masked ones, and the mask."""
    numpy: Any = sys.modules["numpy"]
    filled = array.view()  # which makes its own fill value when it is asked for
    parts = array.data, numpy.ma.getmaskarray(array), filled.fill_value, array.hardmask
    return ("masked",), (".data", ".mask", ".fill_value", ""), parts


def scalar_parts(scalar: Any) -> Parts:
    """A scalar; a record is an array without dimensions."""
    dtype = scalar.dtype
    if dtype.kind in _PLAIN_KINDS and dtype.char not in _LONG_DOUBLES:
        return ("scalar", dtype.str, scalar.tobytes()), (), ()
    numpy: Any = sys.modules["numpy"]
    return ("scalar",), ("",), (numpy.asarray(scalar),)


def dtype_parts(dtype: Any) -> Parts:
    """A dtype; of a structured one, its fields and where they are."""
    if dtype.names:
        fields = [(name, *dtype.fields[name]) for name in dtype.names]
        return ("fields", dtype.itemsize, dtype.isalignedstruct), ("",), (fields,)
    if dtype.subdtype:
        return ("subarray",), ("", ""), dtype.subdtype
    return ("dtype", dtype.str, str(dtype)), (), ()


def _plain(array: Any) -> tuple[Any, Any]:
    """An array without its subclass, and the attributes of the subclass."""
    numpy: Any = sys.modules["numpy"]
    if type(array) is numpy.ndarray:
        return array, None
    attributes = {} if isinstance(array, numpy.memmap) else {**getattr(array, "__dict__", {})}
    return array.view(numpy.ndarray), attributes or None


def _hash_elements(array: Any) -> bytes:
    if not array.nbytes:
        return b""
    if array.dtype.char not in _LONG_DOUBLES and array.flags.c_contiguous:
        return hash_bytes(array.reshape(-1).view("u1"))
    from xxhash import xxh3_128

    numpy: Any = sys.modules["numpy"]
    flags = ["external_loop", "buffered", "zerosize_ok"]
    digest = xxh3_128()
    for chunk in numpy.nditer(array, flags, order="C", buffersize=_CHUNK):
        digest.update(_bytes(numpy, numpy.ascontiguousarray(chunk)))
    return bytes(digest.digest())


def _bytes(numpy: Any, chunk: Any) -> Any:
    """The bytes of a chunk; those of a long double that are not in use are not initialized."""
    data = chunk.view("u1")
    if chunk.dtype.char not in _LONG_DOUBLES:
        return data
    if numpy.finfo(numpy.longdouble).nmant != _X87_MANTISSA:
        return data
    used = data.reshape(-1, numpy.dtype(numpy.longdouble).itemsize)[:, :_X87_BYTES]
    return numpy.ascontiguousarray(used)

"""Shared tensors: a reducer for tensors of PyTorch that pickles memory once, however many of them share it.

PyTorch itself pickles the whole memory with each view, so that the parts of `tensor.split()` take as many
times the space as there are parts.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["tensor_reducers"]


def tensor_reducers() -> dict[type, Callable[[Any], Any]]:
    """The reducer for the dispatch table of one pickler; none if PyTorch is not imported."""
    torch = sys.modules.get("torch")
    tensor = getattr(torch, "Tensor", None)
    return {} if tensor is None else {tensor: _SharedMemory().reduce}


class _SharedMemory:
    """The memory of the tensors in one pickle."""

    def __init__(self) -> None:
        self._storages: dict[Any, Any] = {}

    def reduce(self, tensor: Any) -> Any:
        """Reduce a tensor as PyTorch does, with the same object for the same memory."""
        construct, arguments, *rest = tensor.__reduce_ex__(5)
        if construct.__name__ != "_rebuild_tensor_v2":  # sparse, quantized, of another device
            return construct, arguments, *rest
        storage, *form = arguments
        key = tensor.untyped_storage().data_ptr(), tensor.dtype  # one memory: it is kept alive
        return construct, (self._storages.setdefault(key, storage), *form), *rest

"""Reduction of torch's tensors for picklers: shared memory is pickled once, and all dtypes can be pickled.

The pickles need only the standard library and torch, which is never imported here.
"""

from __future__ import annotations

import sys
from typing import Any

from functionfuse._common.pickle_buffers import PROTOCOL

__all__ = ["TensorReducer"]


class TensorReducer:
    """Reduces the tensors of one pickle."""

    def __init__(self) -> None:
        """Start a pickle."""
        self._storages: dict[tuple[int, Any], Any] = {}

    def __call__(self, tensor: Any) -> Any:
        """Reduce an object of a type named `Tensor`; None if the type is not torch's."""
        if type(tensor).__module__ != "torch":
            return None
        construct, (storage, *arguments), *rest = tensor.__reduce_ex__(PROTOCOL)
        kind = type(storage).__name__
        if kind not in {"TypedStorage", "UntypedStorage"}:
            return construct, (storage, *arguments), *rest
        if kind == "UntypedStorage":  # torch unpickles only the typed one
            storage = _as_bytes(storage)
        # torch creates a new storage object each time, so each view would be pickled with a copy of the memory
        key = id(tensor.untyped_storage()), storage.dtype
        return construct, (self._storages.setdefault(key, storage), *arguments), *rest


def _as_bytes(storage: Any) -> Any:
    torch = sys.modules["torch"]
    numbers = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
    return numbers.__reduce_ex__(PROTOCOL)[1][0]

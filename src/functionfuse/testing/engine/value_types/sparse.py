"""Sparse arrays and matrices of scipy."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from scipy import sparse

from functionfuse.testing.engine.value_types.table import LARGE, ValueType

__all__ = ["VALUE_TYPES"]


def _coordinates(kind: Any = sparse.coo_array) -> Any:
    return kind(([1.0, -0.0, 3.0], ([0, 2, 2], [1, 0, 3])), shape=(3, 4))


VALUE_TYPES: Final = (
    ValueType("sparse array, COO", _coordinates),
    ValueType("sparse array, CSR", lambda: _coordinates().tocsr()),
    ValueType("sparse array, CSC, empty", lambda: sparse.csc_array((0, 3), dtype="f4")),
    ValueType("sparse array, BSR", lambda: sparse.bsr_array(np.eye(4), blocksize=(2, 2))),
    ValueType("sparse array, DIA", lambda: sparse.dia_array(np.eye(3, dtype=complex))),
    ValueType("sparse array, LIL", lambda: _coordinates().tolil()),
    ValueType("sparse array, DOK", lambda: _coordinates().todok()),
    ValueType("sparse array, large", lambda: sparse.eye_array(LARGE // 8, format="csr")),
    ValueType("sparse matrix, CSR", lambda: _coordinates(sparse.coo_matrix).tocsr()),
)

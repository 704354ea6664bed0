"""Arrays, datasets and trees of xarray."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import xarray as xr

from functionfuse.testing.engine.value_types.table import LARGE, ValueType

__all__ = ["VALUE_TYPES"]


def _array() -> Any:
    return xr.DataArray(
        np.asfortranarray([[1.0, np.nan], [-0.0, 2.0]]),
        dims=("x", "y"),
        coords={"x": ["a", "b"], "y": [10, 20], "z": ("x", [True, False])},
        name="array",
        attrs={"unit": ["m"]},
    )


def _dataset() -> Any:
    times = np.array(["2026-01-01", "NaT"], "M8[ns]")
    return xr.Dataset({"a": _array(), "n": 3}, coords={"t": ("x", times)}, attrs={"source": "b"})


VALUE_TYPES: Final = (
    ValueType("DataArray", _array),
    ValueType("DataArray, 0-d", lambda: xr.DataArray(np.float32(1.5), name="a")),
    ValueType("DataArray, empty", lambda: _array().isel(x=slice(0), y=slice(0))),
    ValueType("DataArray, two levels", lambda: _array().stack(k=("x", "y"))),
    ValueType("DataArray, large", lambda: xr.DataArray(np.ones((LARGE // 16, 2), "f4").T)),
    ValueType("Dataset", _dataset),
    ValueType("Dataset, empty", xr.Dataset),
    ValueType("Variable", lambda: _array().variable),
    ValueType("DataTree", lambda: xr.DataTree.from_dict({"/": _dataset(), "/k": xr.Dataset()})),
)

"""Values of libraries whose `==` is elementwise, or ignores types, attributes and coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from functionfuse.comparison.equality import Equality

if TYPE_CHECKING:
    from collections.abc import Callable


def array(xr: Any, *values: float, **options: Any) -> Any:
    """A data array."""
    return xr.DataArray(list(values), dims="x", **options)


def subclass(pd: Any, *values: int) -> Any:
    """A frame of the user's type, which each process makes from the pickle."""
    return type("Frame", (pd.DataFrame,), {"_constructor": property(type)})({"a": values})


@pytest.mark.parametrize(
    ("library", "make", "other", "path"),
    [
        ("xarray", lambda xr: array(xr, 1), lambda xr: array(xr, 2), ".variable.values[0]"),
        ("xarray", array, lambda xr: array(xr, attrs={"u": 1}), ".variable.attrs.keys()"),
        ("xarray", array, lambda xr: array(xr, coords={"y": 1}), ".coords.keys()"),
        (
            "xarray",
            lambda xr: xr.Dataset({"a": 1}),  # bool() of a comparison is True
            lambda xr: xr.Dataset({"a": 2}),
            ".variables['a'].values[0]",
        ),
        (
            "pyarrow",
            lambda pa: pa.array([1], pa.timestamp("s")),
            lambda pa: pa.array([1], pa.timestamp("s", "UTC")),
            ".type",
        ),
        (
            "pyarrow",
            lambda pa: pa.table({"a": [1]}),
            lambda pa: pa.table({"a": [1]}).replace_schema_metadata({"b": "c"}),
            ".schema['metadata']",
        ),
        (
            "scipy.sparse",
            lambda sparse: sparse.eye_array(3, format="csr"),
            lambda sparse: 2 * sparse.eye_array(3, format="csr"),
            ".data[0]",
        ),
        ("pandas", lambda pd: subclass(pd, 1), lambda pd: subclass(pd, 2), ""),
        ("torch", lambda torch: torch.ones(2), lambda torch: torch.ones(2).half(), ".dtype"),
        (
            "torch",
            lambda torch: torch.ones(2).bfloat16(),
            lambda torch: torch.tensor([1.0, 2.0]).bfloat16(),
            ".values[1]",
        ),
    ],
)
def test_first_difference(
    library: str, make: Callable[[Any], Any], other: Callable[[Any], Any], path: str
) -> None:
    """The first difference of two values is named by the part in which it is."""
    module = pytest.importorskip(library)
    found = Equality().mismatch(make(module), other(module))

    assert found is not None
    assert path in found.path
    assert Equality().mismatch(make(module), make(module)) is None


def test_sparse_arrays_of_any_size() -> None:
    """Sparse arrays are compared by their elements: an `==` of scipy would make all of 10**10."""
    sparse = pytest.importorskip("scipy.sparse")
    one, other = (sparse.csr_array(([1.0], ([0], [0])), shape=(10**5, 10**5)) for _ in range(2))

    assert Equality().mismatch(one, other) is None

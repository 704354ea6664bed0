"""Nodes in tables, arrays and models of other libraries are refused when the call is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from example_nodes import add, run, same

from functionfuse.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pydantic = pytest.importorskip("pydantic")
attrs = pytest.importorskip("attrs")


class Model(pydantic.BaseModel):  # type: ignore[misc,name-defined]
    """A model of pydantic."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    value: Any


Record: Any = attrs.make_class("Record", ["value"], slots=True)


class Measured(pd.DataFrame):  # type: ignore[misc,name-defined]
    """A frame with an attribute, declared as pandas documents it."""

    _metadata = ("unit",)

    @classmethod
    def of(cls, unit: Any) -> Measured:
        """A frame with a unit."""
        frame = cls({"a": [1]})
        frame.unit = unit
        return frame


def objects(*items: Any) -> Any:
    """An array of objects."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


HOLDERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "frame": (lambda n: pd.DataFrame({"z": [0], "a": ["x"], "b": [n]}), "column 'b', row 0"),
    "series": (lambda n: pd.Series(["x", n]), "row 1"),
    "index": (lambda n: pd.Series([1], index=[n]), "index, label 0"),
    "columns": (lambda n: pd.DataFrame([[1, 2]], columns=["a", n]), "columns, label 1"),
    "categories": (lambda n: pd.Series(pd.Categorical([n])), "categories, label 0"),
    "categorical column": (
        lambda n: pd.DataFrame({"a": pd.Categorical([n])}),
        "column 'a', categories, label 0",
    ),
    "categorical index": (lambda n: pd.CategoricalIndex([n]), "categories, label 0"),
    "subclass of a frame": (Measured.of, "attribute 'unit'"),
    "polars": (lambda n: pl.DataFrame([pl.Series("a", [n], dtype=pl.Object)]), "column 'a', row 0"),
    "polars series": (lambda n: pl.Series("a", [0, n], dtype=pl.Object), "row 1"),
    "array": (lambda n: objects(0, n), "item 1"),
    "matrix": (lambda n: objects(0, 1, 2, n).reshape(2, 2), r"item \(1, 1\)"),
    "records": (
        lambda n: np.array([(1, n)], dtype=[("i", int), ("o", object)]),
        "field 'o', item 0",
    ),
    "pydantic": (lambda n: Model(value={"k": [n]}), "attribute 'value', item 'k', item 0"),
    "attrs": (Record, "attribute 'value'"),
    "nested": (lambda n: [Model(value=objects(n))], "item 0, attribute 'value', item 0"),
}


@pytest.mark.parametrize(("make", "path"), HOLDERS.values(), ids=HOLDERS)
def test_a_node_is_refused_by_its_path(make: Callable[[Any], Any], path: str) -> None:
    """The error names the argument, the row and column or the like, the node and its line."""
    found = r"is <node 'add' of test_capture_libraries\.py:\d+>"
    with pytest.raises(GraphError, match=rf"argument 'value', {path} {found}"):
        same(make(add(0)))


def test_tables_without_nodes_are_passed_by_reference() -> None:
    """Tables, arrays and models without nodes are not copied."""
    for thing in (
        Model(value=1),
        Record(1),
        pd.DataFrame({"a": ["x", None], "b": [object(), 1]}),
        pl.DataFrame({"a": ["x"]}),
        objects(1, "x"),
    ):
        assert thing is run(same(thing))


@pytest.mark.parametrize(
    "use",
    [
        lambda node: np.arange(3) + node,
        lambda node: np.arange(3) == node,
        lambda node: np.add(1, node),
        np.mean,
        lambda node: pd.Series([1, 2]) == node,
        lambda node: pd.Series([1, 2]).add(1).mul(node[0]),
    ],
    ids=["array +", "array ==", "ufunc", "function", "series ==", "item"],
)
@pytest.mark.filterwarnings("ignore:Operation with node")  # of pandas
def test_functions_of_numpy_and_pandas_refuse_a_node(use: Callable[[Any], object]) -> None:
    """The error says what to do instead of calling the operator for each element."""
    with pytest.raises(TypeError, match="inside a @workflow function that takes the node"):
        use(add(1))

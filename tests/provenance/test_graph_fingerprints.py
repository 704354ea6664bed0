"""Fingerprints of a graph's nodes: which edits change which nodes."""

from __future__ import annotations

import enum
import threading
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from functionfuse import RNG, SEED, workflow
from functionfuse._graph.builder import build
from functionfuse._graph.seeded_graph import bind_seeds
from functionfuse._provenance.code import CodeDigest, CodeDigests
from functionfuse._provenance.fingerprint import Fingerprint
from functionfuse._provenance.graph_fingerprints import GraphFingerprints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Metric(enum.Enum):
    """How a fit is scored."""

    MEAN = 1
    MEDIAN = 2


@dataclass
class Options:
    """Options, which may hold nodes."""

    rate: Any
    data: Any = None


class Pair(NamedTuple):
    """A named tuple, which may hold nodes."""

    left: Any
    right: Any


@workflow
def load(path: str, *columns: str) -> Any:
    """Read a file."""
    return path


@workflow
def clean(data: Any, rate: Any = 0.1, *, options: Any = None, **further: Any) -> Any:
    """Clean the data."""
    return data


@workflow
def fit(data: Any, c: Any, key: Any = None) -> Any:
    """Fit a model."""
    return data


@workflow
def table(rows: Any) -> Any:
    """Make a table of rows."""
    return rows


@workflow
class Model:
    """A model with state."""

    def __init__(self, depth: int) -> None:
        """Take a depth."""
        self.depth = depth

    def train(self, data: Any, epochs: int = 1) -> int:
        """Train."""
        return epochs

    def predict(self, data: Any) -> Any:
        """Predict."""
        return data


def study(  # noqa: PLR0913 - what can be edited
    *,
    path: Any = "a.csv",
    columns: tuple[str, ...] = ("x",),
    cleaned: Callable[[Any], Any] = lambda raw: clean(raw, 0.2, options={"a": [1]}),
    cs: Iterable[Any] = (1, 10),
    item: Callable[[Any], Any] = lambda fitted: fitted["best"],
    rows: Callable[[Any], Any] = lambda *items: [*items],
    model: Callable[[], Any] = lambda: Model(3),
    trained: Callable[[Any, Any], Any] = lambda model, data: model.train(data, epochs=2),
    predicted: Callable[[Any, Any], Any] = lambda model, data: model.predict(data),
) -> Any:
    """The graph of a study: raw -> clean -> fit-* -> table; model -> trained -> predicted -> all."""
    raw = load(path, *columns).set_name("raw")
    data = cleaned(raw).set_name("clean")
    fits = [fit(data, c).set_name(f"fit-{number}") for number, c in enumerate(cs)]
    made = table(rows(*map(item, fits))).set_name("table")
    instance = model().set_name("model")
    trained(instance, data).set_name("trained")
    prediction = predicted(instance, raw).set_name("predicted")
    return build([made, prediction, table([made, prediction]).set_name("all")])


def derivations(
    graph: Any, code: CodeDigests | None = None, **seeds: int
) -> dict[str, tuple[str, str]]:
    """Both derivations of all nodes, by name."""
    made = GraphFingerprints(
        graph, code or CodeDigests(), {k.replace("_", "-"): v for k, v in seeds.items()}
    )
    return {
        node.name: (made.graph_derivation(node.number), made.derivation(node.number))
        for node in graph
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """The names of nodes of which both derivations differ; of nodes in both."""
    both = before.keys() & after.keys()
    found = {name for name in both if before[name][0] != after[name][0]}
    assert found == {name for name in both if before[name][1] != after[name][1]}
    return found


def extra_training(model: Any, data: Any) -> Any:
    """Another call before the one with a name."""
    model.train(data)
    return model.train(data, epochs=2)


OF_CLEAN = {"clean", "fit-0", "fit-1", "table", "trained", "predicted", "all"}
OF_FITS = {"fit-0", "fit-1", "table", "all"}
OF_TABLE = {"table", "all"}
OF_MODEL = {"model", "trained", "predicted", "all"}
OF_TRAINED = {"trained", "predicted", "all"}
#: Edits of the study, each with the nodes that it changes.
EDITS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "a path": ({"path": "b.csv"}, {"raw", *OF_CLEAN}),
    "type of a path": ({"path": b"a.csv"}, {"raw", *OF_CLEAN}),
    "one more positional argument": ({"columns": ("x", "y")}, {"raw", *OF_CLEAN}),
    "order of positional arguments": ({"columns": ("y",)}, {"raw", *OF_CLEAN}),
    "a number": ({"cleaned": lambda raw: clean(raw, 0.3, options={"a": [1]})}, OF_CLEAN),
    "an int for a float": ({"cs": (1, 10.0)}, {"fit-1", *OF_TABLE}),
    "a bool for an int": ({"cs": (True, 10)}, {"fit-0", *OF_TABLE}),
    "minus zero": ({"cs": (1, -0.0)}, {"fit-1", *OF_TABLE}),
    "an item of a list in a dict": (
        {"cleaned": lambda raw: clean(raw, 0.2, options={"a": [2]})},
        OF_CLEAN,
    ),
    "an argument that has its default": ({"cleaned": clean}, OF_CLEAN),
    "one more keyword": (
        {"cleaned": lambda raw: clean(raw, 0.2, options={"a": [1]}, more=None)},
        OF_CLEAN,
    ),
    "an enum": ({"cs": (Metric.MEAN, 10)}, {"fit-0", *OF_TABLE}),
    "an array": ({"cs": (np.zeros(3), 10)}, {"fit-0", *OF_TABLE}),
    "a set": ({"cs": ({"a", "b"}, 10)}, {"fit-0", *OF_TABLE}),
    "a function": ({"cs": (len, 10)}, {"fit-0", *OF_TABLE}),
    "a lambda": ({"cs": (lambda x: x, 10)}, {"fit-0", *OF_TABLE}),
    "a node in a dataclass": (
        {"cleaned": lambda raw: clean(raw, 0.2, options=Options(1, raw))},
        OF_CLEAN,
    ),
    "an item": ({"item": lambda fitted: fitted["worst"]}, OF_TABLE),
    "an item of an item": ({"item": lambda fitted: fitted["best"][0]}, OF_TABLE),
    "the whole for an item": ({"item": lambda fitted: fitted}, OF_TABLE),
    "order of nodes": ({"rows": lambda a, b: [b, a]}, OF_TABLE),
    "one more node": ({"rows": lambda a, b: [a, b, a]}, OF_TABLE),
    "one node less": ({"rows": lambda a, b: [a]}, OF_TABLE),
    "one more model": ({"cs": (1, 10, 100)}, OF_TABLE),
    "a model for another": ({"cs": (1, 100)}, {"fit-1", *OF_TABLE}),
    "a tuple for a list": ({"rows": lambda a, b: (a, b)}, OF_TABLE),
    "a dict for a list": ({"rows": lambda a, b: {"a": a, "b": b}}, OF_TABLE),
    "a named tuple for a list": ({"rows": Pair}, OF_TABLE),
    "a nested list": ({"rows": lambda a, b: [[a, b]]}, OF_TABLE),
    "a literal next to nodes": ({"rows": lambda a, b: [a, b, "total"]}, OF_TABLE),
    "a constructor argument": ({"model": lambda: Model(4)}, OF_MODEL),
    "an argument of a method": (
        {"trained": lambda model, data: model.train(data, epochs=3)},
        OF_TRAINED,
    ),
    "an earlier call": ({"trained": extra_training}, OF_TRAINED),
    "another method": ({"predicted": lambda model, data: model.train(data)}, {"predicted", "all"}),
    "a parent of a method": (
        {"predicted": lambda model, data: model.predict([data])},
        {"predicted", "all"},
    ),
    "an instance as an argument": (
        {"predicted": lambda model, data: clean(model)},
        {"predicted", "all"},
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_changes_the_nodes_that_depend_on_it(edit: str) -> None:
    """And no others."""
    changes, expected = EDITS[edit]
    after = derivations(study(**changes))
    assert after == derivations(study(**changes))
    assert expected == changed(derivations(study()), after)


NO_EDITS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a keyword for a position": {
        "cleaned": lambda raw: clean(options={"a": [1]}, rate=0.2, data=raw)
    },
    "another node before": {"model": lambda: (load("unused"), Model(3))[1]},
    "equal literals": {"path": str(b"a.csv", "ascii"), "cs": [*map(int, ("1", "10"))]},
    "an iterator of nodes for the same": {"rows": lambda *items: [*iter(items)]},
}


@pytest.mark.parametrize("edit", NO_EDITS)
def test_what_is_no_edit_changes_nothing(edit: str) -> None:
    """The calls are the same for their functions."""
    assert derivations(study()) == derivations(study(**NO_EDITS[edit]))


CONTAINERS: dict[str, Callable[[Any, Any], Any]] = {
    "list": lambda a, b: [a, b],
    "tuple": lambda a, b: (a, b),
    "set": lambda a, b: {a, 1},
    "frozenset": lambda a, b: frozenset({a, 1}),
    "dict": lambda a, b: {"a": a, "b": b},
    "other keys": lambda a, b: {"a": a, "c": b},
    "other order": lambda a, b: {"b": b, "a": a},
    "key": lambda a, b: {a: b},
    "OrderedDict": lambda a, b: OrderedDict(a=a, b=b),
    "Counter": lambda a, b: Counter(a=a, b=b),
    "deque": lambda a, b: deque([a, b]),
    "bounded deque": lambda a, b: deque([a, b], maxlen=2),
    "iterator": lambda a, b: iter([a, b]),
    "dataclass": Options,
    "dataclass with a literal": lambda a, b: Options(a, 1),
    "swapped": lambda a, b: Options(b, a),
    "named tuple": Pair,
    "slice": slice,
    "views": lambda a, b: {"a": a, "b": b}.values(),
    "nested": lambda a, b: [{"a": (a,)}, [b]],
    "same twice": lambda a, b: [a, a],
    "item": lambda a, b: [a, b["k"]],
    "item by number": lambda a, b: [a, b[0]],
    "item by bool": lambda a, b: [a, b[False]],
    "item by tuple": lambda a, b: [a, b[0, 1]],
    "items of items": lambda a, b: [a, b[0][1]],
}


def test_where_a_node_stands_is_the_structure() -> None:
    """In all containers that may hold nodes, no two of which are the same."""
    found: dict[str, str] = {}
    for name, container in CONTAINERS.items():
        for _ in range(2):
            a, b = load("a").set_name("a"), load("b").set_name("b")
            made = derivations(build([table(container(a, b)).set_name("table"), b]))
            assert name == found.setdefault(made["table"][0], name)


def test_shared_containers_are_not_copies() -> None:
    """A function that changes one row changes the other."""
    row = [0]
    shared = derivations(build([table([row, row]).set_name("table")]))
    copied = derivations(build([table([[0], [0]]).set_name("table")]))
    assert {"table"} == changed(shared, copied)


def test_a_replaced_function_is_an_edit_of_the_graph() -> None:
    """Of the node and all that depend on it."""
    replaced = study().replace_func("fit-0", partial(_other_fit, more=1))
    assert {"fit-0", "table", "all"} == changed(derivations(study()), derivations(replaced))


def test_what_a_callable_holds_is_written_in_the_graph() -> None:
    """The arguments of a partial object, and the state of an object that is called."""
    for first, second in (
        (partial(_other_fit, c=1), partial(_other_fit, c=2)),
        (Options(1).__eq__, Options(2).__eq__),
        (Scale(1), Scale(2)),
        (Scale(1).by, Scale(2).by),
    ):
        one, same, other = (
            derivations(build([workflow(function)(1).set_name("it")]))
            for function in (first, first, second)
        )
        assert one == same
        assert {"it"} == changed(one, other)


class Scale:
    """An object that is called."""

    def __init__(self, factor: int) -> None:
        """Take a factor."""
        self.factor = factor

    def __call__(self, x: int, **_: Any) -> int:
        """Scale."""
        return self.factor * x

    def by(self, x: int) -> int:
        """Scale."""
        return self.factor * x


def _other_fit(data: Any, c: Any, more: int = 0) -> Any:
    return more


def test_a_group_is_no_edit() -> None:
    """Nodes that run in one unit have the derivations of others."""
    graph = study()
    assert derivations(graph) == derivations(graph.fuse({"fit-0", "fit-1"}, {}))


def test_a_seed_counts() -> None:
    """For its node and all that depend on it."""
    assert {"fit-0", *OF_TABLE} == changed(derivations(study()), derivations(study(), fit_0=17))
    assert {"fit-0", *OF_TABLE} == changed(
        derivations(study(), fit_0=1), derivations(study(), fit_0=17)
    )


class ChangedCode(CodeDigests):
    """Digests of code after one function was edited."""

    def of(self, function: Any, reached: Iterable[Any] = ()) -> CodeDigest:
        """The digest of a function."""
        made = super().of(function, reached)
        if function is not clean.__wrapped__:
            return made
        return CodeDigest("0" * 32, made.parts)


def test_code_changes_only_the_derivation() -> None:
    """Of the node of the function and of all that depend on it."""
    before, after = derivations(study()), derivations(study(), ChangedCode())
    assert OF_CLEAN == {name for name in before if before[name][1] != after[name][1]}
    assert not {name for name in before if before[name][0] != after[name][0]}


def test_a_class_of_an_argument_is_code() -> None:
    """As are functions in arguments; they count by their name in the arguments."""
    seen: list[tuple[Any, ...]] = []

    class Seeing(CodeDigests):
        def of(self, function: Any, reached: Iterable[Any] = ()) -> CodeDigest:
            seen.append((function, *reached))
            return super().of(function, reached)

    graph = build([fit(Options(1), _other_fit, Metric.MEAN)])
    GraphFingerprints(graph, Seeing(), {}).derivation(0)
    assert (fit.__wrapped__, Metric, Options, _other_fit) in seen


def test_what_is_unknown_upstream_is_unknown() -> None:
    """And nothing else."""
    unknown = load(threading.Lock()).set_name("lock")
    graph = build([table([load("a"), fit(unknown, 1)]), clean(load("b"))])
    made = GraphFingerprints(graph, CodeDigests(), {})
    assert {"lock", "fit_0000", "table_0000"} == {
        node.name for node in graph if made.is_unknown(node.number)
    }
    assert ("argument path: a lock",) == made.fingerprint(graph.nodes["lock"].number).unknown


def test_a_fingerprint_says_what_a_node_depends_on() -> None:
    """Arguments, literals, upstream and structure by name."""
    graph = study(cs=(Options([1, 2]), 10))
    made = GraphFingerprints(graph, CodeDigests(), {"fit-0": 17})
    fit_0, whole = (made.fingerprint(graph.nodes[name].number) for name in ("fit-0", "table"))
    numbers = {node.name: node.number for node in graph}
    assert "test_graph_fingerprints.fit" == fit_0.function
    assert ["data", "c"] == [*fit_0.arguments]
    assert (17, None) == (fit_0.seed, whole.seed)
    assert {"clean": made.derivation(numbers["clean"])} == fit_0.upstream
    assert (("data", "clean"),) == fit_0.structure
    assert (("rows[0]", "fit-0['best']"), ("rows[1]", "fit-1['best']")) == whole.structure
    assert {"c": "10"} == made.fingerprint(numbers["fit-1"]).literals
    trained = made.fingerprint(numbers["trained"])
    assert ("self", "instance model") in trained.structure
    assert {"epochs": "2"} == trained.literals
    assert fit_0 == Fingerprint.from_header(fit_0.to_header())


def test_a_fingerprint_is_made_of_what_was_used() -> None:
    """A result that was computed of a stale one is stale."""
    graph = study()
    made = GraphFingerprints(graph, CodeDigests(), {})
    number, parent = graph.nodes["fit-0"].number, graph.nodes["clean"].number
    expected = made.fingerprint(number)
    assert expected.derivation == made.derivation(number)
    assert expected == made.fingerprint(number, {parent: made.derivation(parent)})
    stale = made.fingerprint(number, {parent: "0" * 32})
    assert stale.derivation != expected.derivation
    assert {"clean": "0" * 32} == stale.upstream
    assert stale.graph_derivation == expected.graph_derivation


def test_placeholders_of_seeds_count_by_name() -> None:
    """SEED and RNG are arguments of their own; their values count as the seed of the node."""

    def arguments(seed: Any, root: int) -> tuple[Any, str]:
        node = fit(1, seed).set_name("fit")
        graph = bind_seeds(build([node]), {"fit": root}, "seeded")
        found = GraphFingerprints(graph, CodeDigests(), {"fit": root}).fingerprint(0)
        return found.arguments, found.derivation

    one, other = arguments(SEED, 17), arguments(SEED, 18)
    assert one[0] == other[0]
    assert one[1] != other[1]
    placeholders = [SEED, RNG, SEED % 2**32, SEED % 7, [SEED], "SEED"]
    assert 6 == len({str(arguments(each, 17)[0]) for each in placeholders})

"""Options by query: patterns, warnings, plugins, and what is refused when it is set."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.backends.plugins import InitializerPlugin, PluginCollection, RandomStatePlugin
from functionfuse.errors import GraphError, NoMatchWarning, OptionError
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ["model-1", "model-2", "data"]

#: What plugins have set up for the node that runs next.
prepared: list[object] = []


@workflow
def look(*_: Any) -> list[object]:
    """Give back what was set up before this node."""
    seen = list(prepared)
    prepared.clear()
    return seen


@pytest.fixture
def three() -> LocalWorkflow:
    """A workflow of three independent nodes, each of which returns what a plugin has set up."""
    prepared.clear()
    return LocalWorkflow(*[look().set_name(name) for name in NAMES], workflow_name="three")


def prepare(value: object) -> InitializerPlugin:
    """A plugin that leaves a mark."""
    return InitializerPlugin(lambda: prepared.append(value))


# ---- patterns ----

QUERIES: dict[str, Callable[[LocalWorkflow, Any], object]] = {
    "query": lambda workflow, pattern: workflow.query(pattern),
    "find_nodes": lambda workflow, pattern: workflow.find_nodes(pattern),
    "set_plugin": lambda workflow, pattern: workflow.set_plugin(pattern, prepare(1)),
    "always_run": lambda workflow, pattern: workflow.always_run(pattern),
    "log_nodes": lambda workflow, pattern: workflow.log_nodes(pattern),
}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (None, NAMES),
        (".*", NAMES),
        ("model-.", NAMES[:2]),
        ("^model.*$", NAMES[:2]),
        ("data|model-2", NAMES[1:]),
        ("(?i)DATA", ["data"]),
    ],
)
def test_a_pattern_matches_names_in_full(
    three: LocalWorkflow, pattern: str | None, expected: list[str]
) -> None:
    """A query holds the nodes whose whole name matches, in graph order; None is all."""
    assert expected == list(three.query(pattern).names)


def test_a_query_without_a_pattern_is_all(three: LocalWorkflow) -> None:
    """No pattern at all is None."""
    assert NAMES == list(three.query().names)


@pytest.mark.parametrize("pattern", ["(", "*", "[", "a{99999999999999999999}", 3, b"data"])
@pytest.mark.parametrize("use", QUERIES.values(), ids=QUERIES)
def test_an_invalid_pattern_is_refused(
    three: LocalWorkflow, use: Callable[[LocalWorkflow, Any], object], pattern: Any
) -> None:
    """The error shows the pattern, where it is written."""
    with pytest.raises(OptionError, match="invalid regular expression over node names") as error:
        use(three, pattern)
    assert f"names: {pattern!r}: " in str(error.value)


@pytest.mark.parametrize("use", QUERIES.values(), ids=QUERIES)
def test_a_pattern_that_matches_nothing_warns_at_the_users_line(
    three: LocalWorkflow, use: Callable[[LocalWorkflow, Any], object]
) -> None:
    """The warning names the pattern and the nearest names, and points at the user's file."""
    with pytest.warns(NoMatchWarning, match="'modle-1' in full.* 'model-1', 'model-2'") as caught:
        use(three, "modle-1")
    assert [__file__] == [warning.filename for warning in caught]
    assert caught[0].lineno == use.__code__.co_firstlineno


def test_a_pattern_that_matches_only_a_part_warns(three: LocalWorkflow) -> None:
    """A pattern that matches a part of a name does not match."""
    with pytest.warns(NoMatchWarning, match="no node's name matches 'model'"):
        three.query("model")


def test_a_pattern_like_no_name_gives_no_hint(three: LocalWorkflow) -> None:
    """Nothing is suggested that is not near."""
    with pytest.warns(NoMatchWarning) as caught:
        three.query("zzz")
    assert "no node's name matches 'zzz' in full" == str(caught[0].message)


def test_a_pattern_that_matches_warns_of_nothing(three: LocalWorkflow) -> None:
    """Right use is silent."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        three.query("model.*").set_plugin(prepare(1))
    assert [] == caught


@pytest.mark.parametrize("name", ["always_run", "log_nodes"])
def test_always_run_has_a_published_name_as_well(
    three: LocalWorkflow, name: str, tmp_path: Path
) -> None:
    """Both names select nodes that no run stores."""
    storage = storage_factory(tmp_path)
    three.set_storage(storage)
    getattr(three, name)("model.*")
    three.run()
    assert ["data"] == storage.list_tasks(three.workflow_name)


# ---- plugins ----


def test_a_plugin_prepares_each_node_that_was_matched(three: LocalWorkflow) -> None:
    """The plugin's function runs before the node's own, and for no other node."""
    three.set_plugin("model.*", prepare("seen"))
    assert [["seen"], ["seen"], []] == three.run()


def test_a_later_rule_replaces_an_earlier_one(three: LocalWorkflow) -> None:
    """For the nodes that both match, the later one counts alone."""
    three.query().set_plugin(prepare("all"))
    three.query("model.*").set_plugin(prepare("model"))
    three.set_plugin("model-2", prepare("last"))
    assert [["model"], ["last"], ["all"]] == three.run()


def test_set_plugins_prepares_in_order(three: LocalWorkflow) -> None:
    """Several plugins are composed in their order; query methods can be chained."""
    query = three.query("data")
    assert query is query.set_plugins([prepare(1), PluginCollection([prepare(2), prepare(3)])])
    assert [[], [], [1, 2, 3]] == three.run()


def test_options_are_the_workflows_own() -> None:
    """A node in two workflows has the options of each."""
    node = look().set_name("node")
    one = LocalWorkflow(node, workflow_name="one")
    other = LocalWorkflow(node, workflow_name="other")
    one.set_plugin(None, prepare("one"))
    assert [["one"], []] == [one.run(), other.run()]


@pytest.mark.parametrize("plugin", [None, 3, "plugin", object(), lambda: None, [prepare(1)]])
def test_what_is_no_plugin_is_refused(three: LocalWorkflow, plugin: Any) -> None:
    """Wherever plugins are set, the error shows what was given."""
    with pytest.raises(
        OptionError, match="does not implement the plugin protocol: local_initialize"
    ):
        three.set_plugin(None, plugin)
    with pytest.raises(
        OptionError, match="does not implement the plugin protocol: local_initialize"
    ):
        three.query().set_plugin(plugin)
    with pytest.raises(
        OptionError, match="in a PluginCollection does not implement the plugin protocol"
    ):
        three.query().set_plugins([prepare(1), plugin])
    assert [[], [], []] == three.run()


def test_any_object_with_the_two_methods_is_a_plugin(three: LocalWorkflow) -> None:
    """A plugin need not inherit from anything; without a remote part nothing is called."""

    class Counting:
        asked = 0

        def local_initialize(self) -> None:
            self.asked += 1

        def remote_initialize(self) -> None:
            return None

    counting = Counting()
    three.set_plugin("model.*", counting)
    assert [[], [], []] == three.run()
    assert 2 == counting.asked


# ---- seeds ----


def seeds(minimum: int, maximum: int, seed: int) -> RandomStatePlugin:
    """A plugin that leaves its seed as a mark."""
    return RandomStatePlugin(minimum, maximum, seed, prepared.append)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((0, 100, 5), [6, 7, 8]),
        ((0, 100, 100), [0, 1, 2]),
        ((3, 4, 3), [4, 3, 4]),
        ((-2, 0, -1), [0, -2, -1]),
        ((7, 7, 7), [7, 7, 7]),
    ],
)
def test_seeds_follow_one_another_within_bounds(
    three: LocalWorkflow, bounds: tuple[int, int, int], expected: list[int]
) -> None:
    """Each node gets the next seed in graph order; after the largest comes the smallest."""
    three.set_plugin(None, seeds(*bounds))
    assert [[seed] for seed in expected] == three.run()


def test_every_run_has_the_same_seeds(three: LocalWorkflow) -> None:
    """A second run starts where the first one did, also within a collection."""
    three.query("model.*").set_plugins([seeds(0, 9, 0)])
    three.set_plugin("data", seeds(0, 9, 4))
    assert [[[1], [2], [5]]] * 2 == [three.run(), three.run()]


@pytest.mark.parametrize("bounds", [(0, 10, 11), (0, 10, -1), (10, 0, 5)])
def test_a_seed_out_of_bounds_is_refused(bounds: tuple[int, int, int]) -> None:
    """The error shows the seed and the bounds."""
    minimum, maximum, seed = bounds
    with pytest.raises(OptionError, match=f"seed {seed} .* is not in {minimum} .. {maximum}"):
        seeds(*bounds)


# ---- the workflow's own ----


@pytest.mark.parametrize(
    ("storage", "missing"),
    [
        (1, "missing save, read_task"),
        (type("Half", (), {"save": None})(), "missing read_task"),
    ],
)
def test_what_is_no_storage_is_refused(three: LocalWorkflow, storage: Any, missing: str) -> None:
    """The error says which method is missing."""
    with pytest.raises(OptionError, match=f"does not implement the storage protocol: {missing}"):
        three.set_storage(storage)


@pytest.mark.parametrize(
    "make", [str, Path, lambda path: {"kind": "file", "options": {"path": path}}]
)
def test_configurations_of_storages(three: LocalWorkflow, make: Any, tmp_path: Path) -> None:
    """A workflow takes a path or a configuration as `storage_factory` does, and its errors."""
    three.set_storage(make(str(tmp_path / "results")))
    three.run()
    assert sorted(NAMES) == storage_factory(tmp_path / "results").list_tasks("three")
    with pytest.raises(OptionError, match="kind of storage"):
        three.set_storage({"kind": "fiel"})


@pytest.mark.parametrize("value", ["contineu", "", None, True, []])
def test_a_wrong_value_of_on_error_is_refused(three: LocalWorkflow, value: Any) -> None:
    """Nothing runs; the error names the values that there are."""
    prepared.append("untouched")
    with pytest.raises(OptionError, match=r"unknown value of on_error: .*Valid: continue, raise"):
        three.run(on_error=value)
    assert ["untouched"] == prepared


def test_a_misspelt_value_gets_a_hint(three: LocalWorkflow) -> None:
    """The nearest value is named."""
    with pytest.raises(OptionError, match="did you mean 'continue'"):
        three.run(on_error="contineu")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", None, 3, b"name"])
def test_a_wrong_workflow_name_is_refused(name: Any) -> None:
    """Results are stored under it: it is a string that is not empty."""
    with pytest.raises(GraphError, match="workflow_name must be a non-empty string, not"):
        LocalWorkflow(look(), workflow_name=name)


def test_a_workflow_needs_a_name() -> None:
    """The name cannot be forgotten."""
    with pytest.raises(TypeError, match="workflow_name"):
        LocalWorkflow(look())  # type: ignore[call-overload]

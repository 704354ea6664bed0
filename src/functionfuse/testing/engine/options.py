"""Option tests: plugins, replaced functions, and queries by name."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse import workflow
from functionfuse.backends.plugins import InitializerPlugin, PluginCollection, RandomStatePlugin
from functionfuse.errors import GraphError, NoMatchWarning, OptionError
from functionfuse.testing.engine.suite import WORKFLOW, Suite, here, notes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from functionfuse.storage.base import Storage
    from functionfuse.testing.engine.suite import Journal

__all__ = ["OptionTests"]

_generators = threading.local()


def set_seed(seed: int) -> None:
    """Replacement for seeding a generator; per thread, because engines may run nodes in several."""
    _generators.seed = seed


def current_seed() -> int:
    """The seed of this thread."""
    seed: int = _generators.seed
    return seed


@workflow
def drawn(*needs: Any) -> int:
    """Return the seed."""
    return current_seed()


@workflow
def noted(journal: Journal, name: str, *needs: Any) -> str:
    """Write a line and return it."""
    journal.write(name)
    return name


@workflow
def process_number(journal: Journal) -> int:
    """Write a line and return the number of the process."""
    journal.write(f"node {os.getpid()}")
    return os.getpid()


@workflow
class Noted:
    """Records its calls."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.journal.write("made")

    def step(self, word: str) -> str:
        """Write a word."""
        self.journal.write(word)
        return word


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


class CountingPlugin:
    """Plugin that records its calls, without a function for the worker."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def local_initialize(self) -> None:
        """Write."""
        self.journal.write("local")

    def remote_initialize(self) -> Callable[[], object] | None:
        """Return nothing."""
        return None


class OptionTests(Suite):
    """Node options by name."""

    # ---- plugins ----

    def test_initializer_runs_before_the_function(self, journal: Journal) -> None:
        """An InitializerPlugin runs in the process of the node, before its function, for matching nodes only."""
        made = self.new_workflow(
            process_number(journal).set_name("with"), noted(journal, "without")
        )
        made.set_plugin("with", InitializerPlugin(lambda: journal.write(f"plugin {os.getpid()}")))

        process, _ = made.run()

        lines = [line for line in journal.lines() if line != "without"]
        assert lines == [f"plugin {process}", f"node {process}"]

    def test_plugins_for_classes(self, journal: Journal) -> None:
        """Plugins apply to constructors and methods as to functions."""
        made = self.new_workflow(Noted(journal).step("step"))
        made.query(r"Noted.*").set_plugin(InitializerPlugin(lambda: journal.write("plugin")))

        made.run()

        assert journal.lines() == ["plugin", "made", "plugin", "step"]

    def test_initializer_that_fails(self, journal: Journal) -> None:
        """An exception of an initializer fails its node."""

        def refuse() -> None:
            message = "no licence"
            raise RuntimeError(message)

        made = self.new_workflow(noted(journal, "x").set_name("x"))
        made.set_plugin(None, InitializerPlugin(refuse))

        with pytest.raises(RuntimeError, match="no licence") as caught:
            made.run()

        assert any("in node 'x'" in note for note in notes_of(caught.value))
        assert journal.lines() == []

    def test_each_node_has_its_seed(self) -> None:
        """A RandomStatePlugin assigns consecutive seeds in graph order, the same in each run."""
        nodes = [drawn() for _ in range(4)]
        made = self.new_workflow(*nodes, workflow(int)(1))
        made.query("drawn.*").set_plugin(RandomStatePlugin(0, 44, 42, set_seed))

        assert made.run() == [43, 44, 0, 1, 1]
        assert made.run() == [43, 44, 0, 1, 1]

    def test_seeds_do_not_depend_on_what_is_stored(self, storage: Storage) -> None:
        """A node has the same seed whether the nodes before it are computed, loaded or skipped."""

        def make() -> Any:
            first = drawn().set_name("first")
            second = drawn(first).set_name("second")
            made = self.stored(storage, drawn(second).set_name("third"))
            made.set_plugin(None, RandomStatePlugin(0, 100, 10, set_seed))
            return made

        assert make().run() == 13
        storage.remove_task(WORKFLOW, "third")
        assert make().run() == 13
        storage.remove_task(WORKFLOW, pattern="[ft]*")
        assert make().run() == 13
        assert storage.list_tasks(WORKFLOW) == ["second", "third"]

    def test_plugins_run_in_order(self, journal: Journal) -> None:
        """The plugins of a collection run in its order; a plugin may do nothing in the worker."""
        first = InitializerPlugin(lambda: journal.write("first"))
        second = InitializerPlugin(lambda: journal.write("second"))
        seeds = RandomStatePlugin(0, 9, 0, set_seed)
        made = self.new_workflow(drawn())

        made.query().set_plugins([second, CountingPlugin(journal), first, seeds])
        assert made.run() == 1
        assert journal.lines() == ["local", "second", "first"]

        made.set_plugin(None, PluginCollection([first, second, seeds]))
        assert made.run() == 1
        assert journal.lines()[3:] == ["first", "second"]

    def test_plugins_are_asked_for_every_node(self, storage: Storage, journal: Journal) -> None:
        """Each run calls a plugin once for every node it is set on, including loaded ones."""
        made = self.stored(storage, workflow(add)(workflow(add)(1, 2), 3))
        made.set_plugin(None, CountingPlugin(journal))

        assert made.run() == 6
        assert journal.lines() == ["local"] * 2
        assert made.run() == 6
        assert journal.lines() == ["local"] * 4

    def test_what_is_no_plugin_is_refused(self) -> None:
        """An object without a plugin's methods is refused when it is set."""
        made = self.new_workflow(drawn())

        with pytest.raises(OptionError, match="local_initialize"):
            made.set_plugin(None, object())  # type: ignore[arg-type]

    # ---- editing ----

    def test_replaced_function(self) -> None:
        """replace_func replaces the function of a node, in that workflow only."""
        inner = workflow(add)(2, 3).set_name("inner")
        node = workflow(add)(inner, 1)
        plain, edited = self.new_workflow(node), self.new_workflow(node)

        edited.replace_func("inner", lambda a, b: a * b)

        assert (plain.run(), edited.run()) == (6, 7)

    def test_wrong_replacements_are_refused(self) -> None:
        """An unknown name, or a function that cannot take the node's arguments, is refused immediately."""
        made = self.new_workflow(workflow(add)(2, b=3).set_name("sum"))

        with pytest.raises(GraphError, match="'summ'"):
            made.replace_func("summ", add)
        with pytest.raises(TypeError, match="argument"):
            made.replace_func("sum", lambda a: a)
        assert made.run() == 5

    # ---- queries ----

    def test_queries_match_whole_names(self) -> None:
        """A pattern is a regular expression for whole names; None matches all, in graph order."""
        nodes = [drawn().set_name(name) for name in ("model", "model_2", "a model")]
        made = self.new_workflow(*nodes)

        assert made.query("model").names == ["model"]
        assert made.query("^model.*$").names == ["model", "model_2"]
        assert made.query().names == ["model", "model_2", "a model"]
        assert made.find_nodes(".*model") == ["model", "a model"]

    def test_pattern_that_matches_nothing(self) -> None:
        """A pattern without a match warns at the user's line, with the nearest names."""
        made = self.new_workflow(drawn().set_name("model"))

        line = here() + 2
        with pytest.warns(NoMatchWarning, match="'modle'.*'model'") as caught:
            made.query("modle")
        assert (caught[0].filename, caught[0].lineno) == (__file__, line)

        plugin = InitializerPlugin(int)
        others = (made.always_run, made.find_nodes, lambda name: made.set_plugin(name, plugin))
        for use in others:
            with pytest.warns(NoMatchWarning, match="'modle'.*'model'") as caught:
                use("modle")
            assert caught[0].filename == __file__

    def test_pattern_that_is_none(self) -> None:
        """An invalid regular expression is refused when it is passed."""
        made = self.new_workflow(drawn())

        with pytest.raises(OptionError, match="regular expression"):
            made.query("*model")

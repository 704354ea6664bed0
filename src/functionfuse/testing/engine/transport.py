"""Transport tests: values, functions and classes on their way to nodes and back."""

from __future__ import annotations

import builtins
import cmath
import importlib
import math
import os
import sys
import threading
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse import workflow
from functionfuse.errors import EngineError
from functionfuse.testing.engine.suite import Suite, text_of
from functionfuse.testing.engine.transport_nodes import (
    MANY,
    Awkward,
    Histogram,
    Noting,
    Unloadable,
    changed,
    is_locked,
    keep_a_part,
    keywords,
    lengths,
    new_lock,
    noted,
    number_of,
    numbers,
    same,
    size_of,
    total,
    was_given,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functionfuse.testing.engine.suite import Journal

__all__ = ["TransportTests"]


def _script_double(value: int) -> int:
    return _script_triple(value) - value


def _script_triple(value: int) -> int:
    return FACTOR * value  # type: ignore[name-defined, no-any-return] # noqa: F821 - of the script


def _function_called_f(number: int) -> Callable[[], int]:
    def f() -> int:
        return number

    return f


def _another_function_called_f() -> Callable[[], int]:
    def f() -> int:
        return -1

    return f


_MODULE = """
class Answer:
    number = 42

def answer():
    return Answer.number
"""


class TransportTests(Suite):
    """Transport of values to nodes and back."""

    # ---- values ----

    def test_large_arguments(self) -> None:
        """Arguments of some megabytes arrive complete: positional, by keyword and in containers."""
        large = bytes(8_000_000)

        assert self.compute(lengths(large, [large], key=large)) == [8_000_000, 1, 8_000_000]

    def test_large_arguments_are_pickled_once(self, journal: Journal) -> None:
        """A large argument of many nodes, concurrent or sequential, is pickled once in a run."""
        self.need("pickles_literals_once")
        noting = Noting(journal, bytes(2_000_000))
        node = size_of(noting)
        for _ in range(3):
            node = size_of(noting, node)
        fan = [size_of(noting, more=[noting]) for _ in range(5)]

        assert self.compute(node, *fan) == [2_000_000, *[4_000_000] * 5]
        assert journal.lines() == ["pickled"] * self.runs_in_other_processes

    def test_awkward_values(self) -> None:
        """No engine compares, hashes, prints or measures a value, or evaluates its truth."""
        literal = Awkward(3)
        node = same(literal)

        assert self.compute(number_of(node), number_of(literal)) == [3, 3]
        assert self.compute(node).number == 3

    def test_values_that_look_like_something_else(self) -> None:
        """Tuples that start with a function, and names of nodes, are plain values."""
        same(1).set_name("other")
        given: Any = [(len, "abc"), ("other",), "other", {"other": ("other", 0)}, {"func": len}]

        value = self.compute(same(given), same((len, same("abc"))), same("other").set_name("name"))

        assert value == [given, (len, "abc"), "other"]

    def test_exceptions_and_types_as_values(self) -> None:
        """An exception that is returned is a value, and so are types and functions."""
        error = same(ValueError("returned"))

        value, within, kind, function = self.compute(error, same([error]), same(int), same(len))

        assert (type(value), value.args) == (ValueError, ("returned",))
        assert (type(within[0]), within[0].args) == (ValueError, ("returned",))
        assert (kind, function) == (int, len)

    def test_functions_as_results(self) -> None:
        """A function that a node makes can be its result."""
        adder = workflow(lambda offset: lambda value: value + offset)(3)

        assert self.compute(adder)(4) == 7
        assert self.compute(workflow(lambda function: function(1))(adder)) == 4

    def test_local_classes_as_results(self) -> None:
        """An object of a class that is defined in a function keeps its type."""

        @dataclass
        class Local:
            number: int

        value = self.compute(workflow(lambda: Local(1))(), same(Local(2)))

        assert value == [Local(1), Local(2)]
        assert [type(each) for each in value] == [Local, Local]

    def test_one_object_twice(self) -> None:
        """References to one object within a result stay references to one object."""
        part = [1]

        value = self.compute(same(workflow(lambda: {"a": part, "b": part})()))

        assert value == {"a": [1], "b": [1]}
        assert value["a"] is value["b"]

    def test_names_of_keywords(self) -> None:
        """Keyword arguments may have the same names as an engine's own."""
        names = (
            "self func function args kwargs key name unit inputs options pure retries workers step"
        )
        given = {name: number for number, name in enumerate(names.split())}

        assert self.compute(keywords(**given)) == given

    def test_default_that_is_known_by_its_identity(self) -> None:
        """A missing argument has the default of the function."""
        assert self.compute(was_given(1), was_given(1, None)) == [False, True]

    # ---- arrays, and changes of arguments ----

    def test_results_can_be_changed(self) -> None:
        """The caller and the nodes may write into arrays that they receive."""
        self.need("arrays_are_writeable")
        pytest.importorskip("numpy")
        once, value = numbers(MANY), self.compute(numbers(MANY))

        value[0] = 7

        assert int(value[0]) == 7
        assert self.compute(changed(once)) == sum(range(MANY)) + MANY

    def test_changes_stay_where_they_are_made(self) -> None:
        """Changes that a node makes to its arguments are invisible to other nodes and to the caller."""
        self.need("copies_values")
        pytest.importorskip("numpy")
        root = numbers(MANY)
        first = changed(root)
        later = total(root, first)

        assert self.compute(first, later)[1] == sum(range(MANY))
        assert int(self.compute(changed(root), root)[1][0]) == 0

    def test_what_a_node_keeps_stays_as_it_is(self) -> None:
        """Memory of an array that a function keeps is not overwritten later."""
        pytest.importorskip("numpy")
        arrays = [numbers(MANY, start) for start in range(10)]

        assert all(self.compute(*map(keep_a_part, arrays)))

    def test_objects_change_their_arrays(self) -> None:
        """An instance may write into its own arrays, however it is passed to the next method."""
        pytest.importorskip("numpy")
        histogram: Any = Histogram(workflow(lambda: [0])())
        arrays: Any = Histogram(workflow(_zeros)())
        lists = [histogram.add(0), histogram.add(0)]

        assert self.compute(*lists, arrays.add(1), arrays.add(1), arrays.add(0)) == [1, 2, 1, 2, 1]

    # ---- functions ----

    def test_equal_calls_all_run(self, journal: Journal) -> None:
        """Two calls with equal arguments are two nodes: both run, in each run."""
        made = self.new_workflow(noted(journal, "a"), noted(journal, "a"))

        assert made.run() == made.run() == ["a", "a"]
        assert journal.lines() == ["a"] * 4
        one, other = self.compute(workflow(os.urandom)(16), workflow(os.urandom)(16))
        assert one != other

    def test_functions_of_one_name(self) -> None:
        """Functions with the same name are distinct: of two modules, of two scopes, and with other closures."""
        roots = workflow(math.sqrt)(4), workflow(cmath.sqrt)(-4)
        local = [_function_called_f(1), _function_called_f(2), _another_function_called_f()]

        assert self.compute(*roots, *[workflow(f)() for f in local]) == [2.0, 2j, 1, 2, -1]

    def test_functions_of_a_script(self) -> None:
        """Functions and classes of a script or notebook are sent with the globals that they use."""
        script: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins, "FACTOR": 3}
        for function in (_script_double, _script_triple):
            script[function.__name__] = FunctionType(function.__code__, script, function.__name__)
        doubled = workflow(script["_script_double"])
        method = FunctionType((lambda self: _script_triple(self.start)).__code__, script, "triple")
        parts = {"__init__": _set_start, "triple": method, "__module__": "__main__"}
        kind: Any = workflow(type("OfTheScript", (), parts))

        assert self.compute(doubled(doubled(5)), kind(5).triple()) == [20, 15]

    @pytest.mark.parametrize("what", ["function", "argument"])
    def test_module_of_this_process(
        self, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Objects of a module that only the coordinator can import arrive, or the error names the module."""
        name = "module_that_only_the_caller_finds"
        (tmp_path / f"{name}.py").write_text(_MODULE)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, name, raising=False)  # of another engine's test
        module = importlib.import_module(name)
        node: Any = {"function": workflow(module.answer)(), "argument": number_of(module.Answer())}

        try:
            value = self.compute(node[what])
        except (ImportError, EngineError) as error:
            assert self.runs_in_other_processes
            assert name in text_of(error)  # noqa: PT017 - either is right
        else:
            assert value == 42

    # ---- values that cannot be sent ----

    def test_unsendable_function(self) -> None:
        """A function that cannot be pickled is an error that names it, if the engine has to pickle it."""
        lock = threading.Lock()

        @workflow
        def locked(value: int) -> int:
            with lock:
                return value

        self._check_unsendable(locked(1).set_name("the node"), 1)

    def test_unsendable_argument(self) -> None:
        """An argument that cannot be pickled is an error that names it, if the engine has to pickle it."""
        node = is_locked(threading.Lock()).set_name("the node")

        self._check_unsendable(node, value=False)

    def test_unsendable_result(self) -> None:
        """A result that cannot be pickled is an error that names it, if the engine has to pickle it."""
        self._check_unsendable(is_locked(new_lock().set_name("the node")), value=False)

    def test_unloadable_result(self) -> None:
        """A result that cannot be unpickled is an error that names it, if the engine has to unpickle it."""
        node = workflow(_unloadable)().set_name("the node")

        self._check_unsendable(workflow(_type_name)(node), "Unloadable")

    def _check_unsendable(self, node: Any, value: Any) -> None:
        """Values that cannot be pickled are allowed within one process, and an EngineError between processes."""
        if not self.runs_in_other_processes:
            assert self.compute(node) == value
            return
        with pytest.raises(EngineError) as caught:
            self.compute(node)
        assert "the node" in text_of(caught.value)
        assert self.compute(same(1)) == 1


def _unloadable() -> Unloadable:
    return Unloadable()


def _type_name(value: Any) -> str:
    return type(value).__name__


def _zeros() -> Any:
    import numpy as np

    return np.zeros(MANY)


def _set_start(self: Any, start: int) -> None:
    self.start = start

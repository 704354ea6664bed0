"""Nodes that change values in place: checks, cheap automatic checks, and hints when calls are recorded."""

from __future__ import annotations

import threading
import time
import warnings
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from functionfuse import workflow
from functionfuse._execution.mutation_watch import MutationWatch
from functionfuse._kernel.digests import digest_within
from functionfuse._kernel.value_copies import copy_value, view_read_only
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import MutationError, MutationWarning
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: How a graph runs in this process.
IN_THIS_PROCESS: list[dict[str, Any]] = [{}, {"workers": 2, "kind": "threads"}]
in_this_process = pytest.mark.parametrize("options", IN_THIS_PROCESS, ids=["serial", "threads"])


@workflow
def numbers() -> list[int]:
    """A list."""
    return [1, 2]


@workflow
def array() -> Any:
    """An array."""
    return np.arange(4.0)


@workflow
def same(value: Any) -> Any:
    """Return the argument."""
    return value


@workflow
def tail(value: Any) -> Any:
    """Return a part of the argument."""
    return value[1:]


@workflow
def within(value: Any) -> Any:
    """Return a new object that holds the argument."""
    return {"held": [value]}


@workflow
def doubled(value: Any) -> Any:
    """Return something new."""
    return value * 2


@workflow
def append(value: list[int]) -> int:
    """Change the argument."""
    value.append(0)
    return len(value)


@workflow
def append_within(value: dict[str, list[list[int]]]) -> int:
    """Change a part of the argument."""
    value["held"][0].append(0)
    return 1


@workflow
def increase(value: Any) -> float:
    """Change the argument."""
    value += 1
    return float(value.sum())


@workflow
def look(value: Any) -> str:
    """Read the argument."""
    return str(value)


@workflow
class Shelf:
    """Keeps its argument, next to a lock."""

    def __init__(self, items: Any) -> None:
        """Keep a list."""
        self.items = items
        self.lock = threading.Lock()

    def put(self, item: int) -> int:
        """Change the list."""
        self.items.append(item)
        return len(self.items)

    def replace(self, items: Any) -> None:
        """Keep another list."""
        self.items = items


@pytest.fixture(autouse=True)
def _no_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests say themselves what is checked."""
    monkeypatch.delenv("FUNCTIONFUSE_DEBUG", raising=False)


def make(*nodes: Any, **options: Any) -> LocalWorkflow[Any]:
    """A new workflow."""
    return LocalWorkflow(*nodes, workflow_name="mutation", **options)


# ---- checks ----


@in_this_process
def test_values_that_contain_another_value(options: dict[str, Any]) -> None:
    """Changing a result changes the argument that it is, views or holds, and the value of the argument's node."""
    cases: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        "is": (numbers(), lambda value: append(same(value))),
        "is, twice removed": (numbers(), lambda value: append(same(same(value)))),
        "views": (array(), lambda value: increase(tail(value))),
        "holds": (numbers(), lambda value: append_within(within(value))),
    }
    for case, (value, change) in cases.items():
        targets = look(value.set_name("value")), change(value).set_name("change")
        with pytest.raises(
            MutationError, match=r"node 'change' .* the value of node 'value'"
        ) as caught:
            make(*targets, **options).run(check_mutation=True)
        assert "node 'look_0000' has, too" in str(caught.value), case


@in_this_process
def test_instances_that_hold_an_argument(options: dict[str, Any]) -> None:
    """A method must not change what its constructor, or an earlier method, was given, if others have it."""
    value = numbers().set_name("value")
    shelf, other = Shelf(value), Shelf([])
    other.replace(value)
    for target in shelf.put(1), other.put(1):
        with pytest.raises(
            MutationError, match="what its instance holds in place, the value of node 'value'"
        ):
            make(target, look(value), **options).run(check_mutation=True)
    alone = Shelf(numbers())
    assert [3, 4] == make(alone.put(1), alone.put(2), **options).run(check_mutation=True)


@in_this_process
def test_new_values_may_be_changed(options: dict[str, Any]) -> None:
    """A result that one node alone takes may be changed, whatever it was made from."""
    value = array()
    targets = increase(doubled(value)), look(value)
    assert [16.0, "[0. 1. 2. 3.]"] == make(*targets, **options).run(check_mutation=True)


def test_literals_that_a_node_returns() -> None:
    """An object of the user must not be changed behind the node that returned it."""
    literal = np.ones(3)
    with pytest.raises(MutationError, match="captured by reference"):
        make(increase(same(literal))).run(check_mutation=True)
    assert 3.0 == literal.sum()


def test_values_that_are_stored_or_returned(tmp_path: Path) -> None:
    """A value that the storage or the caller has must not be changed, also if one node alone takes it."""
    value = numbers().set_name("value")
    with pytest.raises(MutationError, match=r"'value', which the caller of run\(\) has, too"):
        make(append(value), value).run(check_mutation=True)
    made = make(append(value))
    made.set_storage(storage_factory(str(tmp_path)))
    with pytest.raises(MutationError, match="'value', which the storage has, too"):
        made.run(check_mutation=True)
    made.always_run("value")
    assert 3 == made.run(check_mutation=True)


@in_this_process
def test_others_get_the_value_unchanged(options: dict[str, Any], tmp_path: Path) -> None:
    """Changes of a failed node reach neither other nodes nor the storage."""
    value = numbers().set_name("value")
    readers = [look(value).set_name(f"look {number}") for number in range(4)]
    made = make(*readers[:2], append(value), *readers[2:], **options)
    storage = storage_factory(str(tmp_path))
    made.set_storage(storage)

    with pytest.raises(MutationError):
        made.run(on_error="continue", check_mutation=True)

    stored = [storage.read_task("mutation", f"look {number}") for number in range(4)]
    assert ["[1, 2]"] * 4 == stored
    assert [1, 2] == storage.read_task("mutation", "value")


@pytest.mark.parametrize(
    ("variable", "option", "fails"),
    [
        ("1", None, True),
        ("0", None, False),
        ("", None, False),
        ("1", False, False),
        ("0", True, True),
    ],
)
def test_a_whole_session(
    variable: str, *, option: bool | None, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`FUNCTIONFUSE_DEBUG=1` checks all runs that do not say otherwise."""
    monkeypatch.setenv("FUNCTIONFUSE_DEBUG", variable)
    value = numbers()
    made = make(append(value), look(value))
    if fails:
        with pytest.raises(MutationError):
            made.run(check_mutation=option)
    else:
        assert [3, "[1, 2, 0]"] == made.run(check_mutation=option)


class Unloadable:
    """Its copy cannot be made."""

    def __init__(self, text: str) -> None:
        """Hold a text."""
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        return Unloadable, ()


def test_arguments_that_cannot_be_copied() -> None:
    """A warning says that an argument is not checked; the others are."""
    value = numbers().set_name("value")

    @workflow
    def change(first: Any, second: list[int]) -> str:
        second.append(1)
        return str(first.text)

    with (
        pytest.warns(MutationWarning, match="cannot be checked for changes of a Unloadable"),
        pytest.raises(MutationError, match="argument second"),
    ):
        make(change(Unloadable("x"), value), look(value)).run(check_mutation=True)


# ---- copies ----


def test_copies_share_what_cannot_be_pickled() -> None:
    """Locks, functions, classes and objects known by their identity are shared; everything else is copied."""
    marker, lock = object(), threading.Lock()
    value = SimpleNamespace(
        lock=lock, marker=marker, function=lambda: 1, items=[1], kind=Unloadable
    )
    value.itself = value
    copy = copy_value(value)
    assert copy.items == [1]
    assert copy.items is not value.items
    assert copy.itself is copy
    shared = ("lock", "marker", "function", "kind")
    assert [getattr(value, name) for name in shared] == [getattr(copy, name) for name in shared]


def test_views_share_memory_and_cannot_be_written() -> None:
    """A read-only view costs no memory, however deep the array is."""
    value = SimpleNamespace(array=np.ones(1_000), text="x")
    view = view_read_only(value)
    assert np.shares_memory(value.array, view.array)
    assert not view.array.flags.writeable
    assert value.array.flags.writeable
    plain = SimpleNamespace(text="x")
    assert view_read_only(plain) is plain


@in_this_process
def test_masked_arrays(options: dict[str, Any]) -> None:
    """The data of a read-only masked array cannot be written, its mask is the node's own; a check sees both."""
    value = workflow(lambda: np.ma.masked_array([1.0, 2.0], [False, True]))()
    data = workflow(lambda value: value.__setitem__(0, 9.0))(value), look(value)
    mask = workflow(lambda value: value.mask.fill(True))(value), look(value)  # noqa: FBT003
    for targets in data, mask:
        with pytest.raises(MutationError):
            make(*targets, **options).run(check_mutation=True)
    with pytest.raises(ValueError, match="read-only"):
        make(*data, read_only=True, **options).run()
    assert "[1.0 --]" == make(*mask, read_only=True, **options).run()[1]


# ---- cheap checks, without being asked ----


@workflow
def slow_array() -> Any:
    """Take long for a small result."""
    time.sleep(0.3)
    return np.zeros(4)


@workflow
def slow_look(value: Any) -> float:
    """Read the argument."""
    return float(value.sum())


@in_this_process
def test_changes_of_results_that_took_long(options: dict[str, Any], tmp_path: Path) -> None:
    """Without being asked, a run warns of changes of a result whose digest costs next to nothing."""
    value = slow_array().set_name("value")
    made = make(increase(value).set_name("change"), slow_look(value), **options)
    with pytest.warns(MutationWarning, match=r"node 'value', .* by node .*'change'") as caught:
        made.run()
    assert [__file__] == [each.filename for each in caught]
    made.set_storage(storage_factory(str(tmp_path)))
    with pytest.warns(MutationWarning, match=r"node 'value', .* by node .*'change'"):
        made.run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(increase(doubled(value)), slow_look(value), **options).run()
        make(increase(value), slow_look(value), **options).run(check_mutation=False)


def watch_of(value: Any, seconds: float) -> MutationWatch[str]:
    """A watch over the value of node "a", which three nodes take."""
    watch = MutationWatch[str](str)
    watch.add("a", value, seconds, 3)
    return watch


def test_digests_cost_little() -> None:
    """A result is watched only where its digest costs a twentieth of the node's time."""
    assert watch_of(np.zeros(10), 100.0).watched
    assert not watch_of(np.zeros(10_000_000), 0.1).watched
    assert not watch_of(np.zeros(10), 0.001).watched
    assert not watch_of(threading.Lock(), 100.0).watched


def test_the_nodes_that_may_have_changed_a_value() -> None:
    """The warning names the nodes that ran since the value was looked at for the last time."""
    value = [1]
    watch = watch_of(value, 100.0)
    for node in "bcd":
        watch.begin(node, {"a": 1})
        if node == "c":
            value.append(2)
        watch.end(node, {"a": 1}, 0.0)
    with pytest.warns(MutationWarning, match="by node 'c':"):
        watch.close()
    assert not watch.watched


def test_digests() -> None:
    """Digests of arrays, frames and containers change with their contents; others have none."""
    frame, items = pd.DataFrame({"a": [1.0], "b": ["x"]}), [1, {"k": np.zeros(3)}]
    strided = np.zeros(6)[::2]
    changes: list[tuple[Any, Callable[[], object]]] = [
        (frame, lambda: frame.__setitem__("a", 2.0)),
        (items, lambda: items[1]["k"].fill(1)),  # type: ignore[index]
        (strided, lambda: strided.fill(1)),
    ]
    for value, change in changes:
        before = digest_within(value, 10)
        assert before == digest_within(value, 10) is not None
        change()
        assert before != digest_within(value, 10)
    assert digest_within(Unloadable("x"), 10) is None
    assert digest_within(np.zeros(1_000_000), 0.0) is None


# ---- hints when calls are recorded ----


@dataclass
class Settings:
    """Settings that a user changes from call to call."""

    rate: float = 0.0


def refills() -> Iterator[tuple[Any, Callable[[int], object]]]:
    """Objects, and what changes them."""
    filled, frame = np.zeros(1_000), pd.DataFrame({"a": [0.0, float("nan")]})
    settings, names, raw = Settings(), Unloadable("x"), bytearray(4)
    yield filled, filled.fill
    part = [filled[1:]]
    yield part, filled.fill
    yield frame, lambda number: frame.__setitem__("a", float(number))
    yield {"settings": settings}, lambda number: setattr(settings, "rate", number)
    yield names, lambda number: setattr(names, "text", str(number))
    yield raw, lambda number: raw.__setitem__(0, number)


def give(value: Any, change: Callable[[int], object]) -> None:
    """Change an object twice, and give it to a call after each time."""
    for number in 1, 2:
        change(number)
        look(value)


def test_objects_that_are_refilled_in_a_loop() -> None:
    """An object that was given to an earlier call and has changed since is a hint, with both lines and the remedy."""
    for value, change in refills():
        look(value)
        with pytest.warns(
            MutationWarning, match=r"was given to the call at test_mutation.py:\d+ as well"
        ) as caught:
            give(value, change)
        assert [__file__] * 2 == [each.filename for each in caught]
        assert "copy" in str(caught[0].message)


def test_objects_that_stay_or_were_used() -> None:
    """An object that did not change, or that a run has used before it changed, is none."""
    for value, change in refills():
        make(*[look(value) for _ in range(3)], look(value)).run()
        change(3)
        look(value)
    names = ["list"]
    for number in range(3):
        names.append(str(number))  # a list is copied when the call is recorded
        look(names)

"""Mutation tests: nodes that change their arguments, checked or with read-only arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse import workflow
from functionfuse.errors import MutationError
from functionfuse.events import NodeFailed
from functionfuse.testing.engine.suite import Suite, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functionfuse.backends.base import Workflow
    from functionfuse.events import Event

__all__ = ["MutationTests"]


class Model:
    """An object that holds an array and a list."""

    def __init__(self) -> None:
        """Hold both."""
        self.weights = _numpy().ones(3)
        self.names = ["a"]


@dataclass
class Settings:
    """A dataclass that holds nodes."""

    items: Any
    other: int = field(default=1)


@workflow
class Histogram:
    """Has an array of its own."""

    def __init__(self) -> None:
        """Count nothing yet."""
        self.counts = _numpy().zeros(3)

    def add(self, position: int) -> float:
        """Change the array."""
        self.counts[position] += 1
        return float(self.counts.sum())


def _numpy() -> Any:
    import numpy as np  # by nodes that need it: the suite is imported without it

    return np


@workflow
def made(kind: str) -> Any:
    """A value of some type."""
    import pandas as pd

    np = _numpy()
    values: dict[str, Callable[[], Any]] = {
        "list": lambda: [3, 1, 2],
        "dict": lambda: {"deep": [{"x": [1]}], "other": [2]},
        "set": lambda: {1, 2},
        "bytearray": lambda: bytearray(b"abc"),
        "array": lambda: np.arange(6.0).reshape(2, 3),
        "large": lambda: np.zeros(50_000),
        "frame": lambda: pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}),
        "series": lambda: pd.Series([1.0, 2.0]),
        "object": Model,
        "mixed": lambda: {
            "list": [np.ones(2)],
            "object": Model(),
            "frame": pd.DataFrame({"a": [1.0]}),
        },
    }
    return values[kind]()


@workflow
def same(value: Any) -> Any:
    """Return the argument."""
    return value


@workflow
def copied(value: list[Any]) -> list[Any]:
    """Return a list of its own."""
    return [*value]


@workflow
def look(value: Any) -> str:
    """Read a value."""
    return str(value)


@workflow
def change(value: Any, how: str) -> int:
    """Change a value in place."""
    exec(how, {"value": value})  # noqa: S102 - written below
    return 1


@workflow
def change_more(first: int, *rest: Any, named: Any, **more: Any) -> int:
    """Change the last of several arguments."""
    (rest[-1] if rest else more["deep"]["key"][0] if more else named.items).append(first)
    return first


@workflow
def change_while_yielding(value: list[int]) -> Iterator[int]:
    """Change a value when the generator runs."""
    yield value.pop()


@workflow
async def change_later(value: list[int]) -> int:
    """Change a value in a coroutine."""
    return value.pop()


#: How values of each type are changed: by an item, a method, an operator.
_CHANGES: dict[str, str] = {
    "list": "value.sort()",
    "dict": "value['deep'][0]['x'].append(1)",
    "set": "value.add(7)",
    "bytearray": "value[0] = 0",
    "array": "value += 1",
    "large": "value[-1] = 1",
    "frame": "value['a'] *= 10",
    "series": "value.iloc[0] = 9.0",
    "object": "value.names.append('b')",
}
#: Writes to arrays and frames, in the value itself, in containers and in objects.
_WRITES: dict[str, tuple[str, str]] = {
    "operator": ("array", "value += 1"),
    "item": ("array", "value[0, 0] = 1"),
    "view": ("array", "value[1:].ravel()[0] = 1"),
    "sort": ("large", "value.sort()"),
    "frame": ("frame", "value['a'].to_numpy()[0] = 1"),
    "cell": ("frame", "value.iloc[0, 0] = 5.0"),
    "object": ("object", "value.weights[0] = 2"),
    "in a list": ("mixed", "value['list'][0][0] = 2"),
    "in an object": ("mixed", "value['object'].weights[0] = 2"),
    "frame in a dict": ("mixed", "value['frame'].iloc[0, 0] = 2"),
}


class MutationTests(Suite):
    """Mutation of arguments."""

    def failures(
        self, made: Workflow[Any], first: type[Exception], **options: Any
    ) -> dict[str, str]:
        """The errors of nodes in a run, by their names."""
        failed: dict[str, str] = {}

        def note(event: Event) -> None:
            if isinstance(event, NodeFailed):
                failed[event.record.name] = f"{type(event.error).__name__}: {text_of(event.error)}"

        made.add_observer(note)
        with pytest.raises(first):
            made.run(on_error="continue", **options)
        return failed

    def test_changes_of_shared_values_are_errors(self) -> None:
        """With check_mutation=True, a node that changes a value that others have fails, with the names of both nodes and of the argument."""
        pytest.importorskip("pandas")
        values = {kind: made(kind).set_name(f"made {kind}") for kind in _CHANGES}
        targets = [
            each
            for kind, value in values.items()
            for each in (
                change(value, _CHANGES[kind]).set_name(f"change {kind}"),
                look(value).set_name(f"look {kind}"),
            )
        ]
        items, deep = made("list").set_name("items"), made("dict").set_name("deep")
        literal = _numpy().ones(3)
        others = {
            "rest[1]": change_more(1, 2, items, named=3).set_name("rest"),
            "named.items": change_more(1, named=Settings(items)).set_name("field"),
            "more": change_more(1, named=1, deep={"key": [items]}).set_name("within"),
            "value": change_while_yielding(items).set_name("generator"),
            "value ": change_later(items).set_name("coroutine"),
            "value['x']": change(deep["deep"][0], "value['x'].append(1)").set_name("item"),
            "value[0]": change([literal], "value[0][1] = 5").set_name("literal"),
        }
        workflow = self.new_workflow(*targets, *others.values(), items, deep)

        failed = self.failures(workflow, MutationError, check_mutation=True)

        for kind in _CHANGES:
            text = failed.pop(f"change {kind}", "no error")
            expected = (
                "MutationError",
                "argument value",
                f"'made {kind}'",
                f"'look {kind}'",
                "copy",
            )
            assert all(part in text for part in expected), (kind, text)
        names = ("rest", "field", "within", "generator", "coroutine", "item", "literal")
        for argument, name in zip(others, names, strict=True):
            text = failed.pop(name, "no error")
            assert f"MutationError: node '{name}'" in text, (name, text)
            assert argument.strip() in text, (name, text)
        assert failed == {}

    def test_changes_that_nobody_sees_are_no_errors(self) -> None:
        """With check_mutation=True, a node may change what it alone takes, its own instance, and lists written in its call."""
        pytest.importorskip("pandas")
        kinds = {kind: change(made(kind), how) for kind, how in _CHANGES.items()}
        parts = made("dict")
        histogram: Any = Histogram()
        numbers = [1, 2]
        fresh = [change(numbers, "value.append(3)"), change({"key": numbers}, "value['key'].pop()")]
        targets = [
            *kinds.values(),
            change(parts["deep"], "value.clear()"),
            look(parts["other"]),
            *fresh,
            histogram.add(0),
            histogram.add(1),
            change(copied(made("list")), "value.append(4)"),
        ]

        values = self.new_workflow(*targets).run(check_mutation=True)

        assert values == [1] * len(kinds) + [1, "[2]", 1, 1, 1.0, 2.0, 1]

    def test_changes_within_groups(self) -> None:
        """With check_mutation=True, a node of a task group that changes the value of another node in it fails."""
        value = made("list").set_name("value")
        last = look(value).set_name("last")
        workflow = self.new_workflow(change(same(value), "value.append(1)").set_name("first"), last)
        workflow.query("value|first|last|same.*").fuse()

        with pytest.raises(MutationError, match="node 'first'") as caught:
            workflow.run(check_mutation=True)

        assert "'value'" in text_of(caught.value)
        assert "node 'last'" in text_of(caught.value)

    def test_read_only_arguments(self) -> None:
        """With read_only=True, writing to an array or frame among the arguments fails, and methods may write to their own."""
        pytest.importorskip("pandas")
        values = {kind: made(kind) for kind, _ in _WRITES.values()}
        writes = {
            name: change(values[kind], how).set_name(name) for name, (kind, how) in _WRITES.items()
        }
        literal = _numpy().ones(3)
        histogram: Any = Histogram()
        writes["literal"] = change([literal], "value[0][0] = 2").set_name("literal")
        allowed = [
            change(made("list"), "value.append(1)"),
            change(values["array"], "value = value.copy(); value += 1"),
            change(values["frame"], "value['a'] *= 10"),  # a frame of its own gets a new column
            histogram.add(0),
            histogram.add(0),
            look(values["frame"]),
        ]
        workflow = self.new_workflow(*writes.values(), *allowed)
        workflow.read_only = True

        failed = self.failures(workflow, ValueError)

        assert set(writes) == set(failed)
        for name, text in failed.items():
            assert "read-only" in text, (name, text)
            assert "read_only=True" in text, (name, text)
        assert float(literal.sum()) == len(literal)

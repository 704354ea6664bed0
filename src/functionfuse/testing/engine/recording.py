"""Recording tests: containers of arguments, nodes made inside nodes, names and classes of users."""

from __future__ import annotations

import asyncio
import itertools
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import GraphError
from functionfuse.events import NodeFailed
from functionfuse.testing.engine.suite import Suite, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functionfuse.events import Event

__all__ = ["RecordingTests"]


@workflow
def double(number: int) -> int:
    """Double a number."""
    return 2 * number


@workflow
def send(message: Any) -> None:
    """Have an effect and no result."""


# ---- containers ----


@dataclass
class Folder:
    """A tree whose parts know their parents."""

    size: Any
    parent: Folder | None = None
    parts: list[Folder] = field(default_factory=list)


@dataclass
class Missing(Exception):
    """An exception with a field."""

    number: Any


@dataclass(frozen=True, slots=True)
class Limits:
    """A frozen dataclass with slots."""

    low: Any
    high: Any = 9


@dataclass
class Lazy:
    """A dataclass with an attribute that is computed when it is read."""

    number: Any

    @cached_property
    def expensive(self) -> int:
        """Fail if the library reads it."""
        message = "computed too early"
        raise AssertionError(message)


class Point(NamedTuple):
    """A named tuple."""

    x: Any


def folders() -> Folder:
    """A tree with nodes in it."""
    root = Folder(double(1))
    root.parts.append(Folder(double(2), parent=root))
    return root


def grouped() -> defaultdict[str, list[Any]]:
    """A dict that is filled as usual."""
    groups = defaultdict[str, list[Any]](list)
    groups["a"].append(double(1))
    return groups


def paired() -> list[Any]:
    """A list of two times the same list, and so on."""
    pair: list[Any] = [double(1)]
    for _ in range(40):
        pair = [pair, pair]
    return pair


def containers() -> dict[str, Any]:
    """Containers of all kinds that hold nodes, by name."""
    return {
        "defaultdict": grouped(),
        "OrderedDict": OrderedDict(b=double(1), a=2),
        "Counter": Counter(a=double(1)),
        "deque": deque([double(1)], maxlen=3),
        "ChainMap": ChainMap({"a": double(1)}, {"b": 1}),
        "proxy": MappingProxyType({"a": double(1)}),
        "UserDict": UserDict(a=double(1)),
        "UserList": UserList([double(1)]),
        "namespace": SimpleNamespace(a=[double(1)]),
        "keys": {double(1): 0}.keys(),
        "values": {"a": double(1)}.values(),
        "items": {"a": double(1)}.items(),
        "frozenset": frozenset({double(1)}),
        "slice": slice(double(1), None),
        "named tuple": Point([double(1)]),
        "generator": (double(number) for number in range(2)),
        "map": map(double, [1]),
        "zip": zip([double(1)], "a", strict=True),
        "chain": itertools.chain([double(1)], [3]),
        "tree": folders(),
        "exception": Missing(double(1)),
        "frozen": Limits(double(1)),
        "lazy": Lazy(double(1)),
        "pairs": paired(),
    }


_AT_DEFINITION = [double(50)]


@workflow
def contents(given: dict[str, Any], default: Any = _AT_DEFINITION) -> dict[str, Any]:
    """What a function sees of its containers."""
    groups, queue, root = given["defaultdict"], given["deque"], given["tree"]
    seen = {name: value for name, value in given.items() if name not in _ITERATORS | _VIEWS}
    seen |= {name: [*given[name]] for name in _ITERATORS | _VIEWS}
    seen |= {
        "defaultdict": (dict(groups), groups["new"], type(groups).__name__),
        "deque": ([*queue], queue.maxlen),
        "proxy": (dict(given["proxy"]), type(given["proxy"]).__name__),
        "tree": (root.size, root.parts[0].size, root.parts[0].parent is root),
        "exception": (given["exception"].args, given["exception"].number),
        "lazy": vars(given["lazy"]),
        "pairs": given["pairs"][0][0] is given["pairs"][1][1],
        "default": default,
    }
    return seen


_ITERATORS = {"generator", "map", "zip", "chain"}
_VIEWS = {"keys", "values", "items"}

SEEN = {
    "defaultdict": ({"a": [2]}, [], "defaultdict"),
    "OrderedDict": OrderedDict(b=2, a=2),
    "Counter": Counter(a=2),
    "deque": ([2], 3),
    "ChainMap": ChainMap({"a": 2}, {"b": 1}),
    "proxy": ({"a": 2}, "mappingproxy"),
    "UserDict": UserDict(a=2),
    "UserList": UserList([2]),
    "namespace": SimpleNamespace(a=[2]),
    "keys": [2],
    "values": [2],
    "items": [("a", 2)],
    "frozenset": frozenset({2}),
    "slice": slice(2, None),
    "named tuple": Point([2]),
    "generator": [0, 2],
    "map": [2],
    "zip": [(2, "a")],
    "chain": [2, 3],
    "tree": (2, 4, True),
    "exception": ((2,), 2),
    "frozen": Limits(2),
    "lazy": {"number": 2},
    "pairs": True,
    "default": [100],
}


# ---- nodes made inside nodes ----

outside = double(20)


@workflow
def in_effect() -> int:
    """Call a decorated function for its effect."""
    send("started")
    return 1


@workflow
def in_list() -> list[Any]:
    """Return nodes."""
    return [double(1), {"k": (double(2),)}]


@workflow
def in_generator() -> Iterator[int]:
    """Call a decorated function between two items."""
    yield 1
    send("between")


@workflow
async def in_coroutine() -> int:
    """Call a decorated function in a coroutine."""
    await asyncio.sleep(0)
    send("awaited")
    return 1


@workflow
def in_text() -> str:
    """Format a node."""
    return f"{double(1)}"


@workflow
def in_comparison() -> bool:
    """Compare a node."""
    return double(1) == 2


@workflow
def in_sum() -> Any:
    """Add to a node."""
    return double(1) + 1


@workflow
def next_to_workflow() -> int:
    """Run a workflow of one node, and forget another node."""
    send("forgotten")
    result: int = LocalWorkflow(double(1), workflow_name="inner").run()
    return result


@workflow
def of_module() -> dict[str, Any]:
    """Return a node that was made outside."""
    return {"k": [outside]}


@workflow
class Holder:
    """Calls decorated functions in its methods."""

    def __init__(self, number: int) -> None:
        self.number: Any = number

    def keep(self) -> int:
        """Keep a node."""
        self.number = double(3)
        return 1


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "effect": (in_effect, "send"),
    "list": (in_list, "double"),
    "generator": (in_generator, "send"),
    "coroutine": (in_coroutine, "send"),
    "text": (in_text, "double"),
    "comparison": (in_comparison, "double"),
    "sum": (in_sum, "double"),
    "next to a workflow": (next_to_workflow, "send"),
    "of the module": (of_module, "double"),
    "method": (lambda: Holder(1).keep(), "double"),
}


@workflow
def own_workflows(number: int) -> list[Any]:
    """Run workflows, also of an instance, and in threads."""
    holder: Any = Counts(number)
    holder.add(1)
    chain = double(double(number))
    LocalWorkflow(chain, workflow_name="planned").plan()
    pool = LocalWorkflow(chain, workflow_name="inner", workers=2, kind="threads")
    return [
        LocalWorkflow(holder.add(double(1)), workflow_name="inner").run(),
        LocalWorkflow(chain, double(number), workflow_name="inner").run(),
        pool.run(),
    ]


# ---- users' classes and names ----


class Base:
    """A plain base class."""

    def __init__(self, start: int) -> None:
        self.total = start


@workflow
class Counts(Base):
    """Names its own class, as in Python 2."""

    def __init__(self, start: int) -> None:
        super(Counts, self).__init__(start)  # noqa: UP008

    def add(self, number: int) -> int:
        """Count on."""
        self.total += number
        return self.total


class Tools:
    """A plain class with nodes that need no instance."""

    factor = 3

    @workflow
    @staticmethod
    def plus_one(number: int) -> int:
        """Add one."""
        return number + 1

    @workflow
    @classmethod
    def scaled(cls, number: int) -> int:
        """Multiply."""
        return cls.factor * number


@workflow
def reserved(wait_for: Any, return_state: Any = 2, *, args: Any = 3, kwargs: Any = 4) -> Any:
    """A function with parameters that engines have, too."""
    return wait_for, return_state, args, kwargs


@workflow
def anything(*args: Any, **kwargs: Any) -> Any:
    """A function that takes everything."""
    return args, kwargs


class RecordingTests(Suite):
    """What a call records."""

    def test_nodes_in_standard_containers(self) -> None:
        """Nodes are found in all containers of the standard library and dataclasses, which arrive as what they are."""
        given = self.compute(contents(containers()))

        for name, expected in SEEN.items():
            assert (name, expected) == (name, given[name])
            assert type(expected) is type(given[name]), name

    def test_nodes_made_inside_nodes(self) -> None:
        """A node that is made inside a node and never runs is an error with its name, line and the call to write."""
        nodes = {name: make().set_name(name) for name, (make, _) in MISTAKES.items()}
        failures: dict[str, BaseException] = {}

        def observe(event: Event) -> None:
            if isinstance(event, NodeFailed):
                failures[event.record.name] = event.error

        made = self.new_workflow(*nodes.values())
        made.add_observer(observe)
        with suppress(GraphError, TypeError):
            made.run(on_error="continue")

        assert failures.keys() == nodes.keys()
        for name, (_, function) in MISTAKES.items():
            text = text_of(failures[name])
            assert isinstance(failures[name], GraphError | TypeError), name
            assert f"<node {function!r} of recording.py:" in text, name
            assert f"`{function}.__wrapped__(...)`" in text, name
            assert f"in node {name!r}" in text, name

    def test_workflows_inside_nodes(self) -> None:
        """A node may make nodes of its own, and run them in workflows."""
        assert self.compute(own_workflows(3)) == [6, [12, 6], 12]

    def test_classes_and_names(self) -> None:
        """Explicit `super`, static and class methods, and parameters of any name mean the same as in plain Python."""
        counts: Any = Counts(double(1))
        given = self.compute(
            counts.add(3),
            Tools.plus_one(double(1)),
            Tools().scaled(double(1)),
            reserved(double(1), args=double(2)),
            reserved(wait_for=double(1), return_state=5, kwargs={"args": double(2)}),
            anything(1, args=double(1), kwargs=2, wait_for=3, return_state=4),
        )

        assert given == [
            5,
            3,
            6,
            (2, 2, 4, 4),
            (2, 5, 3, {"args": 4}),
            ((1,), {"args": 2, "kwargs": 2, "wait_for": 3, "return_state": 4}),
        ]

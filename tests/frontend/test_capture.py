"""Capture of arguments: standard containers, iterators, other objects, cycles, default values."""

from __future__ import annotations

import argparse
import functools
import itertools
from collections import OrderedDict, UserList, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from example_nodes import Options, add, free, run, same

from functionfuse import workflow
from functionfuse.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

# ---- standard containers ----


def arguments() -> argparse.Namespace:
    """Parsed arguments with a node."""
    return argparse.Namespace(rate=add(0))


class Tagged(namedtuple("Tagged", "x")):  # noqa: PYI024, SLOT002 - a subclass with attributes
    """A named tuple with an attribute."""


def tagged() -> Tagged:
    """A named tuple with nodes in its item and its attribute."""
    made = Tagged(add(0))
    made.tag = add(1)  # type: ignore[attr-defined]
    return made


def test_a_container_keeps_its_type_and_order() -> None:
    """Containers with nodes keep their types."""
    given = run(same([arguments(), tagged(), OrderedDict(b=add(0), a=1).values()]))
    assert (1, "Namespace") == (given[0].rate, type(given[0]).__name__)
    assert (Tagged(1), 2) == (given[1], given[1].tag)
    assert [1, 1] == [*given[2]]


def test_containers_without_nodes_are_captured_as_well() -> None:
    """A later change of any standard container does not change the call, and a run does not change the next."""
    queue, groups, names = deque([1]), defaultdict(list, a=[1]), UserList([1])
    popped = workflow(lambda queue, groups, names: (queue.pop(), groups["a"].pop(), names.pop()))
    node = popped(queue, groups, names)
    queue.append(2)
    groups["a"].append(2)
    names.append(2)
    assert (1, 1, 1) == run(node) == run(node)


def test_one_object_in_two_places_stays_one_object() -> None:
    """A container that occurs twice in a call is captured once, also if it is nested very often."""
    is_same = workflow(lambda a, b: a is b)
    for shared in ([1], [add(0)], deque([add(0)]), {"k": [1]}, Options([add(0)])):
        assert run(is_same(shared, shared)), shared
        assert run(workflow(lambda pair: pair[0] is pair[1])([shared, shared])), shared
    for innermost in (1, add(0)):
        nested: list[Any] = [innermost]
        for _ in range(60):
            nested = [nested, nested]
        assert 2 == len(run(same(nested)))


# ---- iterators ----


def lines() -> Iterator[Any]:
    """A generator that yields a node."""
    yield add(0)
    yield "end"


@pytest.mark.parametrize(
    "make",
    [lines, lambda: iter([add(0), "end"]), lambda: map(same, "a"), lambda: itertools.repeat(1, 3)],
    ids=["generator", "list", "map", "repeat"],
)
def test_an_iterator_is_exhausted_by_the_call(make: Callable[[], Iterator[Any]]) -> None:
    """Each run gets the items of an iterator, as an iterator."""
    count = workflow(lambda items: (iter(items) is items, len([*items])))
    iterator = make()
    node = count(iterator)
    assert [] == [*iterator]
    assert run(node) == run(node)
    assert run(node)[0]
    assert run(node)[1]


async def ticks() -> AsyncIterator[int]:
    """An asynchronous generator."""
    yield 1


@pytest.mark.parametrize(
    ("make", "problem"),
    [(itertools.count, "iterator of more than 1,000,000 items"), (ticks, "asynchronous generator")],
)
def test_what_cannot_be_exhausted_is_refused(make: Callable[[], Any], problem: str) -> None:
    """An endless or asynchronous iterator is an error that names the argument and says what to do."""
    with pytest.raises(GraphError, match=rf"argument 'value'.*{problem}.*in the function"):
        same(make())
    with pytest.raises(GraphError, match=rf"argument 'value', item 1, item 'k' is an {problem}"):
        same([0, {"k": make()}])


# ---- other objects ----


class Plain:
    """A plain object."""

    def __init__(self, value: Any) -> None:
        """Hold a value."""
        self.value = value

    def method(self) -> Any:
        """A method."""
        return self.value


class Slotted:
    """An object with a private slot."""

    __slots__ = ("__value",)

    def __init__(self, value: Any) -> None:
        """Hold a value."""
        self.__value = value


class Config(dict[str, Any]):
    """A user's own dict."""


class Unreadable:
    """An object that no code may ask for anything."""

    def __init__(self, value: Any) -> None:
        """Hold a value."""
        self.value = value

    def __getstate__(self) -> Any:
        raise AssertionError

    __reduce__ = __getstate__

    @property
    def lazy(self) -> Any:
        """Fail."""
        raise AssertionError


def closure(node: Any) -> Callable[[], Any]:
    """A function with a node in its closure."""
    return lambda: node


NODE: Any = add(100)
HOLDERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "plain": (lambda n: Plain(Plain((1, n))), "attribute 'value', attribute 'value', item 1"),
    "slots": (Slotted, "attribute '_Slotted__value'"),
    "dict": (lambda n: Config(k=n), "item 'k'"),
    "unreadable": (Unreadable, "attribute 'value'"),
    "exception": (lambda n: ValueError("x", n), "argument 1"),
    "partial": (lambda n: functools.partial(print, 1, sep=n), "keyword argument 'sep'"),
    "closure": (closure, "variable 'node'"),
    "method": (lambda n: Plain(n).method, "instance, attribute 'value'"),
    "global": (lambda _: lambda: NODE, "global variable 'NODE'"),
    "nested": (lambda n: [0, {"k": Plain(n)}], "item 1, item 'k', attribute 'value'"),
    "dataclass": (lambda n: Options(Plain(n)), "attribute 'rate', attribute 'value'"),
    "namespace": (lambda n: SimpleNamespace(a=Plain(n)), "attribute 'a', attribute 'value'"),
    "proxy": (lambda n: MappingProxyType({"k": Plain(n)}), "item 'k', attribute 'value'"),
    "instance": (lambda _: Plain(workflow(Plain)(1)), "attribute 'value'"),
    "item": (lambda n: Plain(n["k"]), "attribute 'value'"),
}


@pytest.mark.parametrize(("make", "path"), HOLDERS.values(), ids=HOLDERS)
def test_a_node_in_another_object_is_refused_by_its_path(
    make: Callable[[Any], Any], path: str
) -> None:
    """The error names the function, the argument, the path, the node, and what to do."""
    found = (
        r"is <(node|item|instance) .*test_capture\.py:\d+.*pass the node as an argument of its own"
    )
    with pytest.raises(GraphError, match=rf"^same\(\): argument 'value', {path} {found}"):
        same(make(add(0)))
    with pytest.raises(GraphError, match=rf"^free\(\): argument 'numbers\[1\]', {path} is "):
        free(1, make(add(0)))
    with pytest.raises(GraphError, match=rf"^free\(\): argument 'named', {path} is "):
        free(named=make(add(0)))


def result() -> str:
    """A global function, whose name is also an attribute."""
    return "result"


def test_objects_without_nodes_are_passed_by_reference() -> None:
    """An object without nodes is the same object in the function: also functions and exceptions."""
    for thing in (
        Plain([1]),
        functools.partial(print, 1),
        closure(1),
        lambda frame: frame.NODE,
        Config(k=1),
        ValueError(1),
        same,
        Options(Plain(1)),
    ):
        assert thing is run(same(thing))


# ---- dataclasses that refer to each other ----


@dataclass
class Tree:
    """A tree whose parts know their parents."""

    value: Any
    parent: Tree | None = None
    parts: list[Tree] = field(default_factory=list)


def tree(value: Any) -> Tree:
    """A tree of two."""
    root = Tree(1)
    root.parts.append(Tree(value, root))
    return root


def test_cyclic_dataclasses_without_nodes_are_passed_by_reference() -> None:
    """An argument with a parent link is neither refused nor copied."""
    root = tree(1)
    assert root is run(same(root))
    assert root is run(same([root, root.parts[0]]))[0]


def test_nodes_in_cyclic_dataclasses_are_found() -> None:
    """The function gets a copy with the same links; the original keeps its nodes."""
    root = tree(add(0))
    arrived = run(same({"all": [root, root.parts[0]], "items": zip("a", [add(1)], strict=True)}))
    first, second = arrived["all"]
    assert (1, 1, True, True) == (
        first.value,
        second.value,
        first.parts[0] is second,
        second.parent is first,
    )
    assert [("a", 2)] == [*arrived["items"]]
    assert first is not root
    assert "<node" in repr(root.parts[0].value)


def test_an_object_in_a_cycle_is_searched() -> None:
    """A node in another object is refused, also in a cycle."""
    with pytest.raises(GraphError, match="attribute 'value' is <node"):
        same(tree(Plain(add(0))))


@dataclass
class Derived:
    """A dataclass whose field is in the class."""

    value: Any
    derived: Any = field(init=False, default=add(6))


@dataclass
class Inherited(Derived):
    """The same, inherited."""


def test_a_node_in_the_class_of_a_dataclass_is_found() -> None:
    """A field that the constructor does not take may have a node for its default."""
    for kind in (Derived, Inherited):
        arrived = run(same(kind(add(0))))
        assert (1, 7, kind) == (arrived.value, arrived.derived, type(arrived))


# ---- default values ----


def test_a_default_value_may_hold_nodes() -> None:
    """A default that is a node, or a container with one, is passed as an argument that is given."""

    @workflow
    def positional(a: int, b: Any = add(0), /, c: Any = (add(1),)) -> Any:  # noqa: B008
        return a, b, c

    @workflow
    class Holder:
        def __init__(self, *, start: Any = add(2)) -> None:  # noqa: B008
            self.start = start

        def get(self, more: Any = add(3)) -> Any:  # noqa: B008
            return self.start, more

    holder: Any = Holder()
    results = run(positional(0), positional(0, 5), positional(0, c=6), holder.get())
    assert [(0, 1, (2,)), (0, 5, (2,)), (0, 1, 6), (3, 4)] == results


def test_a_default_value_in_another_object_is_refused() -> None:
    """The error is in the line of the call, and names the parameter."""
    holder = Plain(add(0))
    function = workflow(lambda value=holder: value)
    with pytest.raises(GraphError, match="argument 'value', attribute 'value' is <node"):
        function()

"""Decorated functions: the decorator, validation of calls, what a node refuses, names."""

from __future__ import annotations

import asyncio
import functools
import inspect
import operator
import sys
import traceback
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from example_nodes import Accumulator, PlainAccumulator, add, free, run, same, strict
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from functionfuse import task, workflow
from functionfuse._graph.signature import Signature
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable


# ---- the decorator ----


def test_decorator_keeps_what_a_function_says_of_itself() -> None:
    """Name, docstring, module, types and signature are those of the function."""
    assert "add" == add.__name__
    assert "add" == add.__qualname__
    assert "Add two numbers." == add.__doc__
    assert "example_nodes" == add.__module__
    assert ["a", "b"] == list(inspect.signature(add).parameters)
    assert {"a", "b", "return"} == set(add.__annotations__)


def test_wrapped_is_the_plain_function() -> None:
    """`__wrapped__` is the function itself, for unit tests."""
    assert 5 == add.__wrapped__(2, 3)
    assert inspect.isfunction(add.__wrapped__)


def test_decorated_class_keeps_what_it_says_of_itself() -> None:
    """Name, docstring, module and attributes are those of the class; `__wrapped__` is the class."""
    assert ("Accumulator", "Adds up.", "example_nodes") == (
        Accumulator.__name__,
        Accumulator.__doc__,
        Accumulator.__module__,
    )
    assert ["start"] == list(inspect.signature(Accumulator).parameters)
    assert 3 == PlainAccumulator(1).add(2)


def test_task_is_the_same_decorator() -> None:
    """Both names of the decorator are one object."""
    assert workflow is task


@pytest.mark.parametrize("decorated", [add, Accumulator])
def test_decorating_twice_changes_nothing(decorated: Any) -> None:
    """Decorating a decorated function or class returns it unchanged."""
    assert decorated is workflow(decorated)


def test_decorating_what_cannot_be_called_is_refused() -> None:
    """The error of the decorator says which objects it takes."""
    with pytest.raises(TypeError, match="takes a function or a class, not 3"):
        workflow(3)  # type: ignore[call-overload]


def test_a_call_runs_nothing() -> None:
    """A call makes a node; the function runs when a workflow does."""
    calls: list[int] = []
    node = workflow(calls.append)(1)
    assert [] == calls
    run(node)
    assert [1] == calls


def test_builtin_without_a_signature_takes_everything() -> None:
    """Calls of a function without a signature are not checked."""
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(max)
    largest: Any = workflow(max)
    assert 7 == run(largest(add(1, 1), 7, key=abs))


def test_partial_takes_the_remaining_arguments() -> None:
    """A `functools.partial` is called, and checked, with the remaining parameters."""
    plus_two = workflow(functools.partial(add.__wrapped__, 2))
    assert 5 == run(plus_two(3))
    with pytest.raises(TypeError, match="too many positional arguments"):
        plus_two(3, 4)


def test_callable_object_is_a_function() -> None:
    """An object with `__call__` can be decorated, and its calls are checked."""
    call = workflow(PlainAccumulator(5))
    assert 10 == run(call(2))
    with pytest.raises(TypeError, match=r"Accumulator\(\) missing a required argument: 'number'"):
        call()


# ---- calls ----

WRONG_CALLS = {
    "missing": ((1,), {"d": 1}, "missing a required argument: 'b'"),
    "missing keyword-only": ((1, 2), {}, r"missing a required (keyword-only )?argument: 'd'"),
    "missing positional-only": ((), {"b": 1, "d": 1}, "missing a required .*'a'"),
    "surplus": ((1, 2, 3, 4), {"d": 1}, "too many positional arguments"),
    "unknown": ((1, 2), {"d": 1, "z": 1}, "got an unexpected keyword argument 'z'"),
    "positional-only by name": (
        (),
        {"a": 1, "b": 1, "d": 1},
        ".*('a'.* positional only|positional-only .*'a')",
    ),
    "given twice": ((1, 2), {"b": 2, "d": 1}, "multiple values for argument 'b'"),
}


@pytest.mark.parametrize(("args", "kwargs", "message"), WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_a_wrong_call_is_refused_when_it_is_written(
    args: tuple[int, ...], kwargs: dict[str, int], message: str
) -> None:
    """The error names the function and says in Python's words what is wrong."""
    with pytest.raises(TypeError, match=r"^strict\(\) " + message):
        strict(*args, **kwargs)


def test_the_traceback_of_a_wrong_call_passes_through_the_users_line() -> None:
    """The last line of the user's own file is the wrong call."""
    with pytest.raises(TypeError) as refusal:
        add(1, 2, 3)  # type: ignore[call-arg]  # the wrong call
    lines = [frame.line for frame in traceback.extract_tb(refusal.tb) if frame.filename == __file__]
    assert "# the wrong call" in (lines[-1] or "")


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((1, 2), {"d": 3}, (1, 2, 0, 3, 0)),
        ((1, 2, 3), {"d": 4, "e": 5}, (1, 2, 3, 4, 5)),
        ((1,), {"c": 3, "b": 2, "d": 4}, (1, 2, 3, 4, 0)),
    ],
)
def test_a_right_call_is_python_s_call(
    args: tuple[int, ...], kwargs: dict[str, int], expected: tuple[int, ...]
) -> None:
    """Parameters of every kind get what plain Python gives them."""
    assert expected == run(strict(*args, **kwargs))


def test_surplus_arguments_reach_a_function_that_takes_them() -> None:
    """`*args` and `**kwargs` mean what they mean in plain Python, also for nodes."""
    one = add(0)
    assert ((1, 2), {"three": 3, "self": 1}) == run(free(one, 2, three=add(2), self=one))


NAMES = "abcdef"


@st.composite
def functions(draw: st.DrawFn) -> Callable[..., None]:
    """A function with random parameters; each has a letter for a name."""
    names = iter(NAMES)
    only, both, by_name = (draw(st.integers(0, 2)) for _ in range(3))
    optional = draw(st.integers(0, only + both))
    positional = [next(names) for _ in range(only + both)]
    with_default = set(positional[only + both - optional :])
    keywords = [next(names) for _ in range(by_name)]
    with_default |= {name for name in keywords if draw(st.booleans())}
    parts = [f"{name}=0" if name in with_default else name for name in positional]
    if only:
        parts.insert(only, "/")
    star = "*args" if draw(st.booleans()) else "*" if keywords else None
    parts += [star] if star else []
    parts += [f"{name}=0" if name in with_default else name for name in keywords]
    parts += ["**kwargs"] if draw(st.booleans()) else []
    namespace: dict[str, Any] = {}
    exec(f"def function({', '.join(parts)}): pass", namespace)  # noqa: S102
    function: Callable[..., None] = namespace["function"]
    return function


def agrees(
    signature: Signature,
    function: Callable[..., None],
    skipped: tuple[None, ...],
    args: tuple[int, ...],
    kwargs: dict[str, int],
) -> None:
    """Assert that a call is refused when it is recorded if, and only if, Python refuses it."""
    try:
        function(*skipped, *args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError, match=r"^function\(\) "):
            signature.check(args, kwargs)
    else:
        signature.check(args, kwargs)


@settings(deadline=None, max_examples=500)
@given(
    functions(),
    st.integers(0, 6),
    st.lists(st.sampled_from(NAMES + "z"), unique=True, max_size=6),
)
def test_check_refuses_what_python_refuses(
    function: Callable[..., None], positional: int, keywords: list[str]
) -> None:
    """A call is refused when it is recorded if, and only if, Python would refuse it."""
    agrees(Signature(function), function, (), (0,) * positional, dict.fromkeys(keywords, 0))


@settings(deadline=None)
@given(functions(), st.integers(0, 5))
def test_skip_leaves_out_the_instance(function: Callable[..., None], positional: int) -> None:
    """A method is called without its first parameter, which the library supplies."""
    parameters = inspect.signature(function).parameters.values()
    assume(any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters))
    agrees(Signature(function, skip=1), function, (None,), (0,) * positional, {})


# ---- what a node refuses ----


async def _awaited(value: Any) -> Any:
    return await value


REFUSED: dict[str, Callable[[Any], object]] = {
    "iter": list,
    "unpack": lambda value: [*value],
    "bool": bool,
    "if": lambda value: 1 if value else 2,
    "len": len,
    "in": lambda value: 1 in value,
    "<": lambda value: value < 1,
    "<=": lambda value: value <= 1,
    ">": lambda value: value > 1,
    ">=": lambda value: value >= 1,
    "reflected <": lambda value: 1 < value,
    "sorted": lambda value: sorted([value, value]),
    "==": lambda value: value == 1,
    "!=": lambda value: value != 1,
    "reflected ==": lambda value: value in [1, 2],
    "+": lambda value: value + 1,
    "reflected +": lambda value: 1 + value,
    "sum": lambda value: sum([value]),
    "text +": lambda value: "a" + value,
    "list *": lambda value: [1] * value,
    "@": lambda value: value @ value,
    "negative": lambda value: -value,
    "divmod": lambda value: divmod(7, value),
    "round": round,
    "float": float,
    "index": lambda value: [1, 2][value],
    "range": range,
    "path": open,
    "f-string": lambda value: f"{value}",
    "f-string with format": lambda value: f"{value:.2f}",
    "format": "{}".format,
    "assignment": lambda value: operator.setitem(value, 0, 1),
    "deletion": lambda value: operator.delitem(value, 0),
    "await": lambda value: asyncio.run(_awaited(value)),
    "with": lambda value: ExitStack().enter_context(value),
    "async with": lambda value: asyncio.run(AsyncExitStack().enter_async_context(value)),
}
NOT_YET = {
    "node": lambda: add(1),
    "item": lambda: same([1])[0],
    "instance": lambda: Accumulator(1),
}


@pytest.mark.parametrize("make", NOT_YET.values(), ids=NOT_YET)
@pytest.mark.parametrize("use", REFUSED.values(), ids=REFUSED)
def test_what_needs_a_result_is_refused(
    make: Callable[[], Any], use: Callable[[Any], object]
) -> None:
    """Python's question about a result that is not there yet is answered by what to do instead."""
    with pytest.raises(TypeError, match="inside a @workflow function that takes the node"):
        use(make())


def test_a_refusal_names_the_plain_function() -> None:
    """In a test, the user finds out what to call: `assert add(1) == 2` says `add.__wrapped__`."""
    node: Any = add(1)
    accumulator: Any = Accumulator(1)
    calls = {
        r"add\.__wrapped__\(\.\.\.\)": [node, node[0]],
        r"Accumulator\.__wrapped__\(\.\.\.\)`": [accumulator],
        r"Base\.__wrapped__\(\.\.\.\)\.add\(\.\.\.\)": [accumulator.add(1)],
    }
    for call, values in calls.items():
        for value in values:
            with pytest.raises(TypeError, match=f"call the plain function, `{call}"):
                assert value == 3


def test_attributes_of_results_are_refused() -> None:
    """An attribute that only the result has is an error that says where to read it."""
    node: Any = add(1)
    for value in (node, node["k"]):
        for name in ("shape", "columns", "mean", "items", "append", "whatever"):
            with pytest.raises(AttributeError, match="inside a @workflow function") as refusal:
                getattr(value, name)
            assert name in str(refusal.value)
        with pytest.raises(TypeError, match="inside a @workflow function' object is not callable"):
            value()
    with pytest.raises(AttributeError, match=r"has no 'compute': pass it to a workflow and run"):
        node.compute()
    assert not hasattr(node, "shape")


def test_methods_of_other_libraries_are_refused() -> None:
    """`add.map(...)`, as other libraries have it, is an error that says what to write."""
    function: Any = add
    with pytest.raises(AttributeError, match=r"has no 'map': .*\[add\(item\) for item in items\]"):
        function.map([1])
    with pytest.raises(AttributeError, match="workflow function add has no attribute 'other'"):
        _ = function.other
    cached: Any = workflow(functools.cache(add.__wrapped__))
    with pytest.raises(AttributeError, match=r"`add\.__wrapped__\.cache_clear`"):
        cached.cache_clear()


def test_a_node_can_be_printed() -> None:
    """Its repr is the name and the line of the call."""
    node = add(1)
    assert f"{node!r}" == str(node) == repr(node)


def test_equality_is_identity() -> None:
    """Nodes are distinct members of sets and keys of dicts."""
    one, other = add(1), add(1)
    assert one == one  # noqa: PLR0124
    assert one != other
    assert 2 == len({one, other})


@pytest.mark.parametrize("make", NOT_YET.values(), ids=NOT_YET)
def test_a_node_cannot_be_an_index(make: Callable[[], Any]) -> None:
    """An index is needed when the result is used; the message says where to take the item."""
    holders: list[Any] = [same([1]), same([[1]])[0], Accumulator(1)]
    for holder in holders:
        with pytest.raises(TypeError, match=r"cannot be an index: .*@workflow function"):
            holder[make()]


# ---- names ----


def test_set_name_gives_the_node_back() -> None:
    """A call can be named in the same expression; `set_name` returns the node."""
    node = add(1)
    assert node is node.set_name("first")
    assert "first" == node.name


def test_set_name_of_an_instance_gives_the_handle_back() -> None:
    """The handle is returned, and the constructor's node has the name."""
    accumulator: Any = Accumulator(1)
    assert accumulator is accumulator.set_name("acc")
    assert ["acc"] == list(LocalWorkflow(accumulator, workflow_name="nodes").graph.nodes)


@pytest.mark.parametrize(
    ("name", "error"), [(3, TypeError), (None, TypeError), (b"n", TypeError), ("", GraphError)]
)
@pytest.mark.parametrize("decorated", [add, Accumulator])
def test_a_bad_name_is_refused(decorated: Any, name: Any, error: type[Exception]) -> None:
    """A name is a string that is not empty, and the message shows what was given."""
    node = decorated(1)
    with pytest.raises(error, match=f"string that is not empty, not {name!r}"):
        node.set_name(name)


def test_location_is_the_line_of_the_call() -> None:
    """A node says where it was written; also when its function was decorated elsewhere."""
    node, line = add(1), sys._getframe().f_lineno
    assert f"test_functions.py:{line}" == node.location
    assert f"<node 'add' of test_functions.py:{line}>" == repr(node)


def test_location_of_a_method_is_the_line_of_the_call() -> None:
    """The calls of an instance are distinguished by their lines."""
    accumulator: Any = Accumulator(1)
    node, line = accumulator.add(1), sys._getframe().f_lineno
    assert f"test_functions.py:{line}" == node.location

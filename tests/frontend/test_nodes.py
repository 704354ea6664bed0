"""The frontend: what a call of a decorated function or class makes, and what it refuses."""

from __future__ import annotations

import dataclasses
import functools
import gc
import inspect
import sys
import traceback
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from functionfuse import task, workflow
from functionfuse._graph.signature import Signature
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable


@workflow
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@workflow
def same(value: Any) -> Any:
    """Give back what was given."""
    return value


@workflow
def strict(a: int, /, b: int, c: int = 0, *, d: int, e: int = 0) -> tuple[int, ...]:
    """Take one parameter of each kind, and no more."""
    return a, b, c, d, e


@workflow
def free(*numbers: int, **named: int) -> tuple[tuple[int, ...], dict[str, int]]:
    """Take everything."""
    return numbers, named


class Base:
    """What a decorated class inherits from."""

    def __init__(self, start: int) -> None:
        """Begin somewhere."""
        self.total = start

    def add(self, number: int) -> int:
        """Go on."""
        self.total += number
        return self.total


@workflow
class Accumulator(Base):
    """Adds up."""

    unit = "m"

    def double(self, *, times: int = 1) -> int:
        """Go on by as much as there is."""
        self.total *= 2**times
        return self.total

    def __call__(self, number: int) -> int:
        """Look at it."""
        return self.total * number

    @property
    def half(self) -> int:
        """Be an attribute, not a method."""
        return self.total // 2

    @staticmethod
    def zero() -> int:
        """Work without an instance."""
        return 0

    @classmethod
    def empty(cls) -> Any:
        """Work without an instance."""
        return cls(0)


#: For type checkers, which do not apply decorators of classes, `Accumulator` is the plain class.
PlainAccumulator: Any = Accumulator.__wrapped__  # type: ignore[attr-defined]


class Pair(NamedTuple):
    """Two values with names."""

    left: Any
    right: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Values with names, in an object that cannot be changed."""

    rate: Any
    layers: Any = ()
    derived: Any = dataclasses.field(init=False, default=None)


@dataclasses.dataclass
class Options:
    """Values with names, in an object that can be changed."""

    rate: Any


def run(*targets: Any) -> Any:
    """Give the results of the targets."""
    return LocalWorkflow(*targets, workflow_name="nodes").run()


# ---- the decorator ----


def test_decorator_keeps_what_a_function_says_of_itself() -> None:
    """Name, docstring, module, types and signature are those of the function."""
    assert "add" == add.__name__
    assert "add" == add.__qualname__
    assert "Add two numbers." == add.__doc__
    assert __name__ == add.__module__
    assert ["a", "b"] == list(inspect.signature(add).parameters)
    assert {"a", "b", "return"} == set(add.__annotations__)


def test_wrapped_is_the_plain_function() -> None:
    """What a unit test calls is the function itself."""
    assert 5 == add.__wrapped__(2, 3)
    assert inspect.isfunction(add.__wrapped__)


def test_decorated_class_keeps_what_it_says_of_itself() -> None:
    """Name, docstring, module and attributes are those of the class; `__wrapped__` is the class."""
    assert ("Accumulator", "Adds up.", __name__) == (
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
    """A decorated function or class is left as it is."""
    assert decorated is workflow(decorated)


def test_decorating_what_cannot_be_called_is_refused() -> None:
    """The decorator says what it takes."""
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
    """A function that tells nothing about its parameters is not checked."""
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(max)
    largest: Any = workflow(max)
    assert 7 == run(largest(add(1, 1), 7, key=abs))


def test_partial_takes_what_is_left() -> None:
    """A `functools.partial` is called, and checked, with what it was not given yet."""
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
    """Assert that a call is refused when it is written if, and only if, Python refuses it."""
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
    """A call is refused when it is written if, and only if, Python would refuse it."""
    agrees(Signature(function), function, (), (0,) * positional, dict.fromkeys(keywords, 0))


@settings(deadline=None)
@given(functions(), st.integers(0, 5))
def test_skip_leaves_out_the_instance(function: Callable[..., None], positional: int) -> None:
    """A method is called without its first parameter, which the library supplies."""
    parameters = inspect.signature(function).parameters.values()
    assume(any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters))
    agrees(Signature(function, skip=1), function, (None,), (0,) * positional, {})


# ---- what a node refuses ----

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


def test_equality_is_identity() -> None:
    """Nodes can be told apart, and be members of sets and keys of dicts."""
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
    """A call can be named where it is written; the same object goes on."""
    node = add(1)
    assert node is node.set_name("first")
    assert "first" == node.name


def test_set_name_of_an_instance_gives_the_handle_back() -> None:
    """The handle goes on, and the node that makes the object has the name."""
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


def test_place_is_the_line_of_the_call() -> None:
    """A node says where it was written; also when its function was decorated elsewhere."""
    node, line = add(1), sys._getframe().f_lineno
    assert f"test_nodes.py:{line}" == node.location
    assert f"<node 'add' of test_nodes.py:{line}>" == repr(node)


def test_place_of_a_method_is_the_line_of_the_call() -> None:
    """The calls of an instance are told apart by their lines."""
    accumulator: Any = Accumulator(1)
    node, line = accumulator.add(1), sys._getframe().f_lineno
    assert f"test_nodes.py:{line}" == node.location


# ---- classes ----


def test_calls_of_an_instance_follow_one_another() -> None:
    """Own and inherited methods and `__call__` see what the calls written before left."""
    accumulator: Any = Accumulator(start=add(0))
    results = [accumulator.add(2), accumulator.double(times=2), accumulator(10)]
    assert [3, 12, 120] == run(*results)


def test_an_instance_as_an_argument_is_the_object_as_it_is_then() -> None:
    """An instance among arguments stands for what the calls written so far leave."""
    total = workflow(lambda accumulator: accumulator.total)
    accumulator: Any = Accumulator(1)
    before = total(accumulator)
    accumulator.add(4)
    assert [1, 5] == run(before, total(accumulator))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: a.add(), r"Base.add\(\) missing a required argument: 'number'"),
        (lambda a: a.add(1, 2), r"Base.add\(\) too many positional arguments"),
        (lambda a: a.double(1), r"Accumulator.double\(\) too many positional arguments"),
        (lambda a: a(), r"Accumulator.__call__\(\) missing a required argument: 'number'"),
        (lambda _: Accumulator(), r"Accumulator\(\) missing a required argument: 'start'"),  # type: ignore[call-arg]
    ],
)
def test_a_wrong_call_of_a_class_or_method_is_refused(
    call: Callable[[Any], object], message: str
) -> None:
    """Constructors and methods are checked when they are written, like functions."""
    accumulator: Any = Accumulator(1)
    with pytest.raises(TypeError, match=message):
        call(accumulator)


def test_a_refused_call_is_no_part_of_the_instances_calls() -> None:
    """After a wrong call, the instance is where it was."""
    accumulator: Any = Accumulator(1)
    with pytest.raises(TypeError):
        accumulator.add()
    assert 3 == run(accumulator.add(2))


@pytest.mark.parametrize("name", ["zero", "empty", "half", "unit", "total", "nothing"])
def test_what_is_no_method_of_an_instance_is_refused(name: str) -> None:
    """Static and class methods, properties and attributes are refused with what to do."""
    with pytest.raises(AttributeError, match=f"'{name}'.*write a method that returns them"):
        getattr(Accumulator(1), name)


def test_a_method_may_take_anything() -> None:
    """A method whose instance is the first of `*args`, as wrappers have it, is called as usual."""

    class Wrapped:
        def total(*numbers: Any) -> int:
            return sum(numbers[1:])

    wrapped: Any = workflow(Wrapped)()
    assert 6 == run(wrapped.total(1, 2, 3))


def test_static_and_class_methods_are_there_on_the_class() -> None:
    """They work as in plain Python, on the decorated class."""
    accumulator_class: Any = Accumulator
    assert 0 == accumulator_class.zero()
    assert isinstance(accumulator_class.empty(), PlainAccumulator)


def test_a_method_that_would_be_hidden_is_refused() -> None:
    """A class with a method `set_name` of its own cannot be decorated, and is told why."""

    class Named:
        def set_name(self, name: str) -> None: ...

    with pytest.raises(TypeError, match=r"Named\.set_name would be hidden .* rename it"):
        workflow(Named)


def test_only_set_name_is_taken() -> None:
    """Any other public method name is free, whatever the handle is made of."""

    class Motor:
        def current(self) -> int:
            return 7

        def node(self) -> int:
            return 8

    motor: Any = workflow(Motor)()
    assert [7, 8] == run(motor.current(), motor.node())


def test_isinstance_and_subclassing_work_with_a_decorated_class() -> None:
    """Code that uses the class as a class goes on working."""
    decorated: Any = Accumulator

    class Louder(decorated):  # type: ignore[misc]
        def add(self, number: int) -> Any:
            return super().add(10 * number)

    assert isinstance(PlainAccumulator(1), decorated)
    assert not isinstance(1, decorated)
    assert issubclass(Louder, decorated)
    assert not issubclass(int, decorated)
    assert 21 == Louder(1).add(2)
    louder: Any = workflow(Louder)(1)
    assert 21 == run(louder.add(2))


def test_a_decorated_method_of_a_plain_class_makes_nodes() -> None:
    """In a class body the decorator makes methods: `self` is the object they are called on."""

    class Model:
        factor = 3

        @workflow
        def scale(self, number: int) -> int:
            return self.factor * number

    model = Model()
    assert 6 == run(model.scale(2))
    with pytest.raises(TypeError, match=r"Model\.scale\(\) missing a required argument"):
        model.scale()


def test_a_decorated_method_of_a_decorated_class_is_a_method() -> None:
    """Decorating both the class and its method means the same as decorating the class."""

    @workflow
    class Model:
        def __init__(self) -> None:
            self.factor = 3

        @workflow
        def scale(self, number: int) -> int:
            return self.factor * number

    model: Any = Model()
    assert 6 == run(model.scale(2))


def test_an_instance_cannot_be_pickled_by_mistake() -> None:
    """A handle is bound to the notebook or script; only its nodes travel."""
    with pytest.raises(TypeError, match="represents an object that does not exist yet"):
        cloudpickle.dumps(Accumulator(1))


# ---- what a call was given ----


def test_items_are_taken_where_the_result_is_used() -> None:
    """Indices, keys and slices reach into the result, at any depth."""
    node = same([{"k": [1, 2, 3, 4, 5]}])
    assert [{"k": [1, 2, 3, 4, 5]}, [3, 4], 5] == run(node[0], node[0]["k"][2:4], node[0]["k"][-1])


def test_nodes_in_containers_are_found() -> None:
    """Lists, tuples, dicts, sets, named tuples and dataclasses give their nodes' results."""
    one, two = add(0), add(1)
    given_ = same([one, (two, {"k": one}), {one, two}, frozenset({two}), Pair(one, [two])])
    expected = [1, (2, {"k": 1}), {1, 2}, frozenset({2}), Pair(1, [2])]
    result = run(given_)
    assert expected == result
    assert [list, Pair] == [type(result), type(result[4])]


def test_nodes_in_dataclasses_are_found() -> None:
    """Also in frozen ones, ones with slots, and fields that the constructor does not take."""
    frozen = Settings(add(0), [add(1)])
    object.__setattr__(frozen, "derived", add(2))
    result = run(same(frozen))
    assert (1, [2], 3) == (result.rate, result.layers, result.derived)
    assert Options(4) == run(same(Options(add(3))))


def test_a_node_may_be_a_key() -> None:
    """A dict may have nodes for keys; their results are the keys."""
    assert {1: 2} == run(same({add(0): add(1)}))


def test_containers_are_taken_as_they_are_when_the_call_is_written() -> None:
    """What happens to a container after the call means what it means in plain Python: nothing."""
    numbers, options, members = [1], {"rate": [1]}, {1}
    holding = [add(0)]
    results = [same(numbers), same(options), same(members), same(holding)]
    numbers.append(2)
    options["rate"].append(2)
    options["more"] = []
    members.clear()
    holding.clear()
    assert [[1], {"rate": [1]}, {1}, [1]] == run(*results)


def test_other_objects_are_taken_by_reference() -> None:
    """An object that is no plain container is the one that was given."""
    thing = object()
    options = Options([1])
    assert [thing, options] == run(same(thing), same(options))
    assert options is run(same(options))


def contains_itself(kind: str) -> Any:
    """Make a container that contains itself."""
    if kind == "list":
        numbers: list[Any] = []
        numbers.append(numbers)
        return numbers
    mapping: dict[str, Any] = {}
    mapping["k"] = [mapping]
    return mapping


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_a_container_that_contains_itself_is_refused(kind: str) -> None:
    """There is no order in which to fill it: the error says so, and what to do."""
    with pytest.raises(GraphError, match=r"contains itself.*make it in a @workflow function"):
        same(contains_itself(kind))


def test_large_literals_are_taken() -> None:
    """A million numbers are an argument like any other, bare or deep inside."""
    numbers = list(range(1_000_000))
    total = workflow(lambda data: sum(data["train"][0]))
    assert 499_999_500_000 == run(total({"train": (numbers, add(1))}))


# ---- life ----


def test_a_node_that_nobody_holds_is_collected() -> None:
    """Nothing in the library keeps nodes alive: a parent does not hold its children."""
    parent = add(1)
    child, grandchild = weakref.ref(add(parent)), weakref.ref(same([add(parent)]))
    gc.collect()
    assert (None, None) == (child(), grandchild())
    assert 2 == run(parent)


def test_a_node_that_ran_is_collected() -> None:
    """Neither a workflow that is gone nor its run keeps nodes alive."""
    node = add(1)
    assert 2 == run(node)
    reference = weakref.ref(node)
    del node
    gc.collect()
    assert reference() is None


def test_a_deep_chain_is_let_go_of() -> None:
    """Freeing a very long chain does not exhaust the stack."""
    node = add(0)
    for _ in range(100_000):
        node = add(node)
    first = weakref.ref(node)
    del node
    gc.collect()
    assert first() is None


def test_nodes_can_be_pickled() -> None:
    """A copy keeps names, place, items, containers and parents, and computes the same."""
    parent = add(1).set_name("parent")
    node = same({"k": [parent, same([10])[0]], "settings": Options(parent)}).set_name("child")
    copy = cloudpickle.loads(cloudpickle.dumps(node))
    assert (node.name, node.location) == (copy.name, copy.location)
    original = LocalWorkflow(node, workflow_name="nodes")
    copied = LocalWorkflow(copy, workflow_name="nodes")
    assert list(original.graph.nodes) == list(copied.graph.nodes)
    assert {"k": [2, 10], "settings": Options(2)} == original.run() == copied.run()


def test_pickled_methods_keep_their_instance() -> None:
    """A copy of a method's node brings along the calls before it."""
    accumulator: Any = Accumulator(1)
    accumulator.add(2)
    assert 12 == run(cloudpickle.loads(cloudpickle.dumps(accumulator.double(times=2))))

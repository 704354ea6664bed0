"""Decorated classes: instances, method calls, and decorated methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest
from example_nodes import Accumulator, PlainAccumulator, add, run

from functionfuse import workflow

if TYPE_CHECKING:
    from collections.abc import Callable


def test_calls_of_an_instance_follow_one_another() -> None:
    """Own and inherited methods and `__call__` see what the calls written before left."""
    accumulator: Any = Accumulator(start=add(0))
    results = [accumulator.add(2), accumulator.double(times=2), accumulator(10)]
    assert [3, 12, 120] == run(*results)


def test_an_instance_as_an_argument_has_its_state_at_that_time() -> None:
    """An instance among arguments represents its state after the calls recorded so far."""
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


def test_a_refused_call_is_not_recorded_for_the_instance() -> None:
    """After a wrong call, the instance is where it was."""
    accumulator: Any = Accumulator(1)
    with pytest.raises(TypeError):
        accumulator.add()
    assert 3 == run(accumulator.add(2))


@pytest.mark.parametrize("name", ["zero", "empty", "half", "unit", "total", "nothing"])
def test_attributes_that_are_not_methods_are_refused(name: str) -> None:
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
    """Static and class methods work as in plain Python, on the decorated class."""
    accumulator_class: Any = Accumulator
    assert 0 == accumulator_class.zero()
    assert isinstance(accumulator_class.empty(), PlainAccumulator)


def test_a_method_that_would_be_hidden_is_refused() -> None:
    """A class with a method `set_name` cannot be decorated; the error says why."""

    class Named:
        def set_name(self, name: str) -> None: ...

    with pytest.raises(TypeError, match=r"Named\.set_name would be hidden .* rename it"):
        workflow(Named)


def test_only_set_name_is_reserved() -> None:
    """Any other public method name is allowed, whatever attributes the handle has."""

    class Motor:
        def current(self) -> int:
            return 7

        def node(self) -> int:
            return 8

    motor: Any = workflow(Motor)()
    assert [7, 8] == run(motor.current(), motor.node())


def test_isinstance_and_subclassing_work_with_a_decorated_class() -> None:
    """Code that uses the class as a class still works."""
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


class Base:
    """A base class."""

    def __init__(self, start: int) -> None:
        """Begin somewhere."""
        self.total = start

    @classmethod
    def kind(cls) -> str:
        """The name of the class."""
        return cls.__name__


@workflow
class Explicit(Base):
    """A class whose methods name it."""

    def __init__(self, start: int) -> None:
        """Begin with one more."""
        super(Explicit, self).__init__(start + 1)  # noqa: UP008

    @classmethod
    def kind(cls) -> str:
        """The name of the class, twice."""
        return 2 * super(Explicit, cls).kind()  # noqa: UP008

    def same_kind(self, other: Explicit | None) -> list[bool]:
        """Whether another object is of this class."""
        return [
            isinstance(each, Explicit) and bool(super(Explicit, each)) for each in [self, other]
        ]


def test_super_may_name_the_decorated_class() -> None:
    """In the class, its name is the plain class; elsewhere it is the decorated one."""
    explicit: Any = Explicit

    class Derived(explicit):  # type: ignore[misc]
        def __init__(self) -> None:
            explicit.__init__(self, 7)  # as Python 2 has it

    assert [6, "ExplicitExplicit"] == [explicit.__wrapped__(5).total, explicit.kind()]
    assert 8 == Derived().total
    made = explicit(5)
    assert [True, False] == run(made.same_kind(None))
    assert [True, True] == run(made.same_kind(made))
    assert 8 == run(workflow(Derived)()).total


def test_super_may_name_a_decorated_class_of_a_function() -> None:
    """The same for a class that is defined in a function."""

    @workflow
    class Local(Base):
        def __init__(self, start: int) -> None:
            super(Local, self).__init__(start + 1)  # noqa: UP008

        @classmethod
        def kind(cls) -> str:
            return 2 * super(Local, cls).kind()  # noqa: UP008

    local: Any = Local
    assert [6, "LocalLocal"] == [run(local(5)).total, local.kind()]


def test_a_decorated_class_in_a_union() -> None:
    """An annotation of a function that is defined later may name the decorated class."""
    decorated: Any = Explicit
    assert decorated.__wrapped__ | None == decorated | None
    assert None | decorated.__wrapped__ == None | decorated


def test_the_decorator_above_static_and_class_methods() -> None:
    """Both orders of the decorators mean the same."""

    class Tools:
        factor = 3

        @workflow
        @staticmethod
        def plus_one(number: int) -> int:
            return number + 1

        @staticmethod
        @workflow
        def plus_two(number: int) -> int:
            return number + 2

        @workflow
        @classmethod
        def scaled(cls, number: int) -> int:
            return cls.factor * number

        @classmethod
        @workflow
        def shifted(cls, number: int) -> int:
            return cls.factor + number

    for tools in (Tools, Tools()):
        calls = [tools.plus_one(1), tools.plus_two(1), tools.scaled(1), tools.shifted(1)]
        assert [2, 3, 3, 4] == run(*calls)


def test_an_instance_cannot_be_pickled_by_mistake() -> None:
    """A handle is bound to the notebook or script; only its nodes are pickled."""
    with pytest.raises(TypeError, match="represents an object that does not exist yet"):
        cloudpickle.dumps(Accumulator(1))

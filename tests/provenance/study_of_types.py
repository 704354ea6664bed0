"""A script whose nodes return objects of its own classes; without a main guard where none is needed.

`python study_of_types.py ENGINE STORAGE:WORKFLOW ...` runs or resumes one workflow a storage, and prints one line for each.
"""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import functools
import multiprocessing
import pickle
import sys
import typing
from typing import Any, Generic, NamedTuple, Protocol, TypedDict, TypeVar

from functionfuse import workflow
from functionfuse.storage import storage_factory

T = TypeVar("T")


class Color(enum.Enum):
    """An enum."""

    RED = "red"
    GREEN = "green"
    CRIMSON = "red"  # noqa: PIE796 - an alias


class Right(enum.Flag):
    """A flag."""

    READ = enum.auto()
    WRITE = enum.auto()


class Planet(enum.Enum):
    """Members with attributes."""

    EARTH = (1.0, 2.0)

    def __init__(self, mass: float, radius: float) -> None:  # noqa: D107
        self.mass, self.radius = mass, radius


Level = enum.IntEnum("Level", "LOW HIGH")


@dataclasses.dataclass
class Point:
    """A dataclass."""

    x: int
    y: int = 0


@dataclasses.dataclass(frozen=True)
class Frozen:
    """It can be the key of a dict."""

    x: int


@dataclasses.dataclass(slots=True)
class Slotted:
    """A dataclass with slots."""

    x: int


@dataclasses.dataclass(frozen=True, slots=True)
class Both:
    """A frozen dataclass with slots."""

    x: int


@dataclasses.dataclass
class Box(Generic[T]):
    """A generic dataclass."""

    content: T


class Pair(NamedTuple):
    """A named tuple."""

    a: int
    b: int = 2


Triple = collections.namedtuple("Triple", "a b c")  # noqa: PYI024 - one of the kind
Renamed = NamedTuple("Other", [("a", int)])  # type: ignore[name-match]  # noqa: UP014 - one of the kind
Made = dataclasses.make_dataclass("Made", ["x"])


class Plain:
    """A class with state of its own."""

    count: typing.ClassVar[int] = 0

    def __init__(self, x: int) -> None:  # noqa: D107
        self.x = x
        type(self).count += 1

    def double(self) -> int:
        """Use a global variable and a function."""
        return helper(self.x)


class Child(Plain):
    """A class with a base class."""


class Slots:
    """A class with slots."""

    __slots__ = ("x",)

    def __init__(self, x: int) -> None:  # noqa: D107
        self.x = x


class Meta(type):
    """A metaclass."""

    def __call__(cls, *args: Any) -> Any:  # noqa: D102
        made = super().__call__(*args)
        made.marked = True
        return made


class WithMeta(metaclass=Meta):
    """A class with a metaclass."""


class Requires(abc.ABCMeta):
    """A metaclass that requires an argument."""

    need: int

    def __new__(cls, name: str, bases: Any, names: Any, *, need: int) -> Any:  # noqa: D102
        made = super().__new__(cls, name, bases, names)
        made.need = need
        return made

    def __init__(cls, *arguments: Any, **_: Any) -> None:  # noqa: D107
        super().__init__(*arguments)


class Needing(metaclass=Requires, need=5):
    """A class with an argument."""


class Hook:
    """A class whose subclasses have an argument."""

    kind: str

    def __init_subclass__(cls, *, kind: str) -> None:
        cls.kind = kind


class Hooked(Hook, kind="hooked"):
    """A subclass with an argument."""


class Shape(abc.ABC):
    """An abstract class."""

    @abc.abstractmethod
    def area(self) -> int:
        """Return the area."""


class Square(Shape):
    """A class of the abstract one."""

    def area(self) -> int:
        """Return the area."""
        return FACTOR


@typing.runtime_checkable
class HasArea(Protocol):
    """A protocol."""

    def area(self) -> int:
        """Return the area."""


class Movie(TypedDict):
    """A typed dict."""

    title: str


class Outer:
    """A class with a nested class."""

    class Inner:
        """The nested class."""

        class Innermost(enum.Enum):
            """An enum in it."""

            ONE = 1


class Listed(list):  # type: ignore[type-arg]
    """A class of a builtin type."""


class Mine(Exception):
    """An exception with two arguments."""

    def __init__(self, a: int, b: int) -> None:  # noqa: D107
        super().__init__(f"{a} and {b}")
        self.a, self.b = a, b


class Attributes:
    """A class as attrs makes them: methods that were set later."""


Attributes.__eq__ = lambda self, other: type(self) is type(other)  # type: ignore[method-assign]
Attributes.__hash__ = None  # type: ignore[assignment]

FACTOR = 2


def helper(x: int) -> int:
    """Use a global variable."""
    return FACTOR * x


@functools.lru_cache
def cached(x: int) -> int:
    """A function with a decorator."""
    return x


def times(factor: int) -> Any:
    """A closure."""
    return lambda x: factor * x


triple = times(3)
square = lambda x: x * x  # noqa: E731 - one of the kind


@workflow
def make() -> dict[Any, Any]:
    """Make an object of each kind."""
    return {
        Color.RED: Point(1, 2),
        Frozen(3): [Slotted(1), Both(2), Box(Color.GREEN), Box[int](4), Pair(1), Triple(1, 2, 3)],
        "values": [Right.READ, Right.READ | Right.WRITE, Planet.EARTH, Level.HIGH, Renamed(1)],
        "objects": [Plain(4), Child(5), Slots(6), WithMeta(), Square(), Outer.Inner(), Made(7)],
        "required": [Needing(), Hooked()],
        "nested": Outer.Inner.Innermost.ONE,
        "others": [Listed([1]), Mine(1, 2), Attributes(), Movie(title="m")],
        "classes": [Color, Plain, Outer.Inner, Shape, HasArea, Movie, Box, Mine],
        "functions": [
            helper,
            square,
            triple if __name__ == "__main__" else square,
            cached,
            Plain.double,
        ],
        "bound": Plain(8).double,
        "partial": functools.partial(helper, 9),
    }


@workflow
def look(found: dict[Any, Any]) -> list[str]:
    """Return what is not the script's own, in a worker."""
    return differences(found)


@workflow
def spread(start: str) -> list[Any]:
    """Pickle by name, and use processes."""
    with multiprocessing.get_context(start).Pool(1) as pool:
        doubled = pool.map(helper, [1, 2])
    again = pickle.loads(pickle.dumps(Point(1)))
    return [doubled, type(again) is Point, pickle.loads(pickle.dumps(Color.RED)) is Color.RED]


@workflow
def fail() -> None:
    """Raise an exception of the script."""
    raise Mine(1, 2)


def differences(found: dict[Any, Any]) -> list[str]:
    """Return what is not the script's own."""
    slotted, both, box, generic, pair, triple = found[Frozen(3)]
    right, rights, planet, level, renamed = found["values"]
    plain, child, slots, meta, area, inner, made = found["objects"]
    needing, hooked = found["required"]
    listed, mine, attributes, movie = found["others"]
    checks = {
        "point": type(found[Color.RED]) is Point and found[Color.CRIMSON] == Point(1, 2),
        "color": next(iter(found)) is Color.RED,
        "slotted": slotted == Slotted(1) and not hasattr(slotted, "__dict__"),
        "both": both == Both(2) and isinstance(both, Both),
        "box": box == Box(Color.GREEN) and box.content is Color.GREEN,
        "generic": generic == Box(4) and generic.__orig_class__ == Box[int],
        "pair": type(pair) is Pair and pair.b == 2,
        "triple": type(triple) is Triple,
        "right": right is Right.READ and rights is Right.READ | Right.WRITE and right in rights,
        "planet": planet is Planet.EARTH and planet.radius == Planet.EARTH.radius,
        "level": level is Level.HIGH,
        "renamed": type(renamed) is Renamed,
        "plain": type(plain) is Plain and plain.double() == helper(4),
        "child": type(child) is Child and isinstance(child, Plain),
        "slots": type(slots) is Slots,
        "meta": type(meta) is WithMeta and type(type(meta)) is Meta and meta.marked,  # type: ignore[attr-defined]
        "area": isinstance(area, Square) and isinstance(area, Shape) and isinstance(area, HasArea),
        "inner": type(inner) is Outer.Inner,
        "made": type(made) is Made and made == Made(7),
        "needing": type(needing) is Needing and type(needing).need == 5,
        "hooked": type(hooked) is Hooked and hooked.kind == "hooked",
        "nested": found["nested"] is Outer.Inner.Innermost.ONE,
        "listed": type(listed) is Listed,
        "mine": type(mine) is Mine and mine.b == 2,
        "attributes": attributes == Attributes(),
        "movie": movie == {"title": "m"},
        "classes": found["classes"]
        == [Color, Plain, Outer.Inner, Shape, HasArea, Movie, Box, Mine],
        "functions": [each(3) for each in found["functions"][:4]] == [6, 9, 9, 3],
        "bound": found["bound"]() == helper(8),
        "partial": found["partial"]() == helper(9),
    }
    return [name for name, holds in checks.items() if not holds]


def make_workflow(engine: str, *nodes: Any) -> Any:
    """A workflow of one engine."""
    if engine in {"serial", "threads", "processes"}:
        from functionfuse.backends.builtin.localback import LocalWorkflow

        options: Any = {} if engine == "serial" else {"workers": 2, "kind": engine}
        return LocalWorkflow(*nodes, workflow_name="types", **options)
    if engine == "dask":
        from functionfuse.backends.builtin.daskback import DaskWorkflow

        return DaskWorkflow(*nodes, workflow_name="types", client=dask_client())
    if engine == "ray":
        from functionfuse.backends.builtin.rayback import RayWorkflow

        # a cluster that runs, as its own variable RAY_ADDRESS says
        return RayWorkflow(*nodes, workflow_name="types", ray_init_args={"log_to_driver": False})
    from functionfuse.backends.addons.prefectback import PrefectWorkflow

    made = PrefectWorkflow(*nodes, workflow_name="types")
    made.set_prefect_flow_options({"task_runner": task_runner(engine)})
    return made


@functools.cache
def dask_client() -> Any:
    """A client of a cluster with two processes."""
    from distributed import Client, LocalCluster

    quiet = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    options: Any = {"threads_per_worker": 1, "host": "127.0.0.1", "scheduler_kwargs": quiet}
    return Client(LocalCluster(n_workers=2, dashboard_address=None, **options))


def task_runner(engine: str) -> Any:
    """A task runner of Prefect."""
    from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

    kind = ThreadPoolTaskRunner if engine == "prefect-threads" else ProcessPoolTaskRunner
    return kind(max_workers=2)


def run(engine: str, folder: str, start: str) -> list[Any]:
    """Run or resume a workflow, and return what is not the script's own: here, and in workers."""
    found = make().set_name("made")
    nodes = [
        found,
        look(found).set_name(f"look-{engine}"),
        spread(start).set_name(f"spread-{engine}"),
    ]
    made = make_workflow(engine, *nodes)
    storage = storage_factory({"kind": "file", "options": {"path": folder}})
    made.set_storage(storage, on_stale="ignore")
    here, there, spread_here = made.run()
    functions = here["functions"]
    same = functions[:2] == [helper, square] and functions[4] is Plain.double
    if __name__ == "__main__":  # a closure of a module is pickled by value
        same = same and any(functions[2] is each for each in (triple, square))
    return [differences(here), there, spread_here == [[2, 4], True, True], same]


def fails(engine: str) -> bool:
    """Tell whether the exception of a node is one of the script's class."""
    try:
        make_workflow(engine, fail()).run()
    except Mine as error:
        return (error.a, error.b) == (1, 2)
    return False


def main() -> None:
    """Run the workflow with each storage."""
    engine, start, *folders = sys.argv[1:]
    assert fails(engine)
    for folder in folders:
        print(f"{engine} {folder}", *run(engine, folder, start))  # noqa: T201 - the result


if __name__ == "__main__":
    main()

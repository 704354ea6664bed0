"""A user's project in which every type is as it should be: no type checker finds anything."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, assert_type

from functionfuse import RNG, SEED, task, workflow
from functionfuse._graph.instances import Instance
from functionfuse._graph.nodes import Item, Node
from functionfuse.backends.addons.prefectback import PrefectWorkflow
from functionfuse.backends.builtin.daskback import DaskWorkflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.backends.builtin.rayback import RayWorkflow
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Generator, Iterator


@workflow
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@workflow
async def fetch(address: str) -> int:
    """Give a result later."""
    return len(address)


@task
def describe(numbers: list[int], *, title: str) -> dict[str, list[int]]:
    """Give something with items."""
    return {title: numbers}


@workflow
def count(limit: int) -> Generator[int, None, None]:
    """Give a list, number by number."""
    yield from range(limit)


@workflow
def pairs(limit: int) -> Iterator[tuple[int, int]]:
    """Give a list as an iterator."""
    return zip(range(limit), range(limit), strict=True)


@workflow
async def arrivals(limit: int) -> AsyncIterator[str]:
    """Give a list later."""
    for number in range(limit):
        yield str(number)


@workflow
def picture(file: BytesIO) -> BytesIO:
    """Give a file in memory, which stays one."""
    return file


@workflow
class Model:
    """A class that is not a dataclass."""

    def __init__(self, size: int) -> None:
        self.size = size

    def fit(self, data: list[int]) -> float:
        """Give a score."""
        return len(data) / self.size

    def rows(self) -> Iterator[int]:
        """Give a list as an iterator."""
        return iter(range(self.size))


@workflow
@dataclass
class Settings:
    """A dataclass."""

    size: int
    name: str = ""

    def doubled(self) -> int:
        """Give a number."""
        return 2 * self.size


@workflow
def draw(count: int, seed: int = SEED, *, rng: random.Random = RNG) -> float:
    """Take the seed of the node, and a generator, whose type depends on numpy."""
    return count * seed * rng.random()


class Plain:
    """A class that is decorated under another name: its own can be an annotation."""

    def __init__(self, size: int) -> None:
        self.size = size

    def grown(self, by: int) -> int:
        """Give a number."""
        self.size += by
        return self.size


Planned = workflow(Plain)


@workflow
def size_of(plain: Plain) -> int:
    """Take an instance."""
    return plain.grown(0)


def calls_are_nodes_of_the_result() -> None:
    """A call of a decorated function gives a node of what the function returns."""
    assert_type(add(1, 1), Node[int])
    assert_type(add(a=1).set_name("one"), Node[int])
    assert_type(fetch("here"), Node[int])
    assert_type(count(3), Node[list[int]])
    assert_type(pairs(3), Node[list[tuple[int, int]]])
    assert_type(arrivals(3), Node[list[str]])
    assert_type(picture(BytesIO()), Node[BytesIO])
    assert_type(describe([1], title="t"), Node[dict[str, list[int]]])
    assert_type(add.__wrapped__(1, 1), int)
    assert_type(draw(3, SEED % 2**32, rng=RNG), Node[float])
    assert_type(draw.__wrapped__(3, 17), float)


def a_node_is_accepted_where_its_result_is() -> None:
    """The same holds for its items, and containers of nodes."""
    one = add(1)
    assert_type(add(one, fetch("here")), Node[int])
    assert_type(describe([one, 2], title="t")["t"][0], Item)
    assert_type(add(describe([one], title="t")["t"][0]), Node[int])


def calls_of_classes_are_instances() -> None:
    """Instances have a name, and their methods make nodes."""
    Model(3).set_name("m").fit([1]).set_name("fitted")
    Settings(3, name="s").set_name("s").doubled()
    assert_type(Planned(3).set_name("p"), Instance[Plain])
    assert_type(size_of(Planned(3)), Node[int])
    Model(add(1)).fit([add(2)]).set_name("score")


def one_target_gives_its_value() -> None:
    """`run()` returns the result of the node's function, on every backend."""
    node = add(1)
    assert_type(LocalWorkflow(node, workflow_name="w").run(), int)
    assert_type(LocalWorkflow(node, workflow_name="w", workers=2, kind="threads").run(), int)
    assert_type(PrefectWorkflow(node, workflow_name="w", fuse="auto").run(), int)
    assert_type(DaskWorkflow(node, workflow_name="w", address="tcp://here").run(), int)
    ray = RayWorkflow(node, workflow_name="w", actors=False)
    assert_type(ray.run(), int)
    assert_type(ray.run(return_results=False), int | None)
    assert_type(LocalWorkflow(Planned(3), workflow_name="w").run(), Plain)
    assert_type(LocalWorkflow(describe([1], title="t")["t"], workflow_name="w").run(), Any)


def several_targets_give_a_list() -> None:
    """Their values, in the order of the targets."""
    nodes = [add(1), add(2)]
    assert_type(LocalWorkflow(add(1), fetch("here"), workflow_name="w").run(), list[Any])
    assert_type(LocalWorkflow(*nodes, workflow_name="w").run(), list[Any])
    assert_type(PrefectWorkflow(add(1), fetch("here"), workflow_name="w").run(), list[Any])
    assert_type(DaskWorkflow(add(1), fetch("here"), workflow_name="w").run(), list[Any])
    assert_type(RayWorkflow(add(1), fetch("here"), workflow_name="w").run(), list[Any])


def prepared(flow: LocalWorkflow) -> LocalWorkflow:
    """A workflow of anything can be annotated without its type of result."""
    flow.set_storage(storage_factory({"kind": "file", "options": {"path": "results"}}))
    flow.query("add.*").fuse()
    return flow


async def awaited() -> None:
    """Prefect's `arun` gives what `run` gives."""
    assert_type(await PrefectWorkflow(add(1), workflow_name="w").arun(), int)

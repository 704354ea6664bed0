"""The global random generators while nodes with seeds run: seeded, restored, and refused in threads."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from random import random as throw
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from functionfuse import RNG, workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.backends.plugins import RandomStatePlugin
from functionfuse.errors import SeedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NUMPY: Any = np.random
THREADS: dict[str, Any] = {"workers": 2, "kind": "threads"}


def workflow_of(*nodes: Any, **options: Any) -> LocalWorkflow[Any]:
    """A workflow with a seed."""
    made: LocalWorkflow[Any] = LocalWorkflow(*nodes, workflow_name="global", **options)
    made.set_seed(17)
    return made


def states() -> list[Any]:
    """The states of the global generators."""
    return [random.getstate(), repr(np.random.get_state(legacy=False))]


@pytest.fixture(autouse=True)
def _own_states() -> Iterator[None]:
    """Generators with a number left over, as after an odd number of normal ones."""
    random.seed(1)
    np.random.seed(1)
    random.gauss(0, 1)
    np.random.normal()
    yield
    random.seed()
    np.random.seed()


# ---- ways to draw ----


def helper() -> float:
    """Draw by a name that was imported."""
    return throw()


class Drawing:
    """A class that draws."""

    @staticmethod
    def draw() -> float:
        """Draw by a name that was imported."""
        return throw()


async def draw_later() -> float:
    """Draw in a coroutine."""
    await asyncio.sleep(0)
    return random.random()


def draw_in_turn() -> Iterator[float]:
    """Draw in a generator function."""
    yield np.random.normal()


def draw_inside() -> Any:
    """Draw in a node of a workflow in this node."""
    return workflow_of(workflow(lambda: random.gauss(0, 1))().set_name("inner")).run()


def default_generator() -> Any:
    """Draw as libraries do that take `random_state=None`."""
    return NUMPY.permutation.__self__.permutation(5).tolist()


WAYS: dict[str, Callable[..., Any]] = {
    "random": lambda: random.random(),
    "gauss": lambda: random.gauss(0, 1),
    "getrandbits": lambda: random.getrandbits(9),
    "choice": lambda: random.choice([1, 2, 3]),
    "shuffle": lambda: random.shuffle([1, 2, 3]),
    "sample": lambda: random.sample(range(9), 2),
    "randbytes": lambda: random.randbytes(3),
    "imported": lambda: throw(),
    "imported here": lambda: __import__("random").random(),
    "by a helper": helper,
    "by a helper of a helper": lambda: helper(),
    "by a class": lambda: Drawing.draw(),
    "bound": random.uniform,
    "builtin": random.random,
    "numpy": lambda: np.random.rand(),
    "numpy normal": lambda: np.random.normal(size=3).tolist(),
    "numpy bound": np.random.normal,
    "numpy state": default_generator,
    "numpy shuffle": lambda: np.random.shuffle([1, 2]),
    "coroutine": draw_later,
    "generator": draw_in_turn,
    "inner workflow": draw_inside,
}


def node_of(way: str) -> Any:
    """A node that draws."""
    args = (0, 1) if way == "bound" else ()
    return workflow(WAYS[way])(*args).set_name("drawing")


@pytest.mark.parametrize("way", WAYS)
def test_draws_are_the_same_in_each_run_or_refused(way: str) -> None:
    """Alone in a process a node draws the same numbers; in threads it is named, and how it was meant."""
    values = [workflow_of(node_of(way)).run() for _ in range(2)]
    random.random()
    np.random.normal()
    one_thread = workflow_of(node_of(way), workers=1, kind="threads").run()
    assert values == [values[0], one_thread]
    name = "inner" if way == "inner workflow" else "drawing"
    with pytest.raises(SeedError, match=f"node '{name}' uses the generator of") as error:
        workflow_of(node_of(way), **THREADS).run()
    assert "`rng=RNG` or `seed=SEED`, and call set_seed()" in str(error.value)


@pytest.mark.parametrize("options", [{}, THREADS, {"workers": 1, "kind": "threads"}])
def test_the_users_generators_go_on(options: dict[str, Any]) -> None:
    """After a run, also a failed one, the generators of the session are where they were."""

    def fail() -> None:
        random.random()
        raise ValueError

    before = states()
    workflow_of(workflow(lambda rng=RNG: rng.random())(), **options).run()
    assert before == states()
    with pytest.raises(ValueError):  # noqa: PT011 - a SeedError is one
        workflow_of(workflow(fail)(), **options).run()
    assert before == states()
    assert random.random == throw == random.seed.__self__.random  # type: ignore[attr-defined]
    assert type(NUMPY.get_bit_generator()) is np.random.MT19937


def test_another_bit_generator_is_seeded_as_well() -> None:
    """The global generator may be one that cannot be seeded by `numpy.random.seed`."""
    own = NUMPY.get_bit_generator()
    NUMPY.set_bit_generator(np.random.PCG64(3))
    try:
        before = states()
        node = workflow(lambda: float(np.random.rand()))()
        assert workflow_of(node).run() == workflow_of(node).run()
        with pytest.raises(SeedError):
            workflow_of(node, **THREADS).run()
        assert before == states()
    finally:
        NUMPY.set_bit_generator(own)


def test_only_nodes_that_draw_are_refused() -> None:
    """Other threads draw while nodes run, and so do libraries for their retries: no node is blamed for that."""
    ended = threading.Event()
    drawn: list[float] = []

    def draw_on() -> None:
        while not ended.is_set():
            drawn.append(random.random() + np.random.rand())

    def busy(number: int, rng: Any = RNG) -> float:
        own = random.Random(number)
        legacy = np.random.RandomState(number)
        for _ in range(100):
            own.random()
            legacy.normal()
        return float(rng.random()) + own.random()

    pause: dict[str, Any] = {"__name__": "urllib3.util.retry", "random": random}
    exec("def jitter(): return random.uniform(0, 1)", pause)  # noqa: S102 - a function of another library
    thread = threading.Thread(target=draw_on)
    thread.start()
    try:
        nodes = [workflow(busy)(number) for number in range(50)]
        values = workflow_of(*nodes, workflow(pause["jitter"])(), **THREADS).run()
    finally:
        ended.set()
        thread.join(60)
    assert values[:-1] == workflow_of(*nodes).run()
    assert drawn


def test_each_node_is_blamed_for_itself() -> None:
    """Of nodes that run side by side, those that draw fail, and the others do not."""
    barrier = threading.Barrier(2, timeout=60)

    def draw() -> None:
        barrier.wait()
        random.random()

    def rest(rng: Any = RNG) -> float:
        barrier.wait()
        return float(rng.random())

    made = workflow_of(
        workflow(draw)().set_name("draws"), workflow(rest)().set_name("rests"), **THREADS
    )
    with pytest.raises(SeedError, match="'draws'"):
        made.run(on_error="continue")
    assert made.report is not None
    assert ["draws"] == made.report.names("failed")
    assert ["rests"] == made.report.names("computed")


def test_nodes_with_plugins_run_one_after_the_other_in_threads() -> None:
    """A plugin that seeds a shared generator is right in threads, too, also for a workflow inside a node."""

    def nested(**options: Any) -> Any:
        return seeded(*[workflow(random.random)() for _ in range(2)], **options)

    def seeded(*nodes: Any, **options: Any) -> Any:
        made: Any = LocalWorkflow(*nodes, workflow_name="p", **options)
        made.query().set_plugin(RandomStatePlugin(0, 99, 0, random.seed))
        return made.run()

    values = seeded(*[workflow(lambda: (throw(), throw()))() for _ in range(30)], **THREADS)
    generators = [random.Random(seed) for seed in range(1, 31)]
    assert [(rng.random(), rng.random()) for rng in generators] == values
    inner = [random.Random(seed).random() for seed in (1, 2)]
    assert inner == seeded(workflow(nested)(), **THREADS)
    with pytest.raises(
        SeedError
    ):  # the outer node waits for the inner one, which would wait for it
        seeded(workflow(nested)(**THREADS), **THREADS)


PROGRAM = """
from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
import random
own = random.Random()

@workflow
def draw(number):
    import numpy
    return float(numpy.random.rand())

@workflow
def draw_own(number):
    return own.random()

if __name__ == "__main__":
    from functionfuse.backends.plugins import RandomStatePlugin
    nodes = [draw(number) for number in range(3)]
    made = LocalWorkflow(*nodes, workflow_name="script", workers=2)
    made.set_seed(17)
    print(made.run())
    made = LocalWorkflow(*[draw_own(number) for number in range(3)], workflow_name="script", workers=2)
    made.query().set_plugin(RandomStatePlugin(0, 9, 0, own.seed))
    print(made.run())
"""


def test_scripts(tmp_path: Any) -> None:
    """Numpy may be imported in the node; a plugin reaches the generator of the script that functions use."""
    (tmp_path / "script.py").write_text(PROGRAM)
    command = [sys.executable, "script.py"]
    runs = {
        subprocess.run(  # noqa: S603 - this interpreter
            command, cwd=tmp_path, capture_output=True, check=True, text=True
        ).stdout
        for _ in range(2)
    }
    assert 1 == len(runs)
    _, own = runs.pop().splitlines()
    assert str([random.Random(seed).random() for seed in (1, 2, 3)]) == own


class FakeTorch:
    """What the library uses of PyTorch, which is not installed for all tests."""

    def __init__(self) -> None:
        """Start from a state."""
        self.rng = random.Random(1)
        self.manual_seed = self.rng.seed
        self.get_rng_state, self.set_rng_state = self.rng.getstate, self.rng.setstate


def test_torch_is_seeded_if_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes 64 bits of the seed, and goes on afterwards."""
    torch = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", torch)
    before = torch.rng.getstate()
    made = workflow_of(workflow(torch.rng.random)().set_name("drawing"))
    first = made.run()
    assert made.report is not None
    assert random.Random(made.report.seeds["drawing"] % 2**64).random() == first
    assert before == torch.rng.getstate()

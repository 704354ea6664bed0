"""Seeds by name: what a seed depends on, where SEED and RNG can stand, and what is refused."""

from __future__ import annotations

import copy
import hashlib
import pickle
import random
from dataclasses import dataclass, field
from functools import lru_cache, partial, wraps
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pytest

from functionfuse import RNG, SEED, workflow
from functionfuse._graph.generator_hints import generator_hints
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.backends.plugins import InitializerPlugin, RandomStatePlugin
from functionfuse.errors import OptionError, SeedError
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.random import Generator

OF_FIT_0 = 328958719645494150507551067817707039184  # with the root 17


@workflow
def fit(data: Any = None, seed: int = SEED) -> int:
    """Return the seed."""
    return seed


def seeds_of(names: list[str], root: Any = 17, workflow_name: str = "seeds") -> list[int]:
    """The seeds of nodes, in a workflow of these nodes."""
    made = LocalWorkflow(*[fit().set_name(name) for name in names], workflow_name=workflow_name)
    made.set_seed(root)
    assert made.report is None
    made.run()
    assert made.report is not None
    return [made.report.seeds[name] for name in names]


def run_with_seed(*nodes: Any, root: int = 17, **options: Any) -> Any:
    """Run nodes in a workflow with a seed."""
    made: Any = LocalWorkflow(*nodes, workflow_name="seeds", **options)
    made.set_seed(root)
    return made.run()


# ---- what a seed depends on ----


def test_a_seed_can_be_computed_again() -> None:
    """It is the documented digest, and a literal number."""
    digest = hashlib.sha256(b"functionfuse seed\n17\nfit-0").digest()
    assert [OF_FIT_0] == seeds_of(["fit-0"]) == [int.from_bytes(digest[:16], "big")]
    text = "functionfuse seed\n-3\nMaß \ud800".encode("utf-8", "surrogatepass")
    assert [int(hashlib.sha256(text).hexdigest()[:32], 16)] == seeds_of(["Maß \ud800"], root=-3)


def test_only_root_and_name_count() -> None:
    """Neither the other nodes, nor their order, nor the workflow."""
    names = ["fit-0", "fit-1", "other"]
    first = seeds_of(names)
    assert 3 == len({*first})
    assert first[::-1] == seeds_of(names[::-1], workflow_name="another")
    assert first[1:2] == seeds_of(["fit-1"], root=np.int64(17))
    assert set(first).isdisjoint(seeds_of(names, root=18))


@pytest.mark.parametrize("root", ["17", 17.0, True, b"17", [17], object()])
def test_a_root_is_an_integer(root: Any) -> None:
    """The error shows what was given."""
    made = LocalWorkflow(fit(), workflow_name="seeds")
    for use in (made.set_seed, made.query().set_seed):
        with pytest.raises(
            OptionError, match=r"set_seed\(\) takes a whole number, such as 17"
        ) as e:
            use(root)
        assert repr(root) in str(e.value)


def models() -> LocalWorkflow[Any]:
    """Two models in two repetitions, and another node."""
    names = ["fit-a-0", "fit-b-0", "fit-a-1", "fit-b-1", "other"]
    return LocalWorkflow(*[fit().set_name(name) for name in names], workflow_name="models")


def test_nodes_with_equal_groups_share_a_seed() -> None:
    """A key takes the parts of names that count, and no other rule has these seeds."""
    made = models()
    made.set_seed(17)
    query = made.query("fit-.*")
    assert query is query.set_seed(17, key=r"fit-.*-(\d+)")
    a_0, b_0, a_1, b_1, other = made.run()
    assert (a_0, a_1) == (b_0, b_1)
    assert 3 == len({a_0, a_1, other})
    digest = hashlib.sha256(b'functionfuse seed by key\n17\n["0"]').hexdigest()
    assert int(digest[:32], 16) == a_0


def test_later_rules_win() -> None:
    """A rule replaces an earlier one of its nodes; None removes it."""
    made = models()
    made.query("fit-a.*").set_seed(1)
    made.set_seed(17)
    plain = made.run()
    assert plain == seeds_of(["fit-a-0", "fit-b-0", "fit-a-1", "fit-b-1", "other"])
    made.query("fit-a-0").set_seed(18)
    assert [plain[0] == new for new in made.run()[:1]] == [False]
    assert plain[1:] == made.run()[1:]
    made.query("other").set_seed(None)
    with pytest.raises(SeedError, match="node 'other'"):
        made.run()


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (r"fit-.*-\d+", "has no group"),
        (r"fit-a-(\d+)", "does not match the name 'fit-b-0' in full"),
        ("(", "invalid regular expression"),
        (3, "invalid regular expression"),
    ],
)
def test_a_wrong_key_is_refused(key: Any, problem: str) -> None:
    """The error shows the key, when it is set."""
    with pytest.raises(OptionError, match=problem) as error:
        models().query("fit.*").set_seed(17, key=key)
    assert repr(key) in str(error.value)


# ---- where the placeholders can stand ----


def plain_positional(data: Any, seed: int = SEED, /) -> int:
    """Take a seed by position only."""
    return seed


def decorated(func: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator of the user's."""

    @wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return call


def in_list(seeds: list[int] = [SEED]) -> int:  # noqa: B006 - each call has its own list
    """Take a seed in a default."""
    return seeds[0]


@dataclass
class Settings:
    """Settings that hold a seed."""

    name: str
    seed: int = SEED


class Tools:
    """Functions without an instance."""

    @workflow
    @staticmethod
    def static(seed: int = SEED) -> int:
        """Take a seed."""
        return seed


@workflow
@dataclass
class Model:
    """A model with a seed."""

    rate: float
    seed: int = field(default=SEED, kw_only=True)

    def own(self) -> int:
        """The seed of the constructor."""
        return self.seed

    def fit(self, *, seed: int = SEED) -> int:
        """Take a seed."""
        return seed


def model_named(name: str) -> Any:
    """An instance."""
    model: Any = Model(0.5)
    return model.set_name(name)


PLACES: dict[str, Callable[[], Any]] = {
    "default": lambda: fit(1),
    "explicit": lambda: fit(1, SEED),
    "keyword": lambda: fit(seed=SEED),
    "position": lambda: workflow(plain_positional)(1),
    "partial": lambda: workflow(partial(fit.__wrapped__, seed=SEED))(1),
    "wrapped": lambda: workflow(decorated(fit.__wrapped__))(1),
    "cached": lambda: workflow(lru_cache(fit.__wrapped__))(1),
    "static": lambda: Tools.static(),
    "lambda": lambda: workflow(lambda seed=SEED: seed)(),
    "list": lambda: workflow(in_list)(),
    "in a list": lambda: workflow(in_list)([SEED]),
    "in a dict": lambda: workflow(lambda given: given["seed"][0])({"seed": (SEED,)}),
    "rest": lambda: workflow(lambda *rest, **named: (rest[0], named["b"])[0])(SEED, b=SEED),
    "settings": lambda: workflow(lambda settings: settings.seed)(Settings("name")),
    "method": lambda: Model(0.5).fit(),
    "instance": lambda: model_named("node").own().set_name("method"),
    "tuple": lambda: workflow(lambda pair: pair[1])((1, SEED)),
}


@pytest.mark.parametrize("place", PLACES)
def test_seeds_stand_wherever_arguments_do(place: str) -> None:
    """As a default or explicitly, and within containers."""
    node = PLACES[place]()
    if place != "instance":
        node.set_name("node")
    made = LocalWorkflow(node, workflow_name="places")
    made.set_seed(17)
    assert seeds_of(["node"]) == [made.run()] == [made.run()]


def test_a_call_takes_one_generator() -> None:
    """Two parameters of a call have the same one; other nodes and other runs have their own."""

    def draw(first: Any = RNG, second: Any = RNG) -> tuple[bool, float]:
        return first is second, float(first.random())

    nodes = [workflow(draw)().set_name(name) for name in "ab"]
    drawn = run_with_seed(*nodes)
    assert [True, True] == [same for same, _ in drawn]
    assert drawn[0] != drawn[1]
    for options in ({"read_only": True}, {"workers": 2}, {"workers": 2, "kind": "threads"}):
        assert drawn == run_with_seed(*nodes, **options)


def test_short_seeds() -> None:
    """SEED % n is the seed modulo n, for libraries that take short ones."""
    short, own = SEED % 2**32, fit().set_name("node")
    seed = run_with_seed(own)
    assert seed % 2**32 == run_with_seed(fit(seed=short).set_name("node"))
    assert "SEED % 4294967296" == repr(short)


def test_replaced_functions_take_seeds() -> None:
    """A replacement has its own defaults, and need not take the placeholders of the function that it replaces."""
    node = fit(3).set_name("node")
    made: Any = LocalWorkflow(node, workflow_name="replaced")
    made.set_seed(17)
    seed = made.run()
    made.replace_func("node", lambda data: data)
    assert 3 == made.run()
    made.replace_func("node", lambda data, *, other=SEED: (data, other))
    assert (3, seed) == made.run()
    explicit: Any = LocalWorkflow(fit(3, SEED).set_name("node"), workflow_name="replaced")
    explicit.set_seed(17)
    explicit.replace_func("node", lambda data, other=None: (data, other))
    assert (3, seed) == explicit.run()


# ---- no seed ----


def test_a_workflow_without_a_seed_is_refused() -> None:
    """Nothing runs; the error names nodes, placeholders and the remedy."""
    ran: list[int] = []
    first = workflow(ran.append)(1)
    nodes = [fit(first).set_name("fit-0"), workflow(lambda rng=RNG: rng)().set_name("drawing")]
    made = LocalWorkflow(*nodes, *[fit() for _ in range(3)], workflow_name="unseeded")
    with pytest.raises(SeedError) as error:
        made.run()
    for part in ("node 'fit-0'", "takes SEED", "node 'drawing'", "takes RNG", "2 more nodes"):
        assert part in str(error.value)
    assert "workflow 'unseeded' gives it no seed: call set_seed(17)" in str(error.value)
    assert [] == ran
    made.query("fit-0|fit_.*").set_seed(1)
    with pytest.raises(SeedError, match=r"^node 'drawing' \(.* at test_seeds.py:\d+\) takes RNG"):
        made.run()


USES: dict[str, Callable[[], Any]] = {
    "generator": lambda: np.random.default_rng(SEED),
    "old generator": lambda: np.random.RandomState(SEED),
    "seed": lambda: np.random.seed(SEED),
    "arithmetic": lambda: SEED + 1,
    "text": lambda: f"{SEED}",
    "truth": lambda: SEED or 3,
    "comparison": lambda: SEED == 3,
    "modulus": lambda: SEED % 0,
    "twice": lambda: SEED % 7 % 3,
    "truth of RNG": lambda: RNG or 3,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_placeholder_is_no_seed(use: Callable[[], Any]) -> None:
    """Outside of a node it has no value: the error says how it gets one."""
    with pytest.raises(SeedError, match=r"set_seed\(\): write it as the default of a parameter"):
        use()


def test_plain_functions_need_a_value() -> None:
    """A function that is called without a workflow takes a seed as any argument."""

    def draw(rng: Generator = RNG) -> float:
        return rng.random()

    with pytest.raises(AttributeError, match=r"'random' of RNG.*`fit.__wrapped__\(..., rng=...\)`"):
        draw()
    with pytest.raises(AttributeError, match="'random' of RNG"):
        workflow(draw).__wrapped__()
    assert 3 == fit.__wrapped__(1, seed=3)


@pytest.mark.parametrize("copied", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_placeholders_are_pickled_by_name(copied: Any) -> None:
    """In another process, too, they are the placeholders of the package."""
    placeholders: list[Any] = [SEED, RNG]
    assert all(
        one is other
        for one, other in zip(placeholders, copied.loads(copied.dumps(placeholders)), strict=True)
    )
    assert all(
        one is other for one, other in zip(placeholders, copy.deepcopy(placeholders), strict=True)
    )
    assert "SEED % 7" == repr(copied.loads(copied.dumps(SEED % 7)))


# ---- reports, headers, plugins ----


def test_seeds_are_shown(tmp_path: Path) -> None:
    """The report has a column if there are seeds; the header of a result has its own."""
    made = LocalWorkflow(fit().set_name("fit-0"), workflow_name="shown")
    made.set_storage(tmp_path)
    made.set_seed(17)
    made.run()
    assert str(OF_FIT_0) in str(made.report)
    assert OF_FIT_0 == storage_factory(tmp_path).info("shown", "fit-0")["seed"]
    plain = LocalWorkflow(fit(seed=1), workflow_name="plain")
    plain.run()
    assert "seed" not in str(plain.report)


def test_seeds_of_plugins_count() -> None:
    """A report has the seeds that plugins assign; of several seeds it has one number that each of them changes."""

    def seeds(start: int, *others: Any) -> dict[str, int]:
        made = LocalWorkflow(*[fit(seed=1).set_name(name) for name in "abc"], workflow_name="p")
        plugin = RandomStatePlugin(0, 99, start, lambda _: None)
        made.query("[ab]").set_plugins([InitializerPlugin(int), plugin, *others])
        made.run()
        assert made.report is not None
        return dict(made.report.seeds)

    assert {"a": 5, "b": 6} == seeds(4)
    two = seeds(4, RandomStatePlugin(0, 99, 4, lambda _: None))
    other = seeds(4, RandomStatePlugin(0, 99, 5, lambda _: None))
    assert two == seeds(4, RandomStatePlugin(0, 99, 4, lambda _: None))
    assert 6 == len({*two.values(), *other.values(), 5, 6})


def test_generators_among_arguments_are_hints() -> None:
    """A generator that several nodes share is named, with the parameter or the variable."""
    rng = np.random.default_rng(1)
    take = workflow(lambda data, rng=None: rng)
    nodes = {
        "argument": take(1, rng),
        "keyword": take(1, rng=random.Random(1)),
        "container": take([{"a": rng}]),
        "method of it": take(rng.normal),
        "closure": workflow(lambda: rng.normal())(),
        "global": workflow(lambda: GLOBAL.normal())(),
        "right": workflow(lambda rng=RNG: random.random() + rng.random())(),
        "plain": fit([1, "a"]),
    }
    named = [node.set_name(name) for name, node in nodes.items()]
    made = LocalWorkflow(*named, workflow_name="hints")
    made.set_seed(17)
    hints = generator_hints(made.graph)
    copied = "is a random generator: its state is copied to every node; use RNG"
    shared = (
        "is a random generator: its numbers depend on what runs earlier in the process; use RNG"
    )
    assert {
        "argument": f"argument rng {copied}",
        "keyword": f"argument rng {copied}",
        "container": f"argument data {copied}",
        "method of it": f"argument data {copied}",
        "closure": f"global rng {shared}",
        "global": f"global GLOBAL {shared}",
    } == hints
    reasons = {name: made.plan()[name].reason for name in nodes}
    assert {name: f"not stored; a target; {hint}" for name, hint in hints.items()} == {
        name: reasons[name] for name in hints
    }
    assert reasons["right"] == reasons["plain"] == "not stored; a target"


GLOBAL = np.random.default_rng(2)


def test_a_list_that_occurs_twice_in_another_is_searched_once() -> None:
    """Also at forty levels, where there are a billion ways to it."""

    @workflow
    def number() -> int:
        return 1

    @workflow
    def depth(value: Any) -> int:
        levels = 0
        while isinstance(value, list):
            value, levels = value[0], levels + 1
        return levels

    fit()  # from now on, graphs are searched for placeholders
    value: Any = [number()]
    for _ in range(40):
        value = [value, value]
    assert 41 == LocalWorkflow(depth(value), workflow_name="w").run()

"""Seed tests: seeds by name as arguments, and the global generators while a node runs."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from random import random as throw
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from functionfuse import RNG, SEED, workflow
from functionfuse.backends.plugins import RandomStatePlugin
from functionfuse.errors import SeedError
from functionfuse.testing.engine.suite import Suite, text_of

if TYPE_CHECKING:
    from functionfuse.storage.base import Storage

__all__ = ["SeedTests"]

_ROOT = 17


def seed_of(name: str, root: int = _ROOT) -> int:
    """The seed of a node, as the page says."""
    digest = hashlib.sha256(f"functionfuse seed\n{root}\n{name}".encode()).hexdigest()
    return int(digest[:32], 16)


def numbers_of(rng: np.random.Generator) -> list[float]:
    """What a generator draws next."""
    return [*map(float, rng.random(2))]


# ---- seeds as arguments ----


@workflow
def by_default(first: Any, seed: int = SEED) -> Any:
    """Return the seed."""
    return seed


@workflow
def by_keyword(*needs: Any, rng: np.random.Generator = RNG, seed: int = SEED) -> Any:
    """Draw, and return the seed."""
    return [seed, numbers_of(rng)]


@workflow
def by_position(seed: int = SEED, rng: np.random.Generator = RNG, /) -> Any:
    """Take both by position."""
    return [seed, numbers_of(rng)]


@workflow
def explicitly(seed: int, short: int, *several: Any, **named: Any) -> Any:
    """Take both wherever an argument can be."""
    generators = [several[0]["rng"], named["rng"]]
    return [seed, short, [numbers_of(rng) for rng in generators], generators[0] is generators[1]]


@dataclass
class Settings:
    """Settings with a seed."""

    rounds: int
    seed: int = SEED


@workflow
def by_settings(settings: Settings) -> Any:
    """Take a seed in an object."""
    return settings.seed


@workflow
@dataclass
class Model:
    """A model that draws in its methods."""

    seed: int = SEED
    rng: np.random.Generator = field(default=RNG)

    def fit(self, seed: int = SEED) -> Any:
        """Return both seeds, and draw from the generator of the instance."""
        return [self.seed, seed, numbers_of(self.rng)]


@workflow
async def later(rng: np.random.Generator = RNG) -> Any:
    """Draw in a coroutine."""
    return numbers_of(rng)


@workflow
def item_by_item(rng: np.random.Generator = RNG) -> Any:
    """Draw in a generator function."""
    yield from numbers_of(rng)


def seeded_nodes() -> dict[str, Any]:
    """Nodes that take seeds in all ways, by name."""
    model: Any = Model()
    model.set_name("model")
    nodes: dict[str, Any] = {
        "default": by_default(None),
        "keyword": by_keyword(),
        "position": by_position(),
        "explicit": explicitly(SEED, SEED % 2**32, {"rng": RNG}, rng=RNG),
        "settings": by_settings(Settings(3)),
        "method": model.fit(),
        "second method": model.fit(),
        "async": later(),
        "generator": item_by_item(),
    }
    nodes["dependent"] = by_keyword(nodes["explicit"], nodes["default"])
    return {name: node.set_name(name) for name, node in nodes.items()}


def expected_values() -> dict[str, Any]:
    """The values of these nodes."""
    seeds = {name: seed_of(name) for name in ("model", *seeded_nodes())}
    first = {name: numbers_of(np.random.default_rng(seed)) for name, seed in seeds.items()}
    twice = np.random.default_rng(seeds["explicit"])
    of_model = np.random.default_rng(seeds["model"])
    return {
        "default": seeds["default"],
        **{name: [seeds[name], first[name]] for name in ("keyword", "position", "dependent")},
        "explicit": [
            seeds["explicit"],
            seeds["explicit"] % 2**32,
            [numbers_of(twice), numbers_of(twice)],
            True,
        ],
        "settings": seeds["settings"],
        **{
            name: [seeds["model"], seeds[name], numbers_of(of_model)]
            for name in ("method", "second method")
        },
        **{name: first[name] for name in ("async", "generator")},
    }


# ---- the global generators ----


def helper() -> float:
    """Draw by a name that was imported."""
    return throw()  # noqa: S311 - not for secrets


@workflow
def from_random() -> list[float]:
    """Draw from the generator of `random`."""
    return [random.random(), random.gauss(0, 1)]  # noqa: S311


@workflow
def from_numpy() -> list[float]:
    """Draw from the generator of numpy, imported here."""
    from numpy.random import normal

    return [normal(), normal()]  # noqa: NPY002 - the subject of the test


@workflow
def from_helper() -> float:
    """Draw in another function."""
    return helper()


def drawing_nodes() -> dict[str, Any]:
    """Nodes that draw from the global generators, by name."""
    return {
        "random": from_random(),
        "numpy": from_numpy(),
        "helper": from_helper(),
        "method of random": workflow(random.uniform)(0, 1),
        "builtin of random": workflow(random.random)(),
        "method of numpy": workflow(np.random.normal)(),
    }


def draws(seeds: dict[str, int]) -> dict[str, Any]:
    """What these nodes draw with some seeds."""

    def of_random(name: str) -> random.Random:
        return random.Random(seeds[name])  # noqa: S311

    def of_numpy(name: str) -> np.random.RandomState:
        return np.random.RandomState([seeds[name] >> 32 * word & 0xFFFFFFFF for word in range(4)])

    numpy, rng = of_numpy("numpy"), of_random("random")
    return {
        "random": [rng.random(), rng.gauss(0, 1)],
        "numpy": [numpy.normal(), numpy.normal()],
        "helper": of_random("helper").random(),
        "method of random": of_random("method of random").uniform(0, 1),
        "builtin of random": of_random("builtin of random").random(),
        "method of numpy": of_numpy("method of numpy").normal(),
    }


class SeedTests(Suite):
    """Seeds of nodes."""

    def test_seeds_by_name(self, storage: Storage) -> None:
        """SEED and RNG have the values that root and name of the node give, wherever they stand, whatever else runs."""
        expected = expected_values()
        nodes = seeded_nodes()
        made = self.stored(storage, *nodes.values())
        made.set_seed(_ROOT)

        assert dict(zip(nodes, made.run(), strict=True)) == expected
        assert made.report is not None
        assert {name: made.report.seeds[name] for name in nodes} == {
            name: seed_of(name) for name in nodes
        }
        header = storage.info(made.workflow_name, "default")
        assert header["seed"] == seed_of("default")

        fewer = dict(reversed(seeded_nodes().items()))
        del fewer["method"]
        other = self.new_workflow(*fewer.values(), workflow_name="other")
        other.query().set_seed(_ROOT)
        other.query().fuse()
        assert dict(zip(fewer, other.run(), strict=True)) == {
            name: expected[name] for name in fewer
        }

    def test_global_generators(self) -> None:
        """`random` and `numpy.random` are seeded where a node is alone in its process; where threads share them, using them is a SeedError."""
        nodes = drawing_nodes()
        for name, node in nodes.items():
            node.set_name(name)
        plain = [workflow(random.random)() for _ in range(3)]
        plain += [workflow(np.random.normal)() for _ in range(3)]
        made = self.new_workflow(*nodes.values(), *plain)
        made.query("|".join(nodes)).set_seed(_ROOT)

        if self.runs_side_by_side and not self.runs_in_other_processes:
            with pytest.raises(SeedError, match="which all threads of its process share") as caught:
                made.run(on_error="continue")
            assert "rng=RNG" in text_of(caught.value)
            assert made.report is not None
            assert made.report.names("failed") == list(nodes)
            return
        values = made.run()
        seeds = {name: seed_of(name) for name in nodes}
        assert dict(zip(nodes, values, strict=False)) == draws(seeds)
        others = values[len(nodes) :]
        # not all of them: a plugin of an earlier run may have left two workers with one state
        assert len({*others[:3]}) > 1
        assert len({*others[3:]}) > 1

    def test_plugins_seed_the_global_generators(self) -> None:
        """A RandomStatePlugin with `random.seed` or `numpy.random.seed` seeds the generator of the process that runs the node."""
        of_random, of_numpy = [from_random() for _ in range(3)], [from_numpy() for _ in range(3)]
        decorated = workflow(random.uniform)(0, 1)
        made = self.new_workflow(*of_random, *of_numpy, decorated)
        made.set_plugin("from_random.*", RandomStatePlugin(0, 100, 16, random.seed))
        made.query("from_numpy.*").set_plugins([RandomStatePlugin(0, 100, 16, np.random.seed)])
        made.set_plugin("Random.uniform.*", RandomStatePlugin(0, 100, 16, random.seed))

        values = made.run()

        generators = [random.Random(seed) for seed in (17, 18, 19)]  # noqa: S311
        assert values[:3] == [[rng.random(), rng.gauss(0, 1)] for rng in generators]
        states = [np.random.RandomState(seed) for seed in (17, 18, 19)]
        assert values[3:6] == [[state.normal(), state.normal()] for state in states]
        assert values[6] == random.Random(17).uniform(0, 1)  # noqa: S311
        assert made.run() == values

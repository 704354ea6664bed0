"""Shared-state tests: generators, locks and other globals of modules, in the process that runs a node."""

from __future__ import annotations

import builtins
import random
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any

from functionfuse import workflow
from functionfuse.testing.engine import shared_state_nodes
from functionfuse.testing.engine.shared_state_nodes import (
    Counter,
    cached,
    draw,
    locked,
    own_state,
)
from functionfuse.testing.engine.suite import Suite

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SharedStateTests"]

_THROWS = 4


class SharedStateTests(Suite):
    """Shared state of modules."""

    def test_random_numbers_differ(self) -> None:
        """Nodes that draw from a generator of a module or script draw different numbers, however it is called."""
        throws = {"decorated": draw, "method": None, **_throws_of_a_script()}
        counter: Any = Counter()
        nodes = {
            name: [counter.throw() if throw is None else throw(n) for n in range(_THROWS)]
            for name, throw in throws.items()
        }

        values = iter(self.compute(*(node for several in nodes.values() for node in several)))

        drawn = {name: [next(values) for _ in several] for name, several in nodes.items()}
        assert dict.fromkeys(nodes, _THROWS) == {name: len({*each}) for name, each in drawn.items()}
        everything = [number for each in drawn.values() for number in each]
        assert len(everything) == len({*everything}), drawn

    def test_globals_are_those_of_the_module(self) -> None:
        """A lock and the state of an importable module are its own in each process, not copies: decorated or nested."""
        counter: Any = Counter()
        script: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
        script |= {"lock": shared_state_nodes.LOCK, "module": shared_state_nodes}
        imported = FunctionType(_has_lock.__code__, script, "imported")
        nodes = {
            "decorated": locked(1),
            "cached": cached(1),
            "method": counter.is_own(),
            "nested": workflow(own_state())(),
            "lambda in a module": workflow(lambda: own_state.__globals__ is _globals())(),
            "imported into a script": workflow(imported)(),
        }

        assert dict.fromkeys(nodes, True) == dict(
            zip(nodes, self.compute(*nodes.values()), strict=True)
        )


def _globals() -> dict[str, Any]:
    return vars(shared_state_nodes)


def _has_lock() -> bool:
    found: bool = module.LOCK is lock  # type: ignore[name-defined] # noqa: F821 - of the script
    return found


def _throws_of_a_script() -> dict[str, Callable[..., Any]]:
    """Functions of a script that draw: by an imported name, from its own generator, by a method, by a default."""
    rng = random.Random()  # noqa: S311 - not for secrets
    script: dict[str, Any] = {
        "__name__": "__main__",
        "__builtins__": builtins,
        "throw": random.random,
        "uniform": random.uniform,
        "own_rng": rng,
        "draw_one": rng.random,
    }
    bodies: dict[str, Callable[..., Any]] = {
        "imported name": lambda _: throw(),  # type: ignore[name-defined] # noqa: F821
        "imported method": lambda _: uniform(0, 1),  # type: ignore[name-defined] # noqa: F821
        "own generator": lambda _: own_rng.random(),  # type: ignore[name-defined] # noqa: F821
        "bound method": lambda _: draw_one(),  # type: ignore[name-defined] # noqa: F821
    }
    functions: dict[str, Callable[..., Any]] = {}
    for name, body in bodies.items():
        functions[name] = FunctionType(body.__code__, script, f"draw_{len(functions)}")
    functions["default"] = FunctionType(
        (lambda _, own: own.random()).__code__, script, "draw_by_default", (rng,)
    )
    functions["keyword default"] = FunctionType(
        (lambda _, *, own=None: own.random()).__code__, script, "draw_by_keyword"
    )
    functions["keyword default"].__kwdefaults__ = {"own": rng}
    functions["attribute"] = FunctionType(
        (lambda _: Thrower().rng.random()).__code__,  # type: ignore[name-defined] # noqa: F821
        script | {"Thrower": type("Thrower", (), {"__module__": "__main__", "rng": rng})},
        "draw_by_attribute",
    )
    functions |= _throws_of_objects(script, rng)
    functions |= _throws_of_numpy(script)
    functions["partial"] = partial(lambda draw_number, _: draw_number(), random.random)
    return {name: workflow(function) for name, function in functions.items()}


def _throws_of_objects(script: dict[str, Any], rng: random.Random) -> dict[str, Callable[..., Any]]:
    """Functions of a script that draw from its generator in a dict, in a partial object and in an object."""
    holder = type("Dealer", (), {"__module__": "__main__"})()
    holder.rng = rng
    script = script | {
        "generators": {"first": [rng]},
        "throw_one": partial(rng.uniform, 0, 1),
        "dealer": holder,
    }
    bodies: dict[str, Callable[..., Any]] = {
        "in a dict": lambda _: generators["first"][0].random(),  # type: ignore[name-defined] # noqa: F821
        "in a partial object": lambda _: throw_one(),  # type: ignore[name-defined] # noqa: F821
        "in an object": lambda _: dealer.rng.random(),  # type: ignore[name-defined] # noqa: F821
    }
    return {
        name: FunctionType(body.__code__, script, f"deal_{number}")
        for number, (name, body) in enumerate(bodies.items())
    }


def _throws_of_numpy(script: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    try:
        import numpy as np
    except ImportError:
        return {}
    script |= {"normal": np.random.normal, "generator": np.random.default_rng()}
    bodies: dict[str, Callable[..., Any]] = {
        "numpy's global generator": lambda _: float(normal()),  # type: ignore[name-defined] # noqa: F821
        "numpy generator": lambda _: float(generator.normal()),  # type: ignore[name-defined] # noqa: F821
    }
    return {
        name: FunctionType(body.__code__, script, f"normal_{number}")
        for number, (name, body) in enumerate(bodies.items())
    }

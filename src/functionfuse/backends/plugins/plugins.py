"""Plugin implementations: initializer, random state, and a collection of plugins.

The state of a plugin (a counter, a seed) is that of one run: `for_run` returns a copy for each run,
so that a second run, or a run on another engine, starts with the same state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from functionfuse._common.global_references import reference_to
from functionfuse.errors import OptionError
from functionfuse.options import Plugin, for_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["InitializerPlugin", "PluginCollection", "RandomStatePlugin"]


class InitializerPlugin:
    """Calls a function in the worker before the function of the node."""

    def __init__(self, func: Callable[[], object]) -> None:  # noqa: D107
        self.func = func

    def local_initialize(self) -> None:
        """Do nothing."""

    def remote_initialize(self) -> Callable[[], object]:  # noqa: D102 - as in Plugin
        return self.func


class RandomStatePlugin:
    """Seeds random generators: another seed for each node, the same seeds in every run.

    The nodes with this plugin get consecutive seeds in graph order. Nodes that are loaded use up a seed too,
    so stored results do not change the seeds of other nodes.
    """

    def __init__(self, min: int, max: int, seed: int, seed_func: Callable[[int], object]) -> None:
        """Assign the seeds `seed + 1`, `seed + 2`, ..., within bounds.

        Args:
            min: The smallest seed.
            max: The largest seed; `min` follows it.
            seed: The start, in `min .. max`.
            seed_func: Seeds the random generators of the worker with its argument.

        Raises:
            OptionError: `seed` is out of bounds.
        """
        if not min <= seed <= max:
            message = f"the seed {seed!r} of a RandomStatePlugin is not in {min!r} .. {max!r}"
            raise OptionError(message)
        self.min, self.max, self.seed, self.seed_func = min, max, seed, seed_func

    def seeding(self) -> RandomStatePlugin:
        """The part of the plugin that assigns seeds, with its state at the start of a run."""
        return self.for_run()

    def for_run(self) -> RandomStatePlugin:
        """A copy with the same seed."""
        return RandomStatePlugin(self.min, self.max, self.seed, self.seed_func)

    def local_initialize(self) -> None:
        """Advance to the next seed."""
        self.seed = self.min if self.seed == self.max else self.seed + 1

    def remote_initialize(self) -> Callable[[], object]:  # noqa: D102 - as in Plugin
        return _Seeding(self.seed_func, self.seed)


class PluginCollection:
    """Several plugins as one, in order."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        """Combine plugins.

        Raises:
            OptionError: An object does not implement the plugin protocol.
        """
        self.plugins = tuple(plugins)
        for plugin in self.plugins:
            if not isinstance(plugin, Plugin):
                message = f"{plugin!r} in a PluginCollection does not implement the plugin protocol"
                raise OptionError(message)

    def seeding(self) -> PluginCollection:
        """The plugins that assign seeds, with their state at the start of a run."""
        parts = [getattr(plugin, "seeding", None) for plugin in self.plugins]
        return PluginCollection([part() for part in parts if part is not None])

    def for_run(self) -> PluginCollection:
        """A collection of copies for one run."""
        return PluginCollection([for_run(plugin) for plugin in self.plugins])

    def local_initialize(self) -> None:  # noqa: D102 - as in Plugin
        for plugin in self.plugins:
            plugin.local_initialize()

    def remote_initialize(self) -> Callable[[], object]:  # noqa: D102 - as in Plugin
        calls = [plugin.remote_initialize() for plugin in self.plugins]
        return _Sequence(tuple(call for call in calls if call is not None))


@dataclass(frozen=True)
class _Seeding:
    seed_func: Callable[[int], object]
    seed: int

    @property
    def seeds(self) -> tuple[int, ...]:
        return (self.seed,)

    def __call__(self) -> None:
        self.seed_func(self.seed)

    def __reduce__(self) -> tuple[Any, ...]:
        # a method of a generator that functions use as a global is that of the worker's generator, not of a copy
        return _Seeding, (reference_to(self.seed_func), self.seed)


@dataclass(frozen=True)
class _Sequence:
    calls: tuple[Callable[[], object], ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all plugins that assign some."""
        return tuple(seed for call in self.calls for seed in getattr(call, "seeds", ()))

    @property
    def seed(self) -> int | None:
        """The first of the seeds."""
        return next(iter(self.seeds), None)

    def __call__(self) -> None:
        for call in self.calls:
            call()

"""The plugins that come with the library.

A plugin that counts or draws keeps that in a run's own copy, which `for_run` gives:
so a second run, or one on another engine, starts from the same place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from functionfuse.errors import OptionError
from functionfuse.options import Plugin, for_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["InitializerPlugin", "PluginCollection", "RandomStatePlugin"]


class InitializerPlugin:
    """Calls a function in the worker before the node's own."""

    def __init__(self, func: Callable[[], object]) -> None:  # noqa: D107
        self.func = func

    def local_initialize(self) -> None:
        """Do nothing."""

    def remote_initialize(self) -> Callable[[], object]:  # noqa: D102 - as in Plugin
        return self.func


class RandomStatePlugin:
    """Seeds random generators differently for each node, and the same way in every run.

    The nodes it was set on get consecutive seeds in graph order, whether they are computed or read,
    so what is stored never changes the seed of what is not.
    """

    def __init__(self, min: int, max: int, seed: int, seed_func: Callable[[int], object]) -> None:
        """Give nodes the seeds `seed + 1`, `seed + 2`, ..., within bounds.

        Args:
            min: The smallest seed.
            max: The largest seed; the next one is `min`.
            seed: Where to start; in `min .. max`.
            seed_func: Takes a seed and sets the state of random generators in the worker.

        Raises:
            OptionError: `seed` is not within the bounds.
        """
        if not min <= seed <= max:
            message = f"the seed {seed!r} of a RandomStatePlugin is not in {min!r} .. {max!r}"
            raise OptionError(message)
        self.min, self.max, self.seed, self.seed_func = min, max, seed, seed_func

    def for_run(self) -> RandomStatePlugin:
        """A copy that starts at the same seed."""
        return RandomStatePlugin(self.min, self.max, self.seed, self.seed_func)

    def local_initialize(self) -> None:
        """Go on to the next seed."""
        self.seed = self.min if self.seed == self.max else self.seed + 1

    def remote_initialize(self) -> Callable[[], object]:  # noqa: D102 - as in Plugin
        return _Seeding(self.seed_func, self.seed)


class PluginCollection:
    """Several plugins as one, in order."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        """Take the plugins.

        Raises:
            OptionError: One of them is none.
        """
        self.plugins = tuple(plugins)
        for plugin in self.plugins:
            if not isinstance(plugin, Plugin):
                message = f"{plugin!r} in a PluginCollection is no plugin"
                raise OptionError(message)

    def for_run(self) -> PluginCollection:
        """A collection of fresh copies."""
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

    def __call__(self) -> None:
        self.seed_func(self.seed)


@dataclass(frozen=True)
class _Sequence:
    calls: tuple[Callable[[], object], ...]

    @property
    def seed(self) -> Any:
        seeds = [getattr(call, "seed", None) for call in self.calls]
        return next((seed for seed in seeds if seed is not None), None)

    def __call__(self) -> None:
        for call in self.calls:
            call()

"""Seeds of a node, which its unit carries to the worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NodeSeeding"]


@dataclass(frozen=True, slots=True)
class NodeSeeding:
    """The set-up of a node with a seed."""

    name: str
    own_seed: int | None  # of `set_seed`
    plugin: Callable[[], object] | None  # what a plugin's remote_initialize() returned
    #: Where several nodes run in threads at the same time: the process of the coordinator; empty: nowhere.
    threads_of: str

    @property
    def seed(self) -> int | None:
        """The seed of the node, or that of its plugin."""
        seed: int | None = getattr(self.plugin, "seed", None)
        return seed if self.own_seed is None else self.own_seed

"""Seeds of a node, which its unit carries to the worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from functionfuse._common.process_identity import this_process

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

    def run(self, func: Callable[..., Any], body: Callable[..., Any], *args: Any) -> Any:
        """Call a function that runs the node, whose function is `func`.

        Raises:
            SeedError: The node uses a generator that nodes in other threads share.
        """
        from functionfuse._kernel.global_seeds import run_seeded  # late: most runs have no seeds

        return run_seeded(self, func, body, args, in_threads=self.threads_of == this_process())

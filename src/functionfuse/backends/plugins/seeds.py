"""Seeds of nodes for fingerprints: those of `set_seed`, and those that plugins assign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from functionfuse.options import Plugin

__all__ = ["combined_seeds"]

_BYTES: Final = 16  # of the digest of several seeds


def combined_seeds(
    names: Iterable[str], seeds: Mapping[str, int], plugins: Mapping[str, Plugin]
) -> dict[str, int]:
    """Return one number for each node that has seeds; no plugin is called.

    Args:
        names: All nodes, in graph order: a `RandomStatePlugin` assigns consecutive seeds in this order.
        seeds: The seeds of `set_seed`, by node.
        plugins: The plugins, by node.
    """
    assigned = _assigned_seeds(names, plugins) if plugins else {}
    found: dict[str, int] = dict(seeds)
    for name, others in assigned.items():
        own = (seeds[name],) if name in seeds else ()
        found[name] = _as_one((*own, *others))
    return found


def _assigned_seeds(
    names: Iterable[str], plugins: Mapping[str, Plugin]
) -> dict[str, tuple[int, ...]]:
    """The seeds of plugins, by node: each plugin's own part that assigns seeds is asked as in a run."""
    parts: dict[int, Any] = {}
    for plugin in plugins.values():
        part = getattr(plugin, "seeding", None)
        if part is not None:
            parts.setdefault(id(plugin), part())
    assigned: dict[str, tuple[int, ...]] = {}
    for name in names if parts else ():
        part = parts.get(id(plugins.get(name)))
        if part is not None:
            part.local_initialize()
            assigned[name] = part.remote_initialize().seeds
    return {name: several for name, several in assigned.items() if several}


def _as_one(seeds: Sequence[int]) -> int:
    if len(seeds) == 1:
        return seeds[0]
    import hashlib  # late: few nodes have several seeds

    digest = hashlib.sha256(",".join(map(str, seeds)).encode()).digest()
    return int.from_bytes(digest[:_BYTES], "big")

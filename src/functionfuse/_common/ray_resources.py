"""Ray resources: check that a machine of a cluster has the requested resources, since Ray waits for them without end.

This module does not import Ray: the node table is an argument.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

__all__ = ["unsatisfied_request"]

#: Resources of every machine, which errors show only if they are requested.
_EVERYWHERE: Final = ("node:", "memory", "object_store_memory")


def unsatisfied_request(
    nodes: Iterable[Mapping[str, Any]], options: Mapping[str, Any], *, actor: bool
) -> str | None:
    """Describe a request that no node of a cluster can satisfy; None if one can.

    Args:
        nodes: The result of `ray.nodes()`.
        options: The Ray options of a task or an actor.
        actor: The options are those of an actor.
    """
    strategy = options.get("scheduling_strategy")
    if strategy not in {None, "DEFAULT", "SPREAD"} or options.get("fallback_strategy"):
        return None  # a placement group or a node by name: Ray reports if there is none
    request, labels = _request(options, actor=actor), options.get("label_selector") or {}
    alive = [node for node in nodes if node["Alive"]]
    for node in alive:
        if _covers(node["Resources"], request) and _matches(node.get("Labels", {}), labels):
            return None
    wanted = _format_resources(request, request) + (f" with labels {labels}" if labels else "")
    have = "; ".join(_format_resources(node["Resources"], request) for node in alive)
    return f"{wanted}, and no node of the cluster has all of it (they have: {have})"


def _request(options: Mapping[str, Any], *, actor: bool) -> dict[str, float]:
    cpus = options.get("num_cpus")
    # by default, tasks require one CPU, and so does the start of an actor
    request = {
        "CPU": 1 if cpus is None else cpus,
        "GPU": options.get("num_gpus"),
        "memory": options.get("memory"),
        "object_store_memory": options.get("object_store_memory") if actor else None,
        **(options.get("resources") or {}),
    }
    if options.get("accelerator_type"):
        request[f"accelerator_type:{options['accelerator_type']}"] = 0.001
    return {name: amount for name, amount in request.items() if amount}


def _covers(offer: Mapping[str, float], request: Mapping[str, float]) -> bool:
    return all(offer.get(name, 0) >= amount for name, amount in request.items())


def _matches(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Tell whether a node has the labels: a value, `!value`, `in(a, b)` or `!in(a, b)` for each key."""
    for key, condition in selector.items():
        wanted = condition.removeprefix("!")
        values = wanted[3:-1].split(",") if wanted.startswith("in(") else [wanted]
        found = labels.get(key) in {value.strip() for value in values}
        if found == condition.startswith("!"):
            return False
    return True


def _format_resources(resources: Mapping[str, float], asked: Collection[str] = ()) -> str:
    shown = [
        f"{name}: {resources[name]:g}"
        for name in sorted(resources)
        if name in asked or not name.startswith(_EVERYWHERE)
    ]
    return ", ".join(shown) or "nothing"

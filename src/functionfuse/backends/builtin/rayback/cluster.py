"""The cluster: found or started when a run needs it, and asked what its nodes have."""

from __future__ import annotations

import inspect
import os
import threading
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import ray
from ray.exceptions import AuthenticationError

from functionfuse._common.stdio import open_closed_streams
from functionfuse._common.validation import validate_names
from functionfuse.backends.builtin.rayback._compat import cluster_address
from functionfuse.backends.builtin.rayback.addresses import check_ray_answers, same_cluster
from functionfuse.errors import EngineError, FunctionFuseWarning, OptionError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["check_init_args", "connect", "unsatisfied_request"]

_INIT: Final = frozenset(inspect.signature(ray.init).parameters) - {"kwargs"}
_starting: Final = threading.Lock()  # workflows may run in several threads
_connections: Final = list[
    tuple[Mapping[str, Any], str]
]()  # what ray.init got here, and which cluster it gave


def check_init_args(options: Mapping[str, Any]) -> None:
    """Accept what `ray.init` takes; what starts with an underscore is experimental, and Ray's own to check.

    Raises:
        OptionError: The installed Ray does not know an option.
    """
    validate_names(
        [name for name in options if not name.startswith("_")], _INIT, "option of ray.init"
    )


def connect(options: Mapping[str, Any]) -> None:
    """Use the Ray that this process is connected to; connect to one or start one if there is none.

    It stays until the process ends: to start takes ten seconds, and results of one run may be used by the next.
    Ray itself sees to the end: what `ray.init` started ends with this process, what it only joined goes on.

    Raises:
        EngineError: There is no cluster at the address, or it does not let us in.
        OptionError: Another cluster is wanted than the one that this process is connected to.
    """
    with _starting:
        if ray.is_initialized():
            _check_unused(options)
            return
        address = options.get("address") or os.environ.get("RAY_ADDRESS") or ""
        check_ray_answers(address, encrypted=_uses_tls(options))
        open_closed_streams()  # before their numbers are those of sockets
        try:
            ray.init(**options)
        except (AuthenticationError, RuntimeError, OSError, ValueError) as error:
            raise EngineError(_advice(address, error)) from error
        _connections.append((options, cluster_address()))


def _uses_tls(options: Mapping[str, Any]) -> bool:
    in_environment = os.environ.get("RAY_USE_TLS", "").lower() in {"1", "true"}  # as Ray reads it
    return in_environment or options.get("_credentials") is not None


def _check_unused(options: Mapping[str, Any]) -> None:
    """See that nobody waits for what Ray, which is there already, was not told.

    Raises:
        OptionError: Another cluster is wanted.
    """
    address, used = options.get("address") or "", cluster_address()
    if (options, used) in _connections:
        return
    if not same_cluster(address, used) and not address.startswith("ray://"):
        message = (
            f"ray_init_args ask for the cluster at {address!r}, but Ray is initialised already, "
            f"with the one at {used!r}: leave the address out to use that one, or call ray.shutdown() before run()"
        )
        raise OptionError(message)
    unused = sorted(name for name in options if not _has_effect(name, options[name], used))
    if unused and not options.get("ignore_reinit_error"):
        message = (
            f"Ray is initialised already, so ray_init_args are not used: {', '.join(unused)}. "
            "Give them to ray.init where it is called, or call ray.shutdown() before run()"
        )
        warnings.warn(message, FunctionFuseWarning, stacklevel=5)  # where run() was called


def _has_effect(name: str, value: Any, cluster: str) -> bool:
    if name == "address":
        return value != "local" and same_cluster(value or "", cluster)
    return name == "ignore_reinit_error" or value is None


def _advice(address: str, error: Exception) -> str:
    where = f"the Ray cluster at {address!r}" if address else "Ray"
    return (
        f"{where} could not be used: {error}\n"
        "A cluster that asks for a token wants RAY_AUTH_MODE=token and either RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH "
        "in the environment before Ray is imported; "
        "its Ray and Python versions must be those of this process"
    )


def unsatisfied_request(options: Mapping[str, Any], *, actor: bool) -> str | None:
    """What a request asks for, if there is no node that has all of it; None if there is one.

    Ray itself waits for ever for such a node.
    """
    strategy = options.get("scheduling_strategy")
    if strategy not in {None, "DEFAULT", "SPREAD"} or options.get("fallback_strategy"):
        return None  # a placement group or a node by name: Ray says itself if there is none
    request, labels = _request(options, actor=actor), options.get("label_selector") or {}
    nodes = [node for node in ray.nodes() if node["Alive"]]
    for node in nodes:
        if _covers(node["Resources"], request) and _matches(node.get("Labels", {}), labels):
            return None
    wanted = _format_resources(request, request) + (f" with labels {labels}" if labels else "")
    have = "; ".join(_format_resources(node["Resources"], request) for node in nodes)
    return f"{wanted}, and no node of the cluster has all of it (they have: {have})"


def _request(options: Mapping[str, Any], *, actor: bool) -> dict[str, float]:
    cpus = options.get("num_cpus")
    # an actor that asks for nothing is placed where there is one
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


#: What every node has, and hardly anybody asks for.
_EVERYWHERE: Final = ("node:", "memory", "object_store_memory")


def _format_resources(resources: Mapping[str, float], asked: Collection[str] = ()) -> str:
    shown = [
        f"{name}: {resources[name]:g}"
        for name in sorted(resources)
        if name in asked or not name.startswith(_EVERYWHERE)
    ]
    return ", ".join(shown) or "nothing"

"""Cluster connection: connect to Ray or start it when a run begins, and check that the connection lasts."""

from __future__ import annotations

import inspect
import os
import threading
import warnings
from collections.abc import Mapping
from typing import Any, Final

import ray
from ray.exceptions import AuthenticationError

from functionfuse._common.stdio import open_closed_streams
from functionfuse._common.validation import validate_names
from functionfuse._context.hash_seed import hash_seed_set
from functionfuse.backends.builtin.rayback._compat import cluster_address, current_connection
from functionfuse.backends.builtin.rayback.addresses import check_ray_answers, same_cluster
from functionfuse.errors import EngineError, FunctionFuseWarning, OptionError

__all__ = ["Session", "check_init_args", "connect"]

_INIT: Final = frozenset(inspect.signature(ray.init).parameters) - {"kwargs"}
_starting: Final = threading.Lock()  # workflows may run in several threads
#: The arguments of `ray.init` in this process, with the address of the cluster.
_connections: Final = list[tuple[Mapping[str, Any], str]]()


def check_init_args(options: Mapping[str, Any]) -> None:
    """Check the names of options of `ray.init`; experimental ones, which start with an underscore, are left to Ray.

    Raises:
        OptionError: The installed Ray does not have an option.
    """
    validate_names(
        [name for name in options if not name.startswith("_")], _INIT, "option of ray.init"
    )


def connect(options: Mapping[str, Any]) -> None:
    """Connect this process to a Ray cluster, or start one, unless it is connected already.

    The connection lasts until the process ends: a start takes ten seconds, and the next run may use results of this one.
    A cluster that `ray.init` started ends with this process; one that it connected to continues.

    Raises:
        EngineError: No cluster answers at the address, or it refuses the connection.
        OptionError: The address is that of another cluster than this process is connected to.
    """
    with _starting:
        if ray.is_initialized():
            _check_unused(options)
            return
        address = options.get("address") or os.environ.get("RAY_ADDRESS") or ""
        check_ray_answers(address, encrypted=_uses_tls(options))
        open_closed_streams()  # before sockets get their descriptors
        try:
            with hash_seed_set():  # inherited by the workers of a cluster that is started here
                ray.init(**options)
        except (AuthenticationError, RuntimeError, OSError, ValueError) as error:
            raise EngineError(_advice(address, error)) from error
        _connections.append((options, cluster_address()))


def _uses_tls(options: Mapping[str, Any]) -> bool:
    in_environment = os.environ.get("RAY_USE_TLS", "").lower() in {"1", "true"}  # as Ray reads it
    return in_environment or options.get("_credentials") is not None


def _check_unused(options: Mapping[str, Any]) -> None:
    """Warn about options without an effect, since Ray is initialised already.

    Raises:
        OptionError: The address is that of another cluster.
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
            "Pass them to ray.init where it is called, or call ray.shutdown() before run()"
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
        "A cluster with token authentication requires RAY_AUTH_MODE=token and either RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH "
        "in the environment before Ray is imported; "
        "its Ray and Python versions must be those of this process"
    )


class Session:
    """The connection of this process to a cluster at the start of a run."""

    def __init__(self) -> None:  # noqa: D107
        self._connection = current_connection()

    @property
    def is_over(self) -> bool:
        """Whether Ray was shut down after the start of the run, also if it was initialised again."""
        return not ray.is_initialized() or current_connection() is not self._connection

    def check(self) -> None:
        """Check that the connection lasts, before a call of Ray, which would start another cluster.

        Raises:
            EngineError: Ray was shut down.
        """
        if self.is_over:
            message = (
                "ray.shutdown() was called during the run, and values that were not stored are lost: "
                "call it after run(), in observers and other threads too"
            )
            raise EngineError(message)

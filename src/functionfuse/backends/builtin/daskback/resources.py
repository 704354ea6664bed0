"""Options of Dask tasks: validate them, and check that a worker satisfies them, since Dask would wait without end."""

from __future__ import annotations

import inspect
from collections import defaultdict
from numbers import Real
from typing import TYPE_CHECKING, Any, Final

from dask.utils import parse_timedelta
from distributed import Client

from functionfuse._common.validation import validate_names
from functionfuse.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["check_options", "explain_unschedulable"]

#: Parameters that the engine sets, or that have no meaning for nodes.
_NOT_FOR_NODES: Final = frozenset(
    {"self", "func", "args", "kwargs", "key", "pure", "actor", "actors"}
)
_OPTIONS: Final = frozenset(inspect.signature(Client.submit).parameters) - _NOT_FOR_NODES


def check_options(options: Mapping[str, Any]) -> None:
    """Check options of a node.

    Raises:
        OptionError: `Client.submit` does not have an option, or its value is invalid.
    """
    validate_names(options, _OPTIONS, "option of Client.submit that a node can be given")
    for name, value in options.items():
        valid, what = _VALID.get(name, (_accepts_any, ""))
        if not valid(value):
            message = f"{name} is {what}, not {value!r}"
            raise OptionError(message)
    if options.get("allow_other_workers") and not options.get("workers"):
        message = "allow_other_workers says nothing without workers: name those to be preferred"
        raise OptionError(message)


def _accepts_any(_: Any) -> bool:
    return True


def _is_amounts(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and _is_number(amount) and amount > 0
        for name, amount in value.items()
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_names(value: Any) -> bool:
    names = value if isinstance(value, (list, tuple, set)) else [value]
    return bool(names) and all(isinstance(name, str) or _is_number(name) for name in names)


def _is_duration(value: Any) -> bool:
    try:
        parse_timedelta(value)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return True


_VALID: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "resources": (_is_amounts, "a dict of amounts above 0, like {'GPU': 1}"),
    "retries": (_is_count, "a number of times, 0 or more"),
    "priority": (_is_number, "a number"),
    "workers": (_is_names, "the address or name of a worker, or a list of them"),
    "allow_other_workers": (lambda value: isinstance(value, bool), "True or False"),
    "fifo_timeout": (_is_duration, "a duration, like '100 ms'"),
}


def explain_unschedulable(
    options: Mapping[str, Any], workers: Mapping[str, Mapping[str, Any]]
) -> str:
    """Why no worker can take a node; empty if one can.

    Args:
        options: The options of the node.
        workers: The scheduler's information on each worker, by address.
    """
    allowed = dict(workers)
    if options.get("workers") and not options.get("allow_other_workers"):
        wanted = _as_names(options["workers"])
        allowed = {
            address: info for address, info in workers.items() if wanted & _names(address, info)
        }
        if not allowed:
            return (
                f"may only run on {_format_names(wanted)}, and the cluster has {_format_names(workers)}: "
                "name some of these, or set allow_other_workers"
            )
    resources = options.get("resources") or {}
    if any(_has(info, resources) for info in allowed.values()):
        return ""
    return (
        f"needs a worker with resources {resources}, and {_most(allowed.values())}: start workers "
        "with these resources (`dask worker --resources 'GPU=1'`, LocalCluster(resources={'GPU': 1}))"
    )


def _has(info: Mapping[str, Any], resources: Mapping[str, float]) -> bool:
    there = info.get("resources") or {}
    return all(there.get(name, 0) >= amount for name, amount in resources.items())


def _as_names(value: Any) -> set[str]:
    return set(map(str, value if isinstance(value, (list, tuple, set)) else [value]))


def _names(address: str, info: Mapping[str, Any]) -> set[str]:
    """All names of a worker: address, host and its own name."""
    return {address, address.partition("://")[2], str(info.get("name")), str(info.get("host"))}


def _format_names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _most(workers: Iterable[Mapping[str, Any]]) -> str:
    """The largest amount of each resource on a single worker, as a text."""
    most: defaultdict[str, float] = defaultdict(float)
    for info in workers:
        for name, amount in (info.get("resources") or {}).items():
            most[name] = max(most[name], amount)
    return f"no worker has more than {dict(most)}" if most else "no worker has any resources"

"""Options of Ray tasks and actors: validate them as the installed Ray does."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.validation import validate_names
from functionfuse.backends.builtin.rayback._compat import option_names, validate_options
from functionfuse.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["check_actor", "check_task"]

_ORDER: Final = "the calls on an instance run one after the other"
_LOSES_STATE: Final = "a new actor would lack the changes that earlier calls made to the instance"
_ONE_RUN: Final = "the actor belongs to one run, and ends with it"
_RETURNS: Final = "FunctionFuse decides how results are sent"
#: Options of Ray that users cannot set, with the reason.
_RESERVED: Final = {
    "num_returns": _RETURNS,
    "_generator_backpressure_num_objects": _RETURNS,
    "_num_objects_per_yield": _RETURNS,
    "_actor_generator_backpressure_num_objects": _RETURNS,
    "enable_tensor_transport": _RETURNS,
    "max_calls": "Ray takes it where a remote function is defined, and all nodes share one",
    "max_concurrency": _ORDER,
    "concurrency_groups": _ORDER,
    "allow_out_of_order_execution": _ORDER,
    "max_restarts": _LOSES_STATE,
    "max_task_retries": _LOSES_STATE,
    "get_if_exists": _ONE_RUN,
    "lifetime": _ONE_RUN,
    "max_pending_calls": "run(max_pending_tasks=...) limits what is in flight, and waits instead of failing",
}


def check_task(options: Mapping[str, Any]) -> None:
    """Check options of a Ray task.

    Raises:
        OptionError: The installed Ray does not have an option, or refuses its value.
    """
    _check_reserved(options)
    _validate("task", options, "option of a Ray task")


def check_actor(options: Mapping[str, Any], name: str) -> None:
    """Check options of a Ray actor.

    Args:
        options: The options of a node.
        name: The name of the node: an instance or a method call.

    Raises:
        OptionError: The installed Ray does not have an option, or refuses its value.
    """
    _check_reserved(options)
    what = f"option of a Ray actor, and node {name!r} runs in one (not with RayWorkflow(..., actors=False))"
    _validate("actor", options, what)


def _check_reserved(options: Mapping[str, Any]) -> None:
    for name in options:
        if name in _RESERVED:
            message = f"{name!r} cannot be set on a node: {_RESERVED[name]}"
            raise OptionError(message)


@cache
def _allowed(kind: str) -> Collection[str] | None:
    names = option_names(kind)
    return None if names is None else frozenset(names) - _RESERVED.keys()


def _validate(kind: str, options: Mapping[str, Any], what: str) -> None:
    if (allowed := _allowed(kind)) is not None:
        validate_names(options, allowed, what)
    try:
        validate_options(kind, options)
    except (TypeError, ValueError, AttributeError) as error:
        message = f"Ray refuses these remote args: {error}"
        raise OptionError(message) from error

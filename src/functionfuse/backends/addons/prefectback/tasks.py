"""Task templates: makes a Prefect task for each node."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any, Final, cast

from prefect.cache_policies import NO_CACHE
from prefect.tasks import Task

from functionfuse.backends.addons.prefectback._compat import ResultRecord, drop_function_attributes
from functionfuse.backends.addons.prefectback.node_function import NodeFunction
from functionfuse.backends.addons.prefectback.task_groups import task_group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prefect.client.schemas.objects import State

    from functionfuse._kernel.units import Unit

__all__ = ["CACHING", "TaskTemplates"]

#: The options of a task or flow with which Prefect persists results.
CACHING: Final = frozenset(
    {
        "cache_expiration",
        "cache_key_fn",
        "cache_policy",
        "persist_result",
        "refresh_cache",
        "result_serializer",
        "result_storage",
        "result_storage_key",
    }
)


class _Hook:
    """A completion hook; the data of its state is the result of the user's function, as with a plain task."""

    def __init__(self, hook: Callable[..., Any]) -> None:
        functools.update_wrapper(self, hook)
        self._hook = hook

    def __call__(self, task: Task[..., Any], task_run: Any, state: State[Any]) -> Any:
        record, user_result = state.data, cast("NodeFunction", task.fn).user_result
        if isinstance(record, ResultRecord):
            data = record.model_copy(update={"result": user_result(record.result)})
        else:
            data = user_result(record)
        return self._hook(task, task_run, state.model_copy(update={"data": data}))


class TaskTemplates:
    """Creates one task for each function and set of options, and copies it for each node: a new task costs 1 ms."""

    def __init__(self, *, caching: bool) -> None:
        """Start without templates.

        Args:
            caching: Prefect persists results, by the options of the flow or by the settings.
        """
        self._caching = caching
        self._templates: dict[tuple[int, int], tuple[Task[..., Any], Any]] = {}

    def task_of(self, unit: Unit, options: Mapping[str, Any]) -> Task[..., Any]:
        """The task of one node."""
        template = self._template(task_group if unit.subunits else unit.node.func, options)
        name = unit.node.name
        new = copy.copy(template)
        new.fn = cast("NodeFunction", template.fn).for_unit(unit)
        new.name = options.get("name") or name
        # a template, in which parameters are in braces
        new.task_run_name = options.get("task_run_name") or name.replace("{", "{{").replace(
            "}", "}}"
        )
        return new

    def _template(self, func: Callable[..., Any], options: Mapping[str, Any]) -> Task[..., Any]:
        key = id(func), id(options)
        if key not in self._templates:
            chosen = {"cache_result_in_memory": False, **options}
            persisted = self._caching or not CACHING.isdisjoint(options)
            if not persisted:
                chosen["cache_policy"] = NO_CACHE  # otherwise Prefect hashes all arguments
            if chosen.get("on_completion"):
                chosen["on_completion"] = [*map(_Hook, chosen["on_completion"])]
            if func is task_group:  # Prefect could not load its nodes' results one by one
                chosen["persist_result"] = False
            # the default of `@task`: as in the flow
            made = Task(NodeFunction(func, persisted=persisted), **{"log_prints": None, **chosen})
            drop_function_attributes(made)
            # with references to both, so that no other object gets their ids
            self._templates[key] = made, (func, options)
        return self._templates[key][0]

"""A node's function as Prefect sees it: the user's own, in name, signature, code and arguments."""

from __future__ import annotations

import copy
import functools
import inspect
from typing import TYPE_CHECKING, Any, Final, cast

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.results import ResultRecord  # type: ignore[attr-defined]
from prefect.states import Completed, Crashed
from prefect.task_engine import BaseTaskRunEngine
from prefect.tasks import Task
from prefect.transactions import get_transaction
from prefect.utilities.annotations import opaque, quote
from prefect.utilities.callables import get_call_parameters

from functionfuse.backends.addons.prefectback.awkward import Awkward, is_awkward
from functionfuse.backends.addons.prefectback.together import run_parts, together
from functionfuse.binding import copied
from functionfuse.graph import Ref
from functionfuse.kernel import call
from functionfuse.nodes import Container, Kind
from functionfuse.signature import base_name
from functionfuse.travel import described, make_sendable, this_process
from functionfuse.units import Stateful

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import CodeType

    from functionfuse.units import Outcome, Unit

__all__ = ["CACHING", "Box", "NodeFunction", "TaskTemplates", "arguments_of", "literal"]

#: The options of a task or flow that ask Prefect to keep results.
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
_BLANK: Final[Mapping[Any, Any]] = {
    inspect.Parameter.VAR_POSITIONAL: (),
    inspect.Parameter.VAR_KEYWORD: {},
}
_RESERVED: Final = frozenset({"wait_for", "return_state"})  # Task refuses functions that have these


class NodeFunction:
    """The function of a task: runs a unit, and looks like the function that the user wrote.

    Prefect computes cache keys from `__code__` and the source, and binds arguments by `__signature__`.
    A task copies the `__dict__` of its function, so what a run needs is kept in slots.
    """

    __slots__ = ("__dict__", "_failure", "_home", "_kept", "_unit", "_where")

    def __init__(self, func: Callable[..., Any], *, kept: bool) -> None:
        """Look like a function.

        Args:
            func: The user's.
            kept: Prefect keeps results, so they must be just what the user's function returned.
        """
        functools.update_wrapper(self, func, updated=())
        self.__name__ = base_name(func).rpartition(".")[2]
        self.__signature__ = _signature(func)
        self._unit: Unit | None = None
        self._failure: BaseException | None = None
        self._kept = kept
        self._home = this_process()
        self._where: tuple[Any, Any] = None, None  # the context and the transaction of the task run

    def of(self, unit: Unit) -> NodeFunction:
        """The function of one node."""
        new = copy.copy(self)
        new._unit = unit
        return new

    def fail_with(self, error: BaseException) -> dict[str, Any]:
        """Raise this instead, since the arguments could not be made; gives some that can be bound."""
        self._failure = error
        parameters = self.__signature__.parameters.values()
        return {parameter.name: _BLANK.get(parameter.kind) for parameter in parameters}

    def returned(self, result: Any) -> Any:
        """What the user's function returned, out of what this one did."""
        value = result[0][0].value if isinstance(result, Box) else result
        if isinstance(value, Stateful):
            assert self._unit is not None
            return value.state if self._unit.step.kind is Kind.CONSTRUCT else value.value
        return value

    def forget(self) -> None:
        """Let the arguments go: what Prefect has yet to tell the server would hold them until it is told."""
        for parameters in _held_by(*self._where):
            parameters.clear()
        self._where = None, None

    @property
    def __code__(self) -> CodeType:
        wrapped = self.__dict__["__wrapped__"]
        function: Any = wrapped.__init__ if isinstance(wrapped, type) else wrapped  # type: ignore[misc]
        code: CodeType = function.__code__
        return code

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        away = self._home != this_process()
        try:
            return self._run(args, kwargs)
        except Exception as error:
            if not (is_awkward(error) or (away and not make_sendable(error))):
                raise
            stand_in = Awkward(error)
        except BaseException as error:
            if not away or type(error).__module__.startswith("prefect."):  # Prefect's own: a pause
                raise
            # workers of Dask and Ray end with a node that raises it
            message = f"Execution was ended by {described(error)}"
            return Crashed(message=message, data=Awkward(error))
        raise stand_in  # not while the other is handled: as its context, that would come along

    def _run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if not self._kept:  # a cache key function of the user's may keep the arguments
            self._where = TaskRunContext.get(), get_transaction()
        if self._failure is not None:
            raise self._failure
        unit = self._unit
        assert unit is not None
        if unit.parts:
            return Box([run_parts(unit, args[0])])
        if unit.step.kind is Kind.METHOD and not unit.load:  # Prefect may call it again
            args = (copied(args[0]), *args[1:])
        outcome = call(unit, args, kwargs)
        stored = outcome.record.status == "loaded"
        result = outcome.value if self._kept or isinstance(outcome.value, State) else Box([outcome])
        return Completed(name="Stored", data=result) if stored else result

    def __getstate__(self) -> tuple[Any, ...]:
        return self.__dict__, self._unit, self._failure, self._kept, self._home

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        attributes, self._unit, self._failure, self._kept, self._home = state
        self._where = None, None
        self.__dict__.update(attributes)


def _signature(func: Callable[..., Any]) -> inspect.Signature:
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):  # a C function
        signature = None
    if signature is None or _RESERVED & set(signature.parameters):
        return inspect.signature(lambda *args, **kwargs: (args, kwargs))
    return signature


def arguments_of(function: NodeFunction, unit: Unit) -> dict[str, Any]:
    """The arguments of a unit by the names of the function's parameters, with references in place."""
    step = unit.step
    if unit.parts:
        outcomes = [Ref(step.name, number, slot="outcome") for number in step.parents]
        return {"inputs": Container(list, tuple(outcomes))}
    instance = () if step.state is None else (step.state,)
    arguments = get_call_parameters(function, (*instance, *step.args), dict(step.kwargs))
    for name, parameter in function.__signature__.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            arguments[name] = Container(tuple, arguments[name])
        elif parameter.kind is parameter.VAR_KEYWORD:
            keys = tuple(arguments[name])
            arguments[name] = Container(_Keyed(keys), tuple(arguments[name].values()))
    return arguments


class _Keyed:
    """Makes a dict of values."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = keys

    def __call__(self, values: Iterable[Any]) -> dict[str, Any]:
        return dict(zip(self._keys, values, strict=True))


def _held_by(context: Any, transaction: Any) -> Iterator[dict[str, Any]]:
    """The arguments of a task run, wherever Prefect has them: hooks of its transaction know all of its engine."""
    holders = [context, *(_owner(hook) for hook in getattr(transaction, "on_rollback_hooks", ()))]
    for holder in holders:
        parameters = getattr(holder, "parameters", None)
        if isinstance(holder, (TaskRunContext, BaseTaskRunEngine)) and isinstance(parameters, dict):
            yield parameters


def _owner(hook: Any) -> Any:
    return getattr(getattr(hook, "func", hook), "__self__", None)


class _Hook:
    """A hook on completion: finds in the state what the user's function returned, as by hand."""

    def __init__(self, hook: Callable[..., Any]) -> None:
        functools.update_wrapper(self, hook)
        self._hook = hook

    def __call__(self, task: Task[..., Any], task_run: Any, state: State[Any]) -> Any:
        record, returned = state.data, cast("NodeFunction", task.fn).returned
        if isinstance(record, ResultRecord):
            data = record.model_copy(update={"result": returned(record.result)})
        else:
            data = returned(record)
        return self._hook(task, task_run, state.model_copy(update={"data": data}))


class TaskTemplates:
    """One task for each function and set of options, copied for each node: a new one costs a millisecond."""

    def __init__(self, *, caching: bool) -> None:
        """Start with none.

        Args:
            caching: The flow or the settings ask Prefect to keep results.
        """
        self._caching = caching
        self._templates: dict[tuple[int, int], tuple[Task[..., Any], Any]] = {}

    def task_of(self, unit: Unit, options: Mapping[str, Any]) -> Task[..., Any]:
        """The task of one node."""
        template = self._template(together if unit.parts else unit.step.func, options)
        name = unit.step.name
        new = copy.copy(template)
        new.fn = cast("NodeFunction", template.fn).of(unit)
        new.name = options.get("name") or name
        # a template, in which braces stand for parameters
        new.task_run_name = options.get("task_run_name") or name.replace("{", "{{").replace(
            "}", "}}"
        )
        return new

    def _template(self, func: Callable[..., Any], options: Mapping[str, Any]) -> Task[..., Any]:
        key = id(func), id(options)
        if key not in self._templates:
            chosen = {"cache_result_in_memory": False, **options}
            kept = self._caching or not CACHING.isdisjoint(options)
            if not kept:
                chosen["cache_policy"] = NO_CACHE  # else every argument is hashed, for nothing
            if chosen.get("on_completion"):
                chosen["on_completion"] = [*map(_Hook, chosen["on_completion"])]
            if func is together:  # several results, of which Prefect could keep none
                chosen["persist_result"] = False
            # a `@task` is one with the flow's log_prints
            made = Task(NodeFunction(func, kept=kept), **{"log_prints": None, **chosen})
            self._templates[key] = made, (func, options)  # both stay, so their ids do
        return self._templates[key][0]


class _Literal(quote):  # type: ignore[misc]
    """An argument that Prefect hands on without looking into it.

    A look costs seconds for a list of a million numbers, and finds dependencies that are none:
    Prefect takes an object for the result of the task that returned the identical one.
    It can be emptied, since Prefect keeps it: in the contexts of all that the server has not been told yet.
    """

    __slots__ = ()

    def unwrap(self) -> Any:
        return self[0][0]

    def rewrap(self, value: Any) -> _Literal:
        return _Literal([value])

    def empty(self) -> None:
        """Let the argument go."""
        self[0].clear()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Literal, (self[0],)  # Prefect's own annotations come back wrapped once more


class Box(opaque):  # type: ignore[misc]
    """An outcome that Prefect hands on without looking into it.

    It can be taken out, since Prefect keeps the box: in the contexts of all that the server has not been told yet.
    """

    __slots__ = ()

    def take(self) -> Outcome:
        """The outcome, which is not in the box any more."""
        outcome: Outcome = self[0].pop()
        return outcome

    def __reduce__(self) -> tuple[Any, ...]:
        return Box, (self[0],)


def literal(value: Any, depth: int) -> Any:
    """Wrap an argument.

    Args:
        value: The argument.
        depth: How often Prefect unwraps it on its way to the function.
    """
    for _ in range(depth):
        value = _Literal([value])
    return value

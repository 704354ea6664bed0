"""Function of a Prefect task: runs a unit, with name, signature, code and arguments of the user's function."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.states import Completed, Crashed
from prefect.task_engine import BaseTaskRunEngine
from prefect.transactions import get_transaction
from prefect.utilities.callables import get_call_parameters

from functionfuse._common.process_identity import this_process
from functionfuse._common.terminal_signals import leave_terminal_signals
from functionfuse._context.forwarding import MESSAGES
from functionfuse._execution.delivery import MessageDelivery
from functionfuse._graph.graph import ItemRef
from functionfuse._graph.nodes import Container, Kind
from functionfuse._graph.signature import base_name
from functionfuse._kernel.binding import copy_instance
from functionfuse._kernel.kernel import call
from functionfuse._kernel.units import InstanceResult, Outcome
from functionfuse._transport.exceptions import describe_exception, unpickle_error
from functionfuse._transport.pickled_value import PickledValue, pickle_value
from functionfuse.backends.addons.prefectback.envelopes import OpaqueResult
from functionfuse.backends.addons.prefectback.exceptions import ExceptionEnvelope, needs_envelope
from functionfuse.backends.addons.prefectback.parameters import build_generators
from functionfuse.backends.addons.prefectback.task_groups import run_group

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from types import CodeType

    from functionfuse._context.caller_context import CallerContext
    from functionfuse._kernel.units import Unit

__all__ = ["NodeFunction", "arguments_of"]

_BLANK: Final[Mapping[Any, Any]] = {
    inspect.Parameter.VAR_POSITIONAL: (),
    inspect.Parameter.VAR_KEYWORD: {},
}
_RESERVED: Final = frozenset({"wait_for", "return_state"})  # Task refuses functions that have these


class NodeFunction:
    """The function of a task: runs a unit, and has the name, signature and code of the user's function.

    Prefect computes cache keys from `__code__` and the source, and binds arguments by `__signature__`.
    A task copies the `__dict__` of its function, so data of the run are in slots.
    In another process it is unpickled when an attribute is read.
    """

    __slots__ = (
        "__dict__",
        "_contexts",
        "_coordinator",
        "_failure",
        "_given",
        "_is_pickled",
        "_messages",
        "_persisted",
        "_pickled",
        "_unit",
    )
    __wrapped__: Any

    def __init__(self, func: Callable[..., Any], *, persisted: bool) -> None:
        """Wrap a function.

        Args:
            func: The user's function.
            persisted: Prefect persists results, so a result must be the value alone, without its record.
        """
        functools.update_wrapper(self, func, updated=())
        self.__name__ = base_name(func).rpartition(".")[2]
        self.__signature__ = _signature(func)
        self._pickled: _PickledFunction | None = None
        self._is_pickled = False
        self._unit: Unit | None = None
        # in another process: names of parameters with an argument of the user's, without defaults
        self._given: frozenset[str] | None = None
        self._failure: BaseException | None = None
        self._persisted = persisted
        self._messages: Sequence[bytes] = ()  # of earlier attempts
        self._coordinator = this_process()
        # the context and the transaction of the task run
        self._contexts: tuple[Any, Any] = None, None

    def for_unit(self, unit: Unit) -> NodeFunction:
        """A copy of this function for one unit."""
        new = NodeFunction.__new__(NodeFunction)
        new._pickled, new._is_pickled = None, False  # noqa: SLF001 - of this class
        new._restore((self.__dict__, unit, self._failure, self._persisted, self._coordinator, None))  # noqa: SLF001 - of this class
        if _collides(self.__signature__, unit.node.kwargs):
            new.__signature__ = _generic_signature(unit.node.kwargs)
        return new

    def fail_with(self, error: BaseException) -> dict[str, Any]:
        """Raise an error when called, since the arguments cannot be resolved; returns arguments that can be bound."""
        self._failure = error
        parameters = self.__signature__.parameters.values()
        return {parameter.name: _BLANK.get(parameter.kind) for parameter in parameters}

    def user_result(self, result: Any) -> Any:
        """The result of the user's function, from the result of this one."""
        value = result[0][0].value if isinstance(result, OpaqueResult) else result
        if isinstance(value, InstanceResult):
            assert self._unit is not None
            return value.state if self._unit.node.kind is Kind.CONSTRUCT else value.value
        return value

    def release_arguments(self) -> None:
        """Release the arguments, which Prefect's queued events would hold until they are sent to the server."""
        for parameters in _parameter_dicts(*self._contexts):
            parameters.clear()
        self._contexts = None, None

    @property
    def __code__(self) -> CodeType:
        wrapped = self.__wrapped__
        function: Any = wrapped.__init__ if isinstance(wrapped, type) else wrapped  # type: ignore[misc]
        code: CodeType = function.__code__
        return code

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        in_other_process = self._coordinator != this_process()
        if in_other_process:  # a worker of a process pool
            leave_terminal_signals()
        try:
            return self._run(args, kwargs)
        except Exception as error:
            if not needs_envelope(error, in_other_process=in_other_process):
                raise
            envelope = ExceptionEnvelope(error)
        except BaseException as error:
            is_pause = type(error).__module__.startswith("prefect.")
            if is_pause or not in_other_process:
                raise
            # workers of Dask and Ray end with a node that raises it
            message = f"Execution was ended by {describe_exception(error)}"
            return Crashed(message=message, data=ExceptionEnvelope(error))
        raise envelope  # outside of the except block, or the original would be sent as its context

    def _run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if not self._persisted:  # otherwise a cache key function may use the arguments later
            self._contexts = TaskRunContext.get(), get_transaction()
        if self._failure is not None:
            raise self._failure
        unit = self._unit
        assert unit is not None
        if unit.subunits:
            return OpaqueResult([run_group(unit, args[0])])
        if self._given is not None:
            args, kwargs = self._without_defaults(args, kwargs)
        args, kwargs = build_generators(args, kwargs)
        if unit.node.kind is Kind.METHOD and not unit.load:  # Prefect may call it again
            args = (copy_instance(args[0]), *args[1:])
        outcome = self._call(unit, args, kwargs)
        if self._persisted:  # Prefect keeps the value alone
            MessageDelivery().of_record(outcome.record)
        stored = outcome.record.status == "loaded"
        result = (
            outcome.value
            if self._persisted or isinstance(outcome.value, State)
            else OpaqueResult([outcome])
        )
        return Completed(name="Stored", data=result) if stored else result

    def _call(self, unit: Unit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Outcome:
        """Load or compute; the record of the last attempt has the log messages of all."""
        try:
            value, record = call(unit, args, kwargs)
        except BaseException as error:
            messages = error.__dict__.get(MESSAGES)
            if messages:
                self._messages = error.__dict__[MESSAGES] = [*self._messages, *messages]
            raise
        if self._messages:
            record = record._replace(messages=(*self._messages, *record.messages))
        return Outcome(value, record)

    # ---- in another process ----

    def _without_defaults(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The user's arguments: Prefect adds copies of defaults, which functions may compare by identity."""
        assert self._given is not None
        bound = self.__signature__.bind(*args, **kwargs)
        for name in bound.arguments.keys() - self._given:
            del bound.arguments[name]
        return bound.args, bound.kwargs

    def __reduce__(self) -> tuple[Any, ...]:
        if self._pickled is not None:
            return _restore, self._pickled
        unit, given, name = self._unit, self._given, self.__name__
        if unit is not None:
            name = unit.node.name
            if given is None and not (unit.subunits or unit.load or self._failure):
                bound = self.__signature__.bind(*_arguments(unit), **unit.node.kwargs)
                given = frozenset(bound.arguments)
                # Prefect passes the arguments separately
                unit = unit._replace(node=unit.node._replace(args=(), kwargs={}))
        state = self.__dict__, unit, self._failure, self._persisted, self._coordinator, given
        return _restore, _PickledFunction(
            pickle_value(state),
            name,
            tuple(self.__signature__.parameters),
            None if unit is None else unit.context,
        )

    def __getattr__(self, name: str) -> Any:
        if name in {"_pickled", "_is_pickled"} or not self._is_pickled:
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=self)
        self._is_pickled = False
        self._open()
        return getattr(self, name)

    def _open(self) -> None:
        """Unpickle the state; if that fails, calling the function raises an error."""
        assert self._pickled is not None
        content, name, parameters, _ = self._pickled
        try:
            self._restore(content.open())
        except Exception as error:  # noqa: BLE001 - whatever the user's modules raise
            remedy = "the modules of its function must be installed there"
            failure = unpickle_error(f"node {name!r}", error, remedy)
            kind = inspect.Parameter.KEYWORD_ONLY
            signature = inspect.Signature([inspect.Parameter(each, kind) for each in parameters])
            attributes = {"__name__": name, "__signature__": signature}
            self._restore((attributes, None, failure, False, "", None))
        else:
            self._pickled = None

    def _restore(self, state: tuple[Any, ...]) -> None:
        attributes, self._unit, self._failure, self._persisted, self._coordinator, self._given = (
            state
        )
        self._contexts = None, None
        self._messages = ()
        self.__dict__.update(attributes)


class _PickledFunction(NamedTuple):
    """A pickled `NodeFunction`."""

    content: PickledValue
    name: str  # of its node
    parameters: tuple[str, ...]
    #: Unpickled before the content: it extends the path on which modules are found.
    context: CallerContext | None


def _restore(*fields: Any) -> NodeFunction:
    function = NodeFunction.__new__(NodeFunction)
    function._pickled, function._is_pickled = _PickledFunction(*fields), True  # noqa: SLF001 - of this class
    return function


def _signature(func: Callable[..., Any]) -> inspect.Signature:
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):  # a C function
        signature = None
    if signature is None or _RESERVED & set(signature.parameters):
        return _generic_signature(())
    return signature


def _generic_signature(keywords: Collection[str]) -> inspect.Signature:
    """A signature that takes everything; its parameters have other names than the keywords of a call."""
    kinds = {"args": inspect.Parameter.VAR_POSITIONAL, "kwargs": inspect.Parameter.VAR_KEYWORD}
    return inspect.Signature(
        [inspect.Parameter(_unused(name, keywords), kind) for name, kind in kinds.items()]
    )


def _unused(name: str, keywords: Collection[str]) -> str:
    return name if name not in keywords else _unused(f"{name}_", keywords)


def _collides(signature: inspect.Signature, keywords: Collection[str]) -> bool:
    """Tell whether a keyword for `**kwargs` is the name of `*args`, which Prefect's dict of parameters cannot represent."""
    return bool(keywords) and any(
        parameter.kind in _BLANK and parameter.name in keywords
        for parameter in signature.parameters.values()
    )


def arguments_of(function: NodeFunction, unit: Unit) -> dict[str, Any]:
    """The arguments of a unit by the names of the function's parameters, with references in place."""
    node = unit.node
    if unit.subunits:
        outcomes = [ItemRef(node.name, number, slot="outcome") for number in node.parents]
        return {"inputs": Container(list, tuple(outcomes))}
    arguments = get_call_parameters(function, _arguments(unit), dict(node.kwargs))
    for name, parameter in function.__signature__.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            arguments[name] = Container(tuple, arguments[name])
        elif parameter.kind is parameter.VAR_KEYWORD:
            keys = tuple(arguments[name])
            arguments[name] = Container(_Keyed(keys), tuple(arguments[name].values()))
    return arguments


def _arguments(unit: Unit) -> tuple[Any, ...]:
    node = unit.node
    return node.args if node.state is None else (node.state, *node.args)


class _Keyed:
    """Builds a dict from values."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = keys

    def __call__(self, values: Iterable[Any]) -> dict[str, Any]:
        return dict(zip(self._keys, values, strict=True))


def _parameter_dicts(context: Any, transaction: Any) -> Iterator[dict[str, Any]]:
    """The arguments of a task run, in all of Prefect's objects: hooks of the transaction refer to its engine."""
    holders = [context, *(_owner(hook) for hook in getattr(transaction, "on_rollback_hooks", ()))]
    for holder in holders:
        parameters = getattr(holder, "parameters", None)
        if isinstance(holder, (TaskRunContext, BaseTaskRunEngine)) and isinstance(parameters, dict):
            yield parameters


def _owner(hook: Any) -> Any:
    return getattr(getattr(hook, "func", hook), "__self__", None)

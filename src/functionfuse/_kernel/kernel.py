"""What running a node means, on every engine.

`execute` is the whole meaning: it binds inputs to arguments and makes the call.
Engines decide only where and when it runs, and how inputs get there.
"""

from __future__ import annotations

import inspect
import os
import platform
import time
from array import array
from collections import Counter
from itertools import chain
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Final, cast

from functionfuse._graph.graph import new
from functionfuse._graph.nodes import Kind, Node, Placeholder
from functionfuse._kernel.annotations import annotate
from functionfuse._kernel.binding import UNSHARED, bind
from functionfuse._kernel.damage import mark_damage
from functionfuse._kernel.units import Outcome, Record, Stateful, Timings, Together, Unit, Whole
from functionfuse.errors import CorruptResult, GraphError, ResultNotFound, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from functionfuse._graph.graph import Step
    from functionfuse._kernel.units import Status
    from functionfuse.storage.base import Results

__all__ = ["DAMAGED", "FAILED_PART", "call", "compute", "execute", "save"]

#: What reading a result raises when the result is as good as not stored.
DAMAGED: Final = (CorruptResult, ResultNotFound)


def execute(unit: Unit, inputs: Sequence[Any]) -> Outcome:
    """Run a step.

    Args:
        unit: The step.
        inputs: The outcomes' values of `unit.step.parents`, in that order.

    Raises:
        BaseException: What the user's function raised, with a note that names the node.
        StorageError: The result cannot be stored, or is not there any more.
    """
    if unit.parts:
        return (_execute_whole if type(unit.parts) is Whole else _execute_together)(unit, inputs)
    step = unit.step
    if unit.load:
        return call(unit, step.args, step.kwargs)
    try:
        values = dict(zip(step.parents, inputs, strict=True))
        args, kwargs = bind(step, values.__getitem__, sole=unit.sole)
    except BaseException as error:
        annotate(error, step, unit.workflow)
        mark_damage(error, unit.workflow)
        raise
    return call(unit, args, kwargs)


def _execute_together(unit: Unit, inputs: Sequence[Any]) -> Outcome:
    """Run the parts one after the other; a value that nobody needs any more is let go."""
    started, clock = time.time(), time.perf_counter()
    values = dict(zip(unit.step.parents, inputs, strict=True))
    records = _execute_parts(unit, values)
    kept = Together({number: values[number] for number in unit.keep})
    seconds = time.perf_counter() - clock
    return Outcome(
        kept, Record(unit.step.name, "computed", started, seconds, _worker, None, records)
    )


def _execute_parts(unit: Unit, values: dict[int, Any]) -> Sequence[Record]:
    uses = Counter(
        chain(unit.keep, chain.from_iterable([part.step.parents for part in unit.parts]))
    )
    records: list[Record] = []
    for part in unit.parts:
        step = part.step
        try:
            value, record = execute(part, [values[parent] for parent in step.parents])
        except BaseException as error:
            error.__dict__[FAILED_PART] = step.name, tuple(records)
            raise
        records.append(record)
        _keep(value, step, values, uses)
    return tuple(records)


def _keep(value: Any, step: Step, values: dict[int, Any], uses: Counter[int]) -> None:
    """Keep the value of a step that somebody needs, and let those go that only it needed."""
    if uses[step.number]:
        values[step.number] = value
    for parent in step.parents:
        uses[parent] -= 1
        if not uses[parent]:
            del values[parent]


def _execute_whole(unit: Unit, _: Sequence[Any]) -> Outcome:
    """Compute all nodes of a graph in the order of writing: there is nothing to do around the calls.

    Gives the values of the targets' nodes.
    """
    graph = cast("Whole", unit.parts).graph
    nodes, readers, replaced = graph.written.nodes, graph.written.readers, graph.replaced
    values: dict[Node[Any], Any] = {}
    take = _taking(values, graph.written.uses)
    started, clock, ends = time.time(), time.perf_counter, array("d")
    records = Timings(graph, started, ends, _worker)
    ended, began = ends.append, clock()
    try:
        for node in nodes:
            sole = node.state is not None and readers[node.state] == 1
            args, kwargs = bind(node, take, sole=sole)
            values[node] = compute(replaced.get(node, node), args, kwargs)
            ended(clock() - began)
    except BaseException as error:
        error.__dict__[FAILED_PART] = "", records  # how many there are says which node it was
        raise
    record = Record(unit.step.name, "computed", started, clock() - began, _worker, None, records)
    return Outcome(values, record)


def _taking(
    values: dict[Node[Any], Any], uses: Mapping[Node[Any], int]
) -> Callable[[Node[Any]], Any]:
    """Give the values of nodes, and let each go when it is taken for the last time."""
    left = dict(uses)

    def take(node: Node[Any]) -> Any:
        uses = left[node]
        if uses == 1:
            return values.pop(node)
        left[node] = uses - 1
        return values[node]

    return take


#: The attribute of an exception that says which part of a unit raised it, and what was done before.
FAILED_PART: Final = "__functionfuse_failed_part__"


# ---- the call ----


def call(unit: Unit, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Outcome:
    """Load or compute: look at the storage once more, set up, call, save, read back, take the time."""
    started, clock = time.time(), time.perf_counter()
    try:
        if unit.storage is None:
            value, status, nbytes = _compute(unit, args, kwargs), "computed", None
        else:
            value, status, nbytes = _load_or_compute(unit, unit.storage, args, kwargs, clock)
    except BaseException as error:
        annotate(error, unit.step, unit.workflow)
        mark_damage(error, unit.workflow)
        raise
    seconds = time.perf_counter() - clock
    record = new(Record, (unit.step.name, status, started, seconds, _worker, nbytes, ()))
    return new(Outcome, (value, record))


def _load_or_compute(
    unit: Unit,
    results: Results,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    clock: float,
) -> tuple[Any, Status, int | None]:
    step = unit.step
    if unit.load:
        return results.read(step.name), "loaded", None
    if step.kind is Kind.CONSTRUCT:  # an instance is not stored, it is made anew
        return _compute(unit, args, kwargs), "computed", None
    # since the plan was made: a retry, or another run
    stored = None if unit.recompute else _stored(results, step.name)
    if step.kind is Kind.METHOD:
        outcome = _compute(unit, args, kwargs)
        if stored:  # it ran for its instance alone
            return Stateful(outcome.state, stored[0]), "computed", None
        value, nbytes = _saved(unit, results, outcome.value, clock)
        return Stateful(outcome.state, value), "computed", nbytes
    if stored:
        return stored[0], "loaded", None
    value, nbytes = _saved(unit, results, _compute(unit, args, kwargs), clock)
    return value, "computed", nbytes


def _stored(results: Results, name: str) -> tuple[Any] | None:
    if not results.contains(name):
        return None
    try:
        return (results.read(name),)
    except DAMAGED:
        return None


def _compute(unit: Unit, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if unit.setup is not None:
        unit.setup()
    return compute(unit.step, args, kwargs)


def compute(step: Step | Node[Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Make the call of a step: the value of its outcome."""
    value = step.func(*args, **kwargs)
    kind = type(value)
    if kind not in UNSHARED:
        value = _settled(value, kind)
    if step.kind is Kind.FUNCTION:
        return value
    return Stateful(args[0], value) if step.kind is Kind.METHOD else Stateful(value, None)


def _settled(value: Any, kind: type) -> Any:
    """A result that can be stored, sent and read more than once."""
    if kind is GeneratorType:
        return list(value)
    if inspect.iscoroutine(value):
        value = _awaited(value)
        kind = type(value)
    if issubclass(kind, Placeholder):
        message = (
            f"the function returned {value!r}, which never runs: inside a node, "
            "call the plain function of a decorated one, `function.__wrapped__(...)`"
        )
        raise GraphError(message)
    return value


def _awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio  # a third of the time that a worker needs to start

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:  # a notebook: its loop is taken
        return thread.submit(asyncio.run, coroutine).result()


def _saved(unit: Unit, results: Results, value: Any, clock: float) -> tuple[Any, int | None]:
    """What children get once the value is stored, and its size."""
    nbytes = save(unit, value, time.perf_counter() - clock)
    return (results.read(unit.step.name) if results.always_read else value), nbytes


def save(unit: Unit, value: Any, seconds: float) -> int | None:
    """Store the result of a unit; returns its size, where the storage tells.

    Raises:
        StorageError: It cannot be stored.
    """
    step = unit.step
    about = {
        "function": step.function,
        "seconds": seconds,
        "seed": getattr(unit.setup, "seed", None),
        "engine": unit.engine,
        "fingerprint": None,
    }
    try:
        return None if unit.storage is None else unit.storage.save(step.name, value, about)
    except CorruptResult:  # what it was made of turned out to be damaged
        raise
    except Exception as error:
        message = (
            f"the result of node {step.name!r} cannot be stored: {error}. "
            f"Return something that can be pickled, register a serializer for its type, "
            f"or call log_nodes({step.name!r}) on the workflow so that it is not stored"
        )
        raise StorageError(message) from error


def _name_worker() -> None:
    global _worker  # noqa: PLW0603 - one for each process, also a forked one
    _worker = f"{platform.node()}:{os.getpid()}"


_worker: str
_name_worker()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_name_worker)

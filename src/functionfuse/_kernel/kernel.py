"""Kernel: `execute` loads or computes one unit, on every engine.

It binds inputs to arguments, checks the storage, sets up, calls and saves.
Engines only decide where and when a unit runs, and how its inputs get there.
"""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, cast

from functionfuse._context.run_in_context import run_in_context
from functionfuse._graph.graph import new_tuple
from functionfuse._graph.nodes import Kind
from functionfuse._graph.scopes import NodeScope
from functionfuse._kernel.annotations import add_node_note
from functionfuse._kernel.binding import UNSHARED_TYPES, bind
from functionfuse._kernel.damage import mark_damage
from functionfuse._kernel.results import (
    NodeInResultError,
    Role,
    complete,
    is_flat,
    make_reusable,
    refuse_lost_parts,
    role_of,
)
from functionfuse._kernel.seeding import NodeSeeding
from functionfuse._kernel.units import GroupResult, InstanceResult, Outcome, Record, Unit
from functionfuse.errors import CorruptResult, ResultNotFound, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functionfuse._graph.graph import GraphNode
    from functionfuse._graph.nodes import Node
    from functionfuse._kernel.units import Status
    from functionfuse.storage.base import Results

__all__ = [
    "DAMAGE_ERRORS",
    "FAILED_SUBUNIT",
    "call",
    "compute",
    "execute",
    "save",
    "stored_header",
    "worker_name",
]

_FUNCTION: Final = Kind.FUNCTION  # the attribute of an enum is slow, for each node
_CONSTRUCT: Final = Kind.CONSTRUCT
_METHOD: Final = Kind.METHOD
#: The size and the digest of a stored result.
_Saved = tuple[int | None, str | None]
_NOT_SAVED: Final[_Saved] = (None, None)
#: Exceptions of a storage that make a result count as not stored.
DAMAGE_ERRORS: Final = (CorruptResult, ResultNotFound)


def execute(unit: Unit, inputs: Sequence[Any]) -> Outcome:
    """Run a unit.

    Args:
        unit: A node, or a group of nodes.
        inputs: The values of the outcomes of `unit.node.parents`, in that order.

    Raises:
        BaseException: The exception of the user's function, with a note that names the node.
        StorageError: The result cannot be stored, or was deleted after the plan was made.
    """
    if unit.subunits:
        return _execute_group(unit, inputs)
    node = unit.node
    if unit.load:
        return call(unit, node.args, node.kwargs)
    try:
        values = dict(zip(node.parents, inputs, strict=True))
        args, kwargs = bind(node, values.__getitem__, exclusive_instance=unit.exclusive_instance)
    except BaseException as error:
        add_node_note(error, node, unit.workflow)
        mark_damage(error, unit.workflow)
        raise
    return call(unit, args, kwargs)


def _execute_group(unit: Unit, inputs: Sequence[Any]) -> Outcome:
    """Run the nodes of a group one after the other; release each value after its last use."""
    started, clock = time.time(), time.perf_counter()
    values = dict(zip(unit.node.parents, inputs, strict=True))
    records = _execute_subunits(unit, values)
    kept = GroupResult({number: values[number] for number in unit.outputs})
    seconds = time.perf_counter() - clock
    return Outcome(
        kept, Record(unit.node.name, "computed", started, seconds, _worker, None, records)
    )


def _execute_subunits(unit: Unit, values: dict[int, Any]) -> Sequence[Record]:
    uses = Counter(
        chain(unit.outputs, chain.from_iterable([part.node.parents for part in unit.subunits]))
    )
    records: list[Record] = []
    for part in unit.subunits:
        node = part.node
        try:
            value, record = execute(part, [values[parent] for parent in node.parents])
        except BaseException as error:
            error.__dict__[FAILED_SUBUNIT] = node.name, tuple(records)
            raise
        records.append(record)
        _retain(value, node, values, uses)
    return tuple(records)


def _retain(value: Any, node: GraphNode, values: dict[int, Any], uses: Counter[int]) -> None:
    """Keep the value of a node that has consumers, and release its parents after their last use."""
    if uses[node.number]:
        values[node.number] = value
    for parent in node.parents:
        uses[parent] -= 1
        if not uses[parent]:
            del values[parent]


#: The attribute of an exception that names the node of a group that raised it, with the earlier records.
FAILED_SUBUNIT: Final = "__functionfuse_failed_part__"


# ---- the call ----


def call(unit: Unit, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Outcome:
    """Load or compute a node in the context of the caller of `run()`."""
    if unit.context is None:
        return _call(unit, args, kwargs)
    names = unit.node.func, (*args, *kwargs.values())
    outcome, messages = run_in_context(unit.context, names, _call, unit, args, kwargs)
    if not messages:
        return cast("Outcome", outcome)
    return Outcome(outcome.value, outcome.record._replace(messages=messages))


def _call(unit: Unit, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Outcome:
    """Load or compute: check the storage again, set up, call, save, read back, measure the time."""
    started, clock = time.time(), time.perf_counter()
    try:
        if unit.storage is None:
            value, status, (nbytes, digest) = _compute(unit, args, kwargs), "computed", _NOT_SAVED
        else:
            value, status, (nbytes, digest) = _load_or_compute(
                unit, unit.storage, args, kwargs, clock
            )
    except BaseException as error:
        add_node_note(error, unit.node, unit.workflow)
        mark_damage(error, unit.workflow)
        raise
    seconds = time.perf_counter() - clock
    fields = (unit.node.name, status, started, seconds, _worker, nbytes, (), (), digest)
    record = new_tuple(Record, fields)
    return new_tuple(Outcome, (value, record))


def _load_or_compute(
    unit: Unit,
    results: Results,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    clock: float,
) -> tuple[Any, Status, _Saved]:
    if unit.load:
        return results.read(unit.node.name), "loaded", _NOT_SAVED
    if unit.node.kind is _CONSTRUCT:  # an instance is not stored: it is constructed again
        return _compute(unit, args, kwargs), "computed", _NOT_SAVED
    # stored since the plan was made, by a retry or by another run
    stored = None if unit.recompute else _read_stored(unit, results)
    if unit.node.kind is _METHOD:
        outcome = _compute(unit, args, kwargs)
        value, saved = _value_of_method(unit, results, stored, outcome.value, clock)
        return InstanceResult(outcome.state, value), "computed", saved
    if stored:
        value, digest = stored
        return value, "loaded", (None, digest)
    value, saved = _save_and_read_back(unit, results, _compute(unit, args, kwargs), clock)
    return value, "computed", saved


def _value_of_method(
    unit: Unit,
    results: Results,
    stored: tuple[Any, str | None] | None,
    value: Any,
    clock: float,
) -> tuple[Any, _Saved]:
    """The value for dependents of a method that has run, and what is stored."""
    if stored:  # it ran only for its instance
        return stored[0], (None, stored[1])
    if not unit.replace and _is_other_result(unit, results):
        return value, _NOT_SAVED
    return _save_and_read_back(unit, results, value, clock)


def _is_other_result(unit: Unit, results: Results) -> bool:
    """Tell whether another result is stored under the name of a node, which is not damaged as far as its header shows."""
    name = unit.node.name
    return stored_header(unit, results) is None and name in results.headers([name])


def _read_stored(unit: Unit, results: Results) -> tuple[Any, str | None] | None:
    """The stored value that a unit would compute, and its digest."""
    header = stored_header(unit, results)
    if header is None:
        return None
    try:
        return results.read(unit.node.name), header.get("value")
    except DAMAGE_ERRORS:
        return None


def stored_header(unit: Unit, results: Results) -> Mapping[str, Any] | None:
    """Return the header of the stored result that a unit would compute; None if another one or none is stored.

    Without a fingerprint, of the unit or the stored result, the name counts; without headers it is empty.
    """
    name, fingerprint = unit.node.name, unit.fingerprint
    if not results.contains(name):
        return None
    if fingerprint is None:
        return {}
    header = results.headers([name]).get(name, {})
    stored = header.get("fingerprint")
    same = not isinstance(stored, dict) or stored.get("derivation") == fingerprint["derivation"]
    return header if same else None


def _compute(unit: Unit, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    setup = unit.setup
    if isinstance(setup, NodeSeeding):
        from functionfuse._kernel.global_seeds import run_seeded  # late: most runs have no seeds

        return run_seeded(setup, unit.node.func, _compute_in_scope, unit, args, kwargs)
    if setup is not None:
        setup()
    return _compute_in_scope(unit, args, kwargs)


def _compute_in_scope(unit: Unit, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    with NodeScope() as scope:
        if unit.guard is None:
            return compute(unit.node, args, kwargs, scope)
        guarded = partial(compute, scope=scope)
        return unit.guard.call(guarded, unit.node, args, kwargs)


def compute(
    node: GraphNode | Node[Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    scope: NodeScope,
) -> Any:
    """Call the function of a node; return the value of its outcome.

    Raises:
        GraphError: The function made nodes that never run, or its result holds one.
    """
    value = node.func(*args, **kwargs)
    kind = type(value)
    if kind not in UNSHARED_TYPES and node.kind is not _CONSTRUCT:
        try:
            value = materialize_result(value, kind)
        except NodeInResultError:
            scope.check()  # names all nodes that were made, also those that are not in the result
            raise
    if scope.made:
        scope.check()
    if node.kind is _FUNCTION:
        return value
    return InstanceResult(args[0], value) if node.kind is _METHOD else InstanceResult(value, None)


def materialize_result(value: Any, kind: type) -> Any:
    """Return a result that all consumers can use: no iterator in it, no coroutine.

    Raises:
        GraphError: Only one consumer could use the result, or a part of it.
    """
    if is_flat(value, kind):  # nearly all results: one pass in C instead of two searches
        return value
    role = role_of(kind)
    if role is Role.ASYNCHRONOUS:
        from functionfuse._context.event_loop import run_coroutine  # most runs need none

        value = run_coroutine(complete(value))
    if role is not None:
        value = make_reusable(value)
    refuse_lost_parts(value)
    return value


def _save_and_read_back(
    unit: Unit, results: Results, value: Any, clock: float
) -> tuple[Any, _Saved]:
    """Store a result; return the value for its dependents, and what the storage reports."""
    saved = save(unit, value, time.perf_counter() - clock)
    return (results.read(unit.node.name) if results.always_read else value), saved


def save(unit: Unit, value: Any, seconds: float) -> _Saved:
    """Store the result of a unit; return its size and digest, if the storage reports them.

    Raises:
        StorageError: The result cannot be stored.
    """
    node = unit.node
    metadata = {
        "function": node.function,
        "seconds": seconds,
        "seed": getattr(unit.setup, "seed", None),
        "engine": unit.engine,
        "fingerprint": unit.fingerprint,
    }
    try:
        return (unit.storage and unit.storage.save(node.name, value, metadata)) or _NOT_SAVED
    except CorruptResult:  # an input turned out to be damaged
        raise
    except Exception as error:
        message = (
            f"the result of node {node.name!r} cannot be stored: {error}. "
            f"Return a value that can be pickled, register a serializer for its type, "
            f"or call always_run({node.name!r}) on the workflow so that it is not stored"
        )
        raise StorageError(message) from error


def worker_name() -> str:
    """The host and the process, as in records."""
    return _worker


def _set_worker_name() -> None:
    global _worker  # noqa: PLW0603 - one for each process, also a forked one
    _worker = f"{platform.node()}:{os.getpid()}"


_worker: str
_set_worker_name()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_set_worker_name)

"""Envelopes of values in Ray's object store: pickled when Ray pickles them, so that Ray finds its references in them.

Ray returns arrays as read-only views of shared memory.
On every other engine a function may write to its arguments, so each node gets a copy,
except in a workflow whose arrays are read-only; instances are copied there as well, since their methods change them.
"""

from __future__ import annotations

from collections import ChainMap
from functools import partial
from typing import Any, Final

from functionfuse._common import pickler
from functionfuse._common.pickle_buffers import PROTOCOL
from functionfuse._graph.nodes import ATOMS
from functionfuse._kernel.units import GroupResult, InstanceResult
from functionfuse._transport.exceptions import describe_exception
from functionfuse._transport.pickled_value import CopyPolicy, PickledValue, pickle_value
from functionfuse.backends.builtin.rayback._compat import REFERENCE_REDUCERS
from functionfuse.errors import EngineError

__all__ = ["REDUCERS", "dumps", "unwrap", "wrap"]

#: Those of all engines, by which local classes keep their identity, and Ray's for its references.
REDUCERS: Final[Any] = ChainMap(pickler.Pickler.dispatch_table, REFERENCE_REDUCERS)


dumps: Final = partial(pickler.dumps, protocol=PROTOCOL, reducers=REDUCERS)


def wrap(value: Any, what: str, *, read_only: bool) -> Any:
    """Put a value into an envelope; atoms are returned unchanged.

    Args:
        value: The value.
        what: The name of the value in errors.
        read_only: Do not copy arrays, since nodes do not write to them.
    """
    if type(value) in ATOMS:
        return value
    share = read_only and not _has_instance(value)
    return _Envelope(value, what, CopyPolicy.SHARE if share else CopyPolicy.COPY_WRITABLE)


def _has_instance(value: Any) -> bool:
    return type(value) is GroupResult or (type(value) is InstanceResult and value.state is not None)


def unwrap(value: Any) -> Any:
    """Take a value out of its envelope."""
    if type(value) is PickledValue:
        return value.open()
    return value.value if type(value) is _Envelope else value


class _Envelope:
    """A value that becomes a `PickledValue` when Ray pickles it."""

    __slots__ = ("_policy", "_what", "value")

    def __init__(self, value: Any, what: str, policy: CopyPolicy) -> None:
        self.value = value
        self._what = what
        self._policy = policy

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        try:
            pickled = pickle_value(self.value, self._policy, self._what, dumps)
        except Exception as error:
            message = f"{self._what} cannot be pickled to be sent: {describe_exception(error)}"
            raise EngineError(message) from error
        return pickled.__reduce_ex__(protocol)

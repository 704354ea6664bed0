"""Seeds of the global random generators while a node runs: of `random`, `numpy.random`, and `torch` if it is imported.

A node that is alone in its process finds them seeded; their state of before is restored when it ends.
A node that shares its process with nodes in other threads gets an error if it uses them.
Nodes that a plugin seeds run one after the other in such a process.
"""

from __future__ import annotations

import random
import sys
from contextvars import ContextVar
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.process_identity import this_process
from functionfuse._kernel.direct_draws import refuse_direct_draws
from functionfuse._kernel.shared_generators import GuardScope, is_guarded, numpy_random

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functionfuse._kernel.seeding import NodeSeeding

__all__ = ["run_seeded"]

#: Held by the node that uses the global generators, in the thread in which it runs.
_alone: Final = RLock()
_holds_lock: Final = ContextVar("functionfuse_uses_global_generators", default=False)


def run_seeded(
    seeding: NodeSeeding, func: Callable[..., Any], body: Callable[..., Any], *args: Any
) -> Any:
    """Call a function that runs a node.

    Args:
        seeding: The seeds of the node.
        func: The function of the node.
        body: Runs the node.
        args: The arguments of `body`.

    Raises:
        SeedError: The node uses a generator that nodes in other threads share.
    """
    in_threads = seeding.threads_of == this_process() or _is_one_of_threads() or is_guarded()
    # a plugin seeds whatever it does, so its nodes run one after the other;
    # not if a node around this one waits for it, in another thread
    waits = seeding.own_seed is None and not _holds_lock.get()
    if (in_threads and not waits) or not _alone.acquire(blocking=waits):
        return _run_guarded(seeding, func, body, args)
    token = _holds_lock.set(True)
    try:
        return _run_alone(seeding, body, args)
    finally:
        _holds_lock.reset(token)
        _alone.release()


def _run_guarded(
    seeding: NodeSeeding, func: Callable[..., Any], body: Callable[..., Any], args: Sequence[Any]
) -> Any:
    refuse_direct_draws(seeding.name, func)
    if seeding.plugin is not None:
        seeding.plugin()
    with GuardScope(seeding.name):
        return body(*args)


def _run_alone(seeding: NodeSeeding, body: Callable[..., Any], args: Sequence[Any]) -> Any:
    restore = [] if seeding.own_seed is None else _seed_generators(seeding.own_seed)
    try:
        if seeding.plugin is not None:
            seeding.plugin()
        return body(*args)
    finally:
        for each in restore:
            each()


def _is_one_of_threads() -> bool:
    """Tell whether this is one of several threads of a Dask worker, whichever library has submitted the task."""
    module = sys.modules.get("distributed.worker")
    if module is None:
        return False
    try:
        worker: Any = module.get_worker()
    except ValueError:  # not in a task
        return False
    return bool(worker.state.nthreads > 1)


def _seed_generators(seed: int) -> list[Callable[[], object]]:
    """Seed the generators of this process; return functions that restore their state."""
    state = random.getstate()
    restore: list[Callable[[], object]] = [lambda: random.setstate(state)]
    random.seed(seed)
    numpy = numpy_random()
    if numpy is not None:
        restore.append(
            _seed_numpy(numpy, [seed >> shift & 0xFFFF_FFFF for shift in (0, 32, 64, 96)])
        )
    torch: Any = sys.modules.get("torch")
    if hasattr(torch, "manual_seed"):  # imported completely
        torch_state = torch.get_rng_state()
        restore.append(lambda: torch.set_rng_state(torch_state))
        torch.manual_seed(seed % 2**64)
    return restore


def _seed_numpy(numpy: Any, words: Sequence[int]) -> Callable[[], object]:
    """Seed numpy's generator with the words of a seed; return the function that restores it."""
    state = numpy.get_state(legacy=False)
    if not hasattr(numpy, "set_bit_generator"):  # before numpy 1.24
        numpy.seed(words)
        return lambda: numpy.set_state(state)
    # its own bit generator keeps its state meanwhile: setting a state takes three times as long
    own, other = numpy.get_bit_generator(), _spare.pop() if _spare else numpy.MT19937(0)
    numpy.set_bit_generator(other)
    numpy.seed(words)

    def restore() -> None:
        numpy.set_bit_generator(own)
        if state.get("has_gauss"):  # a number that `normal` returns without drawing
            numpy.set_state(state)
        _spare.append(other)

    return restore


#: Bit generators that no node uses.
_spare: Final[list[Any]] = []

"""Robustness tests: long graphs, output of nodes, threads, processes and event loops."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import EngineError, OptionError
from functionfuse.testing.engine.suite import Suite, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RunningTests"]


@workflow
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@workflow
def talk(value: str) -> str:
    """Write to all standard streams, through Python and the system."""
    print(value, flush=True)  # noqa: T201 - as users do
    print(value, file=sys.stderr, flush=True)  # noqa: T201
    os.write(1, f"{value}\n".encode())
    subprocess.run([sys.executable, "-c", f"print({value!r})"], check=True)  # noqa: S603
    return value


@workflow
def warn(value: str) -> str:
    """Warn."""
    warnings.warn(value, UserWarning, stacklevel=2)
    return value


@workflow
def sum_in_threads(count: int) -> int:
    """Use threads."""
    with ThreadPoolExecutor(2) as threads:
        return sum(threads.map(abs, range(count)))


@workflow
def sum_in_a_loop(count: int) -> int:
    """Run an event loop."""
    return asyncio.run(_sum_later(count))


async def _sum_later(count: int) -> int:
    return sum(await asyncio.gather(*[asyncio.sleep(0, number) for number in range(count)]))


@workflow
def sum_in_a_workflow(count: int) -> int:
    """Run a graph."""
    nodes = [add(number, 0) for number in range(count)]
    return sum(LocalWorkflow(*nodes, workflow_name="inner").run())


@workflow
class Log:
    """Keeps the order of its calls."""

    def __init__(self) -> None:
        self.entries: list[int] = []

    def enter(self, number: Any) -> list[int]:
        """Add a number; returns all."""
        self.entries.append(number)
        return self.entries

    async def later(self, number: int) -> list[int]:
        """Add a number, asynchronously."""
        await asyncio.sleep(0)
        return self.enter(number)

    def each(self) -> Iterator[int]:
        """Yield all."""
        yield from self.entries


@workflow
class Locked:
    """A class whose instances cannot be pickled."""

    def __init__(self, start: int) -> None:
        self.total, self.lock = start, threading.Lock()

    def add(self, number: int) -> int:
        """Add and return the sum so far."""
        with self.lock:
            self.total += number
        return self.total


class Counted:
    """Counts the results in memory: now, and at most."""

    def __init__(self) -> None:
        """Begin."""
        self.now = self.most = 0
        self.lock = threading.Lock()

    def count(self, more: int) -> None:
        """Count some more."""
        with self.lock:
            self.now += more
            self.most = max(self.most, self.now)


class Result:
    """Records its creation and deletion."""

    def __init__(self, counted: Counted) -> None:
        """Record the creation."""
        self.counted = counted
        counted.count(1)

    def __del__(self) -> None:
        """Record the deletion."""
        self.counted.count(-1)


@workflow
def one_more(counted: Counted, _: Any = None) -> Result:
    """Create a result from the previous one."""
    return Result(counted)


_A_FEW = 4


class RunningTests(Suite):
    """Robustness."""

    # ---- long graphs ----

    def test_long_chain(self) -> None:
        """A chain may have many nodes."""
        node = add(0, 0)
        for _ in range(self.many):
            node = add(node, 1)

        assert self.compute(node) == self.many

    def test_results_are_released(self) -> None:
        """A chain in one process keeps few results at a time: each is released after its last consumer."""
        if self.runs_in_other_processes:
            pytest.skip("other processes have the results")
        counted = Counted()
        node = one_more(counted)
        for _ in range(50):
            node = one_more(counted, node)

        assert self.compute(workflow(type)(node)) is Result
        assert counted.most <= _A_FEW

    def test_wide_fan(self) -> None:
        """A node may have many dependencies and many dependents."""
        root = add(0, 1)

        assert self.compute(workflow(sum)([add(root, 1) for _ in range(self.many)])) == (
            2 * self.many
        )

    def test_many_calls_on_objects(self) -> None:
        """Many calls on several instances run in order on each, also if they wait for slow arguments."""
        logs: list[Any] = [Log() for _ in range(3)]
        for number in range(self.many // 10):
            for log in logs:
                log.enter(add(number, 0) if number % 3 else number)

        assert self.compute(*[log.enter(-1) for log in logs]) == [
            [*range(self.many // 10), -1] for _ in logs
        ]

    # ---- kinds of methods ----

    def test_async_and_generator_methods(self) -> None:
        """A method may be asynchronous or a generator."""
        log: Any = Log()
        log.enter(1)

        assert self.compute(log.later(2), log.each(), log.enter(3)) == [[1, 2], [1, 2], [1, 2, 3]]

    def test_object_that_cannot_be_pickled(self) -> None:
        """An instance that cannot be pickled works if it stays in one process; otherwise the error names its node."""
        locked: Any = Locked(1)
        locked.set_name("the object")
        first, second = locked.add(2), locked.add(3)

        if self.keeps_instances or not self.runs_in_other_processes:
            assert self.compute(first, second) == [3, 6]
        else:
            with pytest.raises(EngineError) as caught:
                self.compute(first, second)
            assert "the object" in text_of(caught.value)

    # ---- effects of nodes ----

    def test_nodes_write_to_streams(self) -> None:
        """Output of nodes and their child processes does not disturb the engine."""
        assert self.compute(talk(talk("words"))) == "words"

    def test_nodes_warn(self) -> None:
        """A warning in a node does not fail it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")

            assert self.compute(warn(warn("careful"))) == "careful"

    @pytest.mark.parametrize("function", [sum_in_threads, sum_in_a_loop, sum_in_a_workflow])
    def test_nodes_run_things(self, function: Any) -> None:
        """A node may use threads, an event loop, or a workflow of its own."""
        assert self.compute(add(function(5), 1)) == 11

    # ---- the caller ----

    def test_one_workflow_in_two_threads(self) -> None:
        """One workflow may run concurrently in several threads."""
        made = self.new_workflow(add(add(1, 2), 3))

        with ThreadPoolExecutor(3) as threads:
            # each in a copy of this context, as asyncio.to_thread does: engines keep settings there
            running = [threads.submit(copy_context().run, made.run) for _ in range(3)]
            assert [future.result() for future in running] == [6, 6, 6]

    def test_caller_is_left_alone(self) -> None:
        """A run changes neither the current folder of the caller, nor its signal handlers, nor its search path."""
        before = self._surroundings()

        self.compute(add(1, 1))

        assert self._surroundings() == before

    def _surroundings(self) -> tuple[Any, ...]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return os.getcwd(), handlers, list(sys.path), sys.excepthook

    @pytest.mark.parametrize("method", ["set_task_args", "set_remote_args", "set_submit_args"])
    def test_options_of_another_engine(self, method: str) -> None:
        """An unknown option, or one of another engine, is refused when it is set."""
        query = self.new_workflow(add(1, 1)).query()

        with pytest.raises((OptionError, AttributeError), match=rf"{method}|no_such_option"):
            getattr(query, method)({"no_such_option": 1})

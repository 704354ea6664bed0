"""Nodes that are made while a node runs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from example_nodes import Accumulator, add, run

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import GraphError
from functionfuse.events import NodeFinished

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functionfuse.events import Event


def in_task() -> int:
    """Call a decorated function in a task of an event loop."""

    async def call() -> None:
        add(1)

    async def tasks() -> None:
        await asyncio.gather(call(), asyncio.to_thread(add, 1))

    asyncio.run(tasks())
    return 1


def in_instance() -> int:
    """Make an instance."""
    accumulator: Any = Accumulator(1)
    accumulator.double()
    return 1


def not_run() -> int:
    """Make a workflow without running it."""
    LocalWorkflow(add(1), workflow_name="forgotten")
    return 1


def many() -> int:
    """Make many nodes."""
    for number in range(10):
        add(number)
    return 1


LOST: dict[str, tuple[Callable[[], int], str]] = {
    "task": (in_task, r"<node 'add' .*`add\.__wrapped__\(\.\.\.\)`"),
    "instance": (in_instance, r"`Accumulator\.__wrapped__\(\.\.\.\)\.double\(\.\.\.\)`"),
    "not run": (
        not_run,
        r"<node 'add' .*pass the nodes to a workflow inside the node, and run that",
    ),
    "many": (many, r"<node 'add' .*> and 7 more\. "),
}


@pytest.mark.parametrize(("function", "message"), LOST.values(), ids=LOST)
def test_nodes_that_never_run_are_an_error(function: Callable[[], int], message: str) -> None:
    """Wherever the node makes them; the next run is not affected."""
    with pytest.raises(GraphError, match=message) as caught:
        run(workflow(function)())
    assert any("in node" in note for note in caught.value.__notes__)
    assert 2 == run(add(1))


IN_THREADS: Final = """
from concurrent.futures import ThreadPoolExecutor
from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

@workflow
def add(a): return a

@workflow
def in_threads():
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(add, [1, 2]))

try:
    LocalWorkflow(in_threads(), workflow_name="w").run()
except Exception as error:
    print(error)
"""


def test_nodes_made_in_threads_of_a_node() -> None:
    """In a process that has no other threads, threads without the context of a node are the node's."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", IN_THREADS], capture_output=True, text=True, timeout=60, check=True
    )
    assert 2 == done.stdout.count("<node 'add' of ")
    assert "`add.__wrapped__(...)`" in done.stdout


def test_the_functions_own_exception_comes_first() -> None:
    """A node that raises is not reported for the nodes that it made."""

    @workflow
    def broken() -> None:
        add(1)
        message = "mine"
        raise KeyError(message)

    with pytest.raises(KeyError, match="mine"):
        run(broken())


def test_a_module_that_a_node_imports_may_make_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes of a pipeline's file are not those of a node that imports it."""
    tmp_path.joinpath("imported_pipeline.py").write_text(
        "from example_nodes import add\ndef build(): return add(1)\nnode = build()\nrate = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    @workflow
    def rate() -> int:
        import imported_pipeline  # type: ignore[import-not-found]

        found: int = imported_pipeline.rate
        return found

    try:
        assert 3 == run(rate())
    finally:
        sys.modules.pop("imported_pipeline", None)


def test_an_observer_may_make_nodes() -> None:
    """Nodes that an observer makes between two nodes are not those of a node."""
    made: list[Any] = []

    def observe(event: Event) -> None:
        if isinstance(event, NodeFinished):
            made.append(add(1))

    workflow = LocalWorkflow(add(add(1)), workflow_name="observed")
    workflow.add_observer(observe)
    assert 3 == workflow.run()
    assert 2 == len(made)


def test_a_node_of_the_script_in_a_result_is_an_error() -> None:
    """A node that was not made inside, but is returned, is named with its place in the result."""
    outside = add(1)
    with pytest.raises(GraphError, match=r"returned <node 'add' .*never runs: pass it to the node"):
        run(workflow(lambda: outside)())
    with pytest.raises(GraphError, match=r"<node 'add' .* as result\['k'\]\[1\]\[0\], which never"):
        run(workflow(lambda: {"k": [1, (outside,)]})())

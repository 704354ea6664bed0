"""LocalWorkflow with workers: the conformance suite, crashes, and what cannot be pickled."""

from __future__ import annotations

import signal
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from worker_nodes import die, in_processes, in_threads, leave, noted, process_number, same

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import EngineError, OptionError
from functionfuse.events import Event, NodeFinished, NodeSubmitted
from functionfuse.testing import EngineTests
from functionfuse.testing.engine.suite import Journal, Latch

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("nothing_left")


class TestLocalThreads(EngineTests):
    """The conformance suite in threads."""

    make_workflow = staticmethod(in_threads)


class TestLocalProcesses(EngineTests):
    """The conformance suite in processes."""

    runs_in_other_processes = True
    max_examples = 5
    make_workflow = staticmethod(in_processes)


# ---- which workers ----


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2", True])
def test_wrong_numbers_of_workers_are_refused(workers: Any) -> None:
    """An invalid number of workers is refused by the constructor."""
    with pytest.raises(OptionError, match="whole number from 1 on"):
        LocalWorkflow(same(1), workflow_name="workers", workers=workers)


def test_wrong_kinds_are_refused() -> None:
    """Another kind of workers is refused with the right ones."""
    with pytest.raises(OptionError, match="unknown kind of workers: 'process'; did you mean 'proc"):
        LocalWorkflow(same(1), workflow_name="workers", kind="process")  # type: ignore[call-overload]


def test_threads_are_threads_of_this_process() -> None:
    """Threads pass values on without a copy, and run next to the caller's thread."""
    lock = threading.Lock()

    value, thread = in_threads(same(same(lock)), workflow(threading.get_ident)()).run()

    assert lock is value
    assert threading.get_ident() != thread


def test_threads_end_with_the_run() -> None:
    """A run ends its threads."""
    before = threading.active_count()

    in_threads(*[same(number) for number in range(10)]).run()

    assert before == threading.active_count()


def test_a_chain_stays_in_its_thread(tmp_path: Path) -> None:
    """A consumer runs in the thread that computed its argument, without a message to the coordinator."""
    latch = Latch(str(tmp_path / "gate"))
    first = workflow(thread_behind)(latch)
    second = workflow(thread_after)(first)
    third = workflow(thread_after)(second).set_name("third")
    made = in_threads(first, second, third)

    with latch.closed() as open_gate:

        def open_after_second(event: Event) -> None:
            if isinstance(event, NodeSubmitted) and event.name == "third":
                open_gate()

        made.add_observer(open_after_second)
        threads = made.run()

    assert threads[0] == threads[1]


def thread_behind(latch: Latch) -> int:
    """The thread, once the latch is open."""
    latch.wait()
    return threading.get_ident()


def thread_after(_: int) -> int:
    """The thread."""
    return threading.get_ident()


def test_no_more_processes_than_work() -> None:
    """A chain needs one process, whatever the number of workers."""
    first = process_number()
    second = process_number(first)

    processes = LocalWorkflow(first, second, process_number(second), workflow_name="w", workers=8)

    assert 1 == len(set(processes.run()))


# ---- crashes ----


@pytest.mark.parametrize(
    ("crash", "words"),
    [
        (partial(leave, 3), "ended with exit code 3"),
        (partial(leave, 0), "ended with exit code 0"),
        (partial(die, signal.SIGKILL), "was ended by SIGKILL.*memory"),
        (partial(die, signal.SIGSEGV), "was ended by SIGSEGV"),
    ],
)
def test_a_crash_says_how(crash: Any, words: str) -> None:
    """The error for a node whose worker died names the node and how it ended."""
    with pytest.raises(EngineError, match=rf"node 'crash' {words}") as caught:
        in_processes(same(crash().set_name("crash"))).run()

    assert any("in node 'crash'" in note for note in caught.value.__notes__)


def test_a_crash_loses_only_its_node(tmp_path: Path) -> None:
    """Nodes that run next to a node that kills its worker go on, and later nodes have workers."""
    journal, latch = Journal(str(tmp_path / "journal")), Latch(str(tmp_path / "gate"))

    @workflow
    def wait() -> str:
        latch.wait()
        return "waited"

    crashes = [leave(number) for number in range(3)]
    waiting = wait()
    made = in_processes(*crashes, noted(journal, "after", waiting), noted(journal, "beside"))

    def open_after_crash(event: Event) -> None:
        if isinstance(event, NodeFinished) and event.record.name.startswith("noted"):
            open_gate()

    made.add_observer(open_after_crash)
    with latch.closed() as open_gate, pytest.raises(EngineError, match=r"exit code [012]"):
        made.run(on_error="continue")

    assert ["beside", "after"] == journal.lines()


def test_nothing_new_starts_after_a_failure(tmp_path: Path) -> None:
    """Nodes that wait for a worker when a node fails are not started."""
    journal = Journal(str(tmp_path / "journal"))
    for made in (
        LocalWorkflow(leave(1), noted(journal, "x"), workflow_name="w", workers=1),
        LocalWorkflow(
            workflow(int)("x"), noted(journal, "x"), workflow_name="w", workers=1, kind="threads"
        ),
    ):
        with pytest.raises((EngineError, ValueError), match=r"exit code 1|invalid literal"):
            made.run()

    assert [] == journal.lines()


# ---- what cannot be sent ----


def test_result_that_cannot_be_pickled() -> None:
    """The error names the node, and the ways out."""
    lock = workflow(threading.Lock)().set_name("lock")

    with pytest.raises(EngineError, match=r"result of node 'lock'.*'_thread.lock'.*fuse\(\)"):
        in_processes(same(lock)).run()


def test_argument_that_cannot_be_pickled() -> None:
    """The error names node and argument."""
    node = same(value=[threading.Lock()]).set_name("node")

    with pytest.raises(EngineError, match=r"argument 'value' of node 'node' \(same at.*threads"):
        in_processes(node).run()


def test_function_that_cannot_be_pickled() -> None:
    """The error names the node."""
    lock = threading.Lock()
    node = workflow(lambda: not lock.locked())().set_name("node")

    with pytest.raises(EngineError, match=r"the function of node 'node'.*cannot pickle.*threads"):
        in_processes(node).run()


def refuse() -> None:
    """Represent a class that cannot be imported."""
    message = "not here"
    raise RuntimeError(message)


class OneWay:
    """Can be pickled and not unpickled."""

    def __reduce__(self) -> Any:
        """Return an object whose unpickling raises."""
        return refuse, ()


def test_what_cannot_be_unpickled() -> None:
    """A result or an argument that cannot be made again is an error that names the node."""
    made = workflow(OneWay)().set_name("made")
    words = "'made' cannot be unpickled here: RuntimeError: not here"

    with pytest.raises(EngineError, match=words):
        in_processes(made).run()
    words = "'made', which node 'taker' takes, cannot be unpickled in a worker: RuntimeError"
    with pytest.raises(EngineError, match=words):
        in_processes(same(made).set_name("taker")).run()
    with pytest.raises(EngineError, match=r"node 'taker' cannot be unpickled in a worker: Run"):
        in_processes(same(OneWay()).set_name("taker")).run()


def test_error_shows_where_it_was_raised() -> None:
    """The cause of an exception is its traceback in the worker, from the user's line on."""
    with pytest.raises(ZeroDivisionError) as caught:
        in_processes(workflow(lambda: 1 / 0)()).run()

    text = str(caught.value.__cause__)
    assert "1 / 0" in text
    assert "kernel.py" not in text

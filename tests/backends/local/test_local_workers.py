"""LocalWorkflow with workers: the conformance suite, and what is true of threads or processes of one machine only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import EngineError, OptionError
from functionfuse.events import Event, NodeFinished, NodeSubmitted
from functionfuse.testing import EngineTests
from functionfuse.testing.engine.suite import Journal, Latch

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE = 300_000  # bytes: more than what goes through a socket
MAPPED = 3_000_000  # bytes: more than what is copied on arrival


def in_threads(*nodes: Any, workflow_name: str = "workers") -> LocalWorkflow:
    """A workflow whose nodes run in three threads."""
    return LocalWorkflow(*nodes, workflow_name=workflow_name, workers=3, kind="threads")


def in_processes(*nodes: Any, workflow_name: str = "workers") -> LocalWorkflow:
    """A workflow whose nodes run in two other processes."""
    return LocalWorkflow(*nodes, workflow_name=workflow_name, workers=2)


class TestLocalThreads(EngineTests):
    """The conformance suite in threads."""

    make_workflow = staticmethod(in_threads)


class TestLocalProcesses(EngineTests):
    """The conformance suite in processes."""

    runs_in_other_processes = True
    max_examples = 5
    make_workflow = staticmethod(in_processes)


def folders_of(process: int) -> set[Path]:
    """The folders in memory of a process's pools."""
    return set(Path("/dev/shm").glob(f"*functionfuse-{process}-*"))  # noqa: S108 - the pools' place


def workers_of(process: int) -> list[int]:
    """The worker processes that a process has."""
    children = list[str]()
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended
            children += task.read_text().split()
    return [int(child) for child in children if is_worker(int(child))]


def is_worker(process: int) -> bool:
    """Tell whether a process is there, and is a worker."""
    try:
        return b"functionfuse._transport.worker" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever a test does, its runs leave no file in memory and no process."""
    yield
    assert (set(), []) == (folders_of(os.getpid()), workers_of(os.getpid()))


@workflow
def same(value: Any, *needs: Any) -> Any:
    """Give back what was taken."""
    return value


@workflow
def ones(count: int) -> Any:
    """Make an array of bytes."""
    return np.ones(count, np.uint8)


@workflow
def copied(array: Any) -> Any:
    """Copy what was taken."""
    return array.copy()


@workflow
def doubled_in_place(array: Any) -> int:
    """Change what was taken."""
    array *= 2
    return int(array.sum())


@workflow
def total(array: Any, *needs: Any) -> int:
    """Add up."""
    return int(array.sum())


@workflow
def die(number: int) -> None:
    """Be killed by a signal."""
    os.kill(os.getpid(), number)
    threading.Event().wait()


@workflow
def leave(code: int) -> None:
    """End the process."""
    os._exit(code)


@workflow
def process_number(*needs: Any) -> int:
    """Tell which process runs this."""
    return os.getpid()


@workflow
def noted(journal: Journal, word: str, *needs: Any) -> str:
    """Write a word."""
    journal.write(word)
    return word


# ---- which workers ----


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2", True])
def test_wrong_numbers_of_workers_are_refused(workers: Any) -> None:
    """What is no number of workers is refused when it is given."""
    with pytest.raises(OptionError, match="whole number from 1 on"):
        LocalWorkflow(same(1), workflow_name="workers", workers=workers)


def test_wrong_kinds_are_refused() -> None:
    """Another kind of workers is refused with the right ones."""
    with pytest.raises(OptionError, match="unknown kind of workers: 'process'; did you mean 'proc"):
        LocalWorkflow(same(1), workflow_name="workers", kind="process")  # type: ignore[call-overload]


def test_threads_are_threads_of_this_process() -> None:
    """Threads hand values on as they are, and run beside the caller's."""
    lock = threading.Lock()

    value, thread = in_threads(same(same(lock)), workflow(threading.get_ident)()).run()

    assert lock is value
    assert threading.get_ident() != thread


def test_threads_end_with_the_run() -> None:
    """After a run its threads are gone."""
    before = threading.active_count()

    in_threads(*[same(number) for number in range(10)]).run()

    assert before == threading.active_count()


def test_a_chain_stays_in_its_thread(tmp_path: Path) -> None:
    """What waits for a value runs in the thread that has it, without a way through the driver."""
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
    """The thread, once the gate is open."""
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


# ---- values in shared memory ----


@pytest.mark.parametrize("size", [10, LARGE, MAPPED])
def test_arrays_can_be_changed(size: int) -> None:
    """A node may change the array that it takes; no other node and no target sees that."""
    array = ones(size)
    first = doubled_in_place(array)

    assert [2 * size, size, size] == in_processes(
        first, total(array, first), workflow(len)(array)
    ).run()
    given = in_processes(array).run()
    given += 1
    assert 2 * size == int(given.sum())


def test_values_of_all_sizes_arrive() -> None:
    """Bytes, strings, frozen arrays and many arrays in one value arrive as they are."""
    frozen = np.arange(LARGE)
    frozen.flags.writeable = False
    value = {"bytes": b"x" * LARGE, "text": "é" * LARGE, "many": [np.ones(MAPPED)] * 2, "f": frozen}

    given = in_processes(same(same(value))).run()

    assert (value["bytes"], value["text"]) == (given["bytes"], given["text"])
    assert given["many"][0] is given["many"][1]
    assert (frozen == given["f"]).all()
    assert not given["f"].flags.writeable


def test_values_are_let_go_during_the_run() -> None:
    """The files of a long chain of large values are removed as soon as nobody needs them."""
    most = list[int]()

    def look(event: Event) -> None:
        if isinstance(event, NodeFinished):
            (folder,) = folders_of(os.getpid())
            most.append(len(list(folder.iterdir())))

    value: Any = ones(LARGE)
    for _ in range(20):
        value = copied(value)
    made = in_processes(total(value))
    made.add_observer(look)

    assert LARGE == made.run()
    assert 2 >= max(most)


def test_literals_are_pickled_once(tmp_path: Path) -> None:
    """A large argument that many nodes share is pickled once; each node has a copy of its own."""
    journal = Journal(str(tmp_path / "journal"))
    literal = Noting(journal, np.ones(MAPPED, np.uint8))

    assert [2 * MAPPED] * 10 == in_processes(*[changed(literal) for _ in range(10)]).run()
    assert ["pickled"] == journal.lines()


class Noting:
    """Writes when it is pickled."""

    def __init__(self, journal: Journal, array: Any) -> None:
        """Hold an array."""
        self.journal, self.array = journal, array

    def __reduce__(self) -> Any:
        """Write."""
        self.journal.write("pickled")
        return Noting, (self.journal, self.array)


@workflow
def changed(noting: Noting) -> int:
    """Change what was taken."""
    noting.array += 1
    return int(noting.array.sum())


@workflow
def make_noting(journal: Journal) -> Noting:
    """Give something that writes when it is pickled."""
    return Noting(journal, np.ones(MAPPED, np.uint8))


def test_results_are_pickled_once(tmp_path: Path) -> None:
    """However many nodes take a result, it is pickled once; each node has a copy of its own."""
    journal = Journal(str(tmp_path / "journal"))
    result = make_noting(journal)

    assert [2 * MAPPED] * 5 == in_processes(*[changed(result) for _ in range(5)]).run()
    assert ["pickled"] == journal.lines()


def test_full_memory_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no file in memory can be made, temporary files take their place."""
    from functionfuse.backends.builtin.pool import run_folders

    monkeypatch.setattr(run_folders, "_MEMORY", str(tmp_path / "none"))

    assert MAPPED == in_processes(total(ones(MAPPED))).run()


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
    """What runs beside a node that kills its worker goes on, and what comes after it has workers."""
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
    """What waits for a worker when a node fails is not started."""
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
    """Stand for a class that cannot be made again."""
    message = "not here"
    raise RuntimeError(message)


class OneWay:
    """Can be pickled and not unpickled."""

    def __reduce__(self) -> Any:
        """Give what raises."""
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


# ---- programs ----


def run_script(text: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script without a main guard; warnings are errors."""
    script = folder / "script.py"
    script.write_text(SCRIPT_START + text)
    return subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error", str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=folder,
        check=False,
    )


SCRIPT_START = """
import os, signal, sys, time
import helper
from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
"""


def test_script_without_a_main_guard(tmp_path: Path) -> None:
    """A script is not run again; its functions, classes and exceptions travel; its modules are found."""
    (tmp_path / "helper.py").write_text("value = 42\n")
    done = run_script(
        """
print("script", flush=True)
os.environ["SET_LATE"] = "late"
offset = 1
class Odd(Exception): pass
class Pair:
    def __init__(self, a): self.a = a
@workflow
def make(): return Pair(helper.value + offset)
@workflow
def show(pair):
    print("node", type(pair).__name__, os.environ["SET_LATE"], sys.argv[1:], os.getcwd() == sys.path[0])
    print("error", end="", file=sys.stderr)
    return pair
@workflow
def fail(pair): raise Odd(pair.a)
pair = show(make())
print(isinstance(LocalWorkflow(pair, workflow_name="w", workers=2).run(), Pair))
try:
    LocalWorkflow(fail(pair), workflow_name="w", workers=2).run()
except Odd as odd:
    print("caught", odd)
""",
        tmp_path,
        "argument",
    )

    shown = "node Pair late ['argument'] True"
    assert ["script", shown, "True", shown, "caught 43"] == done.stdout.splitlines()
    assert ("errorerror", 0) == (done.stderr, done.returncode)


def test_interruption(tmp_path: Path) -> None:
    """Ctrl-C interrupts the nodes, which can clean up, and ends the workers; nothing is left."""
    (tmp_path / "helper.py").touch()
    script = tmp_path / "script.py"
    script.write_text(
        SCRIPT_START
        + """
import numpy
@workflow
def wait(array):
    try:
        os.write(1, b"process %d\\n" % os.getpid())  # in one piece: two do it
        time.sleep(100)
    finally:
        os.write(1, b"cleaned\\n")
array = workflow(numpy.ones)(1_000_000)
try:
    LocalWorkflow(wait(array), wait(array), workflow_name="w", workers=2).run()
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-W", "error", str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        workers = [int(process.stdout.readline().split()[1]) for _ in range(2)]
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=60)

    assert (["cleaned", "cleaned", "interrupted"], "") == (output.splitlines(), errors)
    assert (set(), []) == (folders_of(process.pid), list(filter(is_worker, workers)))


def test_forks_of_nodes_are_ordinary(tmp_path: Path) -> None:
    """A process that a node forks, and that outlives the worker, does not keep the run from ending."""
    latch = Latch(str(tmp_path / "gate"))

    @workflow
    def fork() -> None:
        if os.fork() == 0:
            latch.wait()
            os._exit(0)
        os._exit(1)

    with latch.closed() as open_gate:
        with pytest.raises(EngineError, match="exit code 1"):
            in_processes(fork()).run()
        open_gate()

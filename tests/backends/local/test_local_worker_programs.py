"""Worker processes of programs: scripts without a main guard, interruption, forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from worker_nodes import folders_of, in_processes, is_worker

from functionfuse import workflow
from functionfuse.errors import EngineError
from functionfuse.testing.engine.suite import Latch

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nothing_left")


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
    """A script is not run again; its functions, classes and exceptions are pickled by value; its modules are found."""
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


def test_decorated_classes_of_a_script(tmp_path: Path) -> None:
    """Instances of a script's decorated classes pass between workers and the script, where the class has another name."""
    (tmp_path / "helper.py").touch()
    done = run_script(
        """
import pickle
from functools import cached_property
@workflow
class Base:
    def __init__(self, n): self.n = n
    @staticmethod
    def twice(x): return 2 * x
    @cached_property
    def heavy(self): return self.twice(self.n)
    def rows(self): yield from range(self.heavy)
    def itself(self): return self
@workflow
class Derived(Base):
    def __init__(self, n): super(Derived, self).__init__(n + 1)
class Lazy:
    @cached_property
    def heavy(self): return 5
@workflow
def show(rows, copy, lazy): return rows, copy.heavy, lazy.heavy, len(pickle.loads(pickle.dumps([lazy])))
made = Derived(1)
print(LocalWorkflow(show(made.rows(), made.itself(), Lazy()), workflow_name="w", workers=2).run())
print(LocalWorkflow(made.itself(), workflow_name="w", workers=2).run().n)
""",
        tmp_path,
    )
    assert (["([0, 1, 2, 3], 4, 5, 1)", "2"], "") == (done.stdout.splitlines(), done.stderr)


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

"""Surroundings of nodes in worker processes of a program: its logging while a node runs, and its `__main__`."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nothing_left")


def output_of(program: str, folder: Path) -> str:
    """Run a program with a main guard; return what it writes."""
    script = folder / "program.py"
    script.write_text(START + program)
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=folder,
        check=False,
    )
    assert not done.returncode, done.stderr
    return done.stdout + done.stderr


START = """
import logging, multiprocessing, os, sys, warnings
from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

def run(node):
    return LocalWorkflow(node, workflow_name="program", workers=1).run()
"""


def test_processes_of_nodes_find_the_script(tmp_path: Path) -> None:
    """A pool in a node starts its processes by spawn or fork, and finds functions and classes of the script."""
    program = """
class Scale:
    def by(self, number):
        return 10 * number

def double(number):
    return 2 * number

@workflow
def pooled(method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        return pool.map(double, [1, 2]) + pool.map(Scale().by, [3])

if __name__ == "__main__":
    print(run(pooled("spawn")), run(pooled("fork")))
"""
    assert output_of(program, tmp_path) == "[2, 4, 30] [2, 4, 30]\n"


def test_records_arrive_while_the_node_runs(tmp_path: Path) -> None:
    """A handler of the program gets a record before the node ends, also from a node that kills its process."""
    program = """
import select

class Answer(logging.Handler):
    def emit(self, record):
        os.write(os.open("answer", os.O_RDWR), record.getMessage().encode())

@workflow
def ask():
    pipe = os.open("answer", os.O_RDWR)
    logging.getLogger("asking").info("well?")
    return bool(select.select([pipe], [], [], 60)[0])

@workflow
def die():
    logging.getLogger("dying").error("last words")
    os._exit(3)

if __name__ == "__main__":
    os.mkfifo("answer")
    keep = os.open("answer", os.O_RDWR)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
    logging.getLogger("asking").addHandler(Answer())
    print(run(ask()))
    try:
        run(die())
    except Exception as error:
        print("exit code 3" in str(error))
"""
    assert output_of(program, tmp_path) == "asking: well?\nTrue\ndying: last words\nTrue\n"


def test_logging_that_nodes_set_up(tmp_path: Path) -> None:
    """A node can set up logging itself, if the program has not; records of a forked process are written once."""
    program = """
def speak():
    logging.getLogger("child").info("from a child")

@workflow
def set_up():
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
    logging.getLogger("node").info("from a node")

@workflow
def fork():
    process = multiprocessing.get_context("fork").Process(target=speak)
    process.start()
    process.join()

if __name__ == "__main__":
    run(set_up())
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
    logging.getLogger("child").addHandler(logging.NullHandler())
    run(fork())
"""
    assert output_of(program, tmp_path) == "node: from a node\nfrom a child\n"


def test_records_with_arguments_that_do_not_fit(tmp_path: Path) -> None:
    """A mistake in a log call is reported as by every handler of Python, and the node continues."""
    program = """
@workflow
def speak():
    logging.getLogger("node").error("%d numbers", object())
    logging.getLogger("node").error("%s", [1, 2])
    return "done"

if __name__ == "__main__":
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stdout)
    print(run(speak()))
"""
    written = output_of(program, tmp_path)
    assert written.startswith("node: [1, 2]\ndone\n")
    assert "TypeError: %d format" in written

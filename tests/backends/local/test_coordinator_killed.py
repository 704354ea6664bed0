"""Runs with worker processes whose coordinator process is ended from outside: the workers and folders go as well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from process_helpers import children_of, coordinator, has_ended, until

from functionfuse.backends.builtin.pool import reaper_main

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER, REAPER = "functionfuse._transport.worker", "reaper_main"
SIGNALS = [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP]
#: Two nodes with a large argument: one that waits in Python, and one that BODY makes.
SCRIPT = """
import os, subprocess, sys, time
import numpy
from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

@workflow
def wait(array):
    try:
        os.write(1, b"waits\\n")
        time.sleep(1000)
    finally:
        with open("cleaned", "w") as file:
            file.write("cleaned")

@workflow
def other(array):
    os.write(1, b"waits\\n")
    BODY

array = workflow(numpy.ones)(1_000_000)
LocalWorkflow(wait(array), other(array), workflow_name="w", workers=2).run()
"""
IN_PYTHON = "time.sleep(1000)"
HOLDS_THE_GIL = "sum(range(10**12))"  # in C, which looks at no signals


def folders_of(process: subprocess.Popen[str], temporary: Path) -> list[Path]:
    """The folders of a process's pools, in memory and in the temporary folder."""
    pattern = f"functionfuse-{process.pid}-*"
    memory = Path("/dev/shm")  # noqa: S108 - the folder of the pools
    return [*memory.glob(pattern), *temporary.glob(pattern)]


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """The folder for temporary files of the coordinator process."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture
def running(
    request: pytest.FixtureRequest, tmp_path: Path, temporary: Path
) -> Iterator[subprocess.Popen[str]]:
    """A coordinator process, both of whose nodes run."""
    body = getattr(request, "param", IN_PYTHON)
    script = SCRIPT.replace("BODY", body)
    with coordinator(script, tmp_path, TMPDIR=str(temporary)) as process:
        assert process.stdout is not None
        assert ["waits\n"] * 2 == [process.stdout.readline() for _ in range(2)]
        yield process


def descendants(process: subprocess.Popen[str]) -> list[int]:
    """The workers and the reaper of a coordinator process."""
    found = [*children_of(process.pid, WORKER), *children_of(process.pid, REAPER)]
    assert 3 == len(found)
    return found


@pytest.mark.parametrize(
    ("running", "number"),
    [*((IN_PYTHON, number) for number in SIGNALS), (HOLDS_THE_GIL, signal.SIGKILL)],
    indirect=["running"],
)
def test_everything_ends_with_the_coordinator(
    running: subprocess.Popen[str], temporary: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Workers, reaper and folders are removed after any signal to the coordinator; nodes clean up as after Ctrl-C."""
    left = descendants(running)
    assert folders_of(running, temporary)

    running.send_signal(number)

    expected = -number if number == signal.SIGKILL else 128 + number
    assert expected == running.wait()
    until(lambda: not folders_of(running, temporary))
    until(lambda: all(map(has_ended, left)))
    assert "cleaned" == (tmp_path / "cleaned").read_text()


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_to_the_whole_job(
    running: subprocess.Popen[str], temporary: Path, number: signal.Signals
) -> None:
    """A signal to all processes, as a batch system sends it, leaves nothing behind either."""
    left = descendants(running)

    for process in (running.pid, *left):
        if (process, number) != (left[-1], signal.SIGKILL):  # the reaper: the next test
            os.kill(process, number)

    running.wait()
    until(lambda: not folders_of(running, temporary))
    until(lambda: all(map(has_ended, left)))


def test_without_the_reaper(tmp_path: Path, temporary: Path) -> None:
    """A run whose reaper was killed completes, and removes its folders itself."""
    script = SCRIPT.replace("time.sleep(1000)", "sys.stdin.readline()").replace("BODY", "pass")
    script = script.replace("sys.stdin.readline()", "open('gate').read()")
    os.mkfifo(tmp_path / "gate")
    with coordinator(script, tmp_path, TMPDIR=str(temporary)) as process:
        assert process.stdout is not None
        assert ["waits\n"] * 2 == [process.stdout.readline() for _ in range(2)]
        (reaper,) = children_of(process.pid, REAPER)
        os.kill(reaper, signal.SIGKILL)
        (tmp_path / "gate").write_text("")

        assert 0 == process.wait()

    assert [] == folders_of(process, temporary)


def test_a_fork_of_the_coordinator_keeps_nothing(tmp_path: Path, temporary: Path) -> None:
    """A process that the coordinator has forked, and that lives on, does not keep the workers alive."""
    script = (
        SCRIPT.replace("BODY", IN_PYTHON)
        .replace(
            "LocalWorkflow(wait",
            """
def fork(event):
    if type(event).__name__ == "NodeFinished" and os.fork() == 0:
        os.write(1, b"forked %d\\n" % os.getpid())
        time.sleep(1000)

made = LocalWorkflow(wait""",
        )
        .replace(".run()", "\nmade.add_observer(fork)\nmade.run()")
    )
    with coordinator(script, tmp_path, TMPDIR=str(temporary)) as process:
        assert process.stdout is not None
        lines = sorted(process.stdout.readline() for _ in range(3))
        fork = int(lines[0].split()[1])
        left = descendants(process)

        process.kill()
        process.wait()

        until(lambda: not folders_of(process, temporary))
        until(lambda: all(map(has_ended, left)))
        assert not has_ended(fork)
        os.kill(fork, signal.SIGKILL)


def test_a_worker_that_has_ended_is_not_signalled(tmp_path: Path) -> None:
    """The reaper does not kill a process that was reported to have ended: another process may have its number."""
    wait = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]
    command = [sys.executable, "-I", "-S", reaper_main.__file__, str(os.getpid()), str(tmp_path)]
    with (
        subprocess.Popen(wait, stdout=subprocess.PIPE) as ended,  # noqa: S603
        subprocess.Popen(wait, stdout=subprocess.PIPE) as running,  # noqa: S603
    ):
        for process in (ended, running):
            assert process.stdout is not None
            process.stdout.readline()
        told = f"+{ended.pid}\n+{running.pid}\n-{ended.pid}\n".encode()

        subprocess.run(command, input=told, check=True)  # noqa: S603

        assert (None, -signal.SIGTERM) == (ended.poll(), running.wait())
        ended.kill()

"""Interrupted programs: Ctrl-C, SIGTERM and SIGHUP in a process of its own, and what is left on the terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 60  # seconds
SHORT = 10  # lines on the terminal
SIGNALS = {signal.SIGINT: -signal.SIGINT, signal.SIGTERM: 143, signal.SIGHUP: 129}  # exit codes
SCRIPT = """
import os, sys, time
from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

@workflow
def first():
    return 1

@workflow
def second(x):
    wait(x)
    return x

def wait(x):
    print("runs", flush=True)
    FINISHES

def main():
    made = LocalWorkflow(second(first().set_name("first")).set_name("second"), workflow_name="w", OPTIONS)
    made.set_storage("results")
    made.run()

main()
"""
KINDS = {
    "serial": "",
    "threads": "workers=2, kind='threads'",
    "processes": "workers=2",
}


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("kind", KINDS)
def test_signals_from_a_terminal(kind: str, number: signal.Signals, tmp_path: Path) -> None:
    """A signal to all processes ends a program with its own exit code and few lines; finished nodes are stored."""
    script = SCRIPT.replace("OPTIONS", KINDS[kind]).replace("FINISHES", "time.sleep(1_000)")
    if kind == "threads":  # which nothing can stop: the program waits a few seconds for them
        os.mkfifo(tmp_path / "gate")
        script = script.replace("time.sleep(1_000)", "open('gate').read()")

    with started(script, tmp_path) as process:
        assert process.stdout is not None
        assert "runs\n" == process.stdout.readline()
        os.killpg(process.pid, number)
        if kind == "threads":
            (tmp_path / "gate").write_text("")
        _, errors = process.communicate(timeout=LIMIT)

    assert SIGNALS[number] == process.returncode
    lines = [
        line for line in errors.splitlines() if set(line.strip()) - {"~", "^"}
    ]  # of Python 3.13
    assert SHORT > len(lines), errors
    finished = {"first", "second"} if kind == "threads" else {"first"}
    stored = {path.name for path in (tmp_path / "results" / "w").iterdir()}
    assert finished == {name for name in stored if name[0] != "."}  # without texts of code


def test_interrupted_node(tmp_path: Path) -> None:
    """After Ctrl-C in a serial run, one line says where the node was."""
    with started(
        SCRIPT.replace("OPTIONS", "").replace("FINISHES", "time.sleep(1_000)"), tmp_path
    ) as process:
        assert process.stdout is not None
        assert "runs\n" == process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT)

    # the signal may come before the line after that which printed
    assert re.search(
        r"^interrupted at second \(script.py:12\) > wait \(script.py:1[67]\)$", errors, re.MULTILINE
    )
    assert "functionfuse" not in errors


@pytest.mark.parametrize("set_up", ["signal.SIG_IGN", "lambda *_: print('handled', flush=True)"])
def test_handlers_of_the_user(set_up: str, tmp_path: Path) -> None:
    """The user's handler, and an ignored signal, are unchanged: the run continues."""
    os.mkfifo(tmp_path / "gate")
    script = SCRIPT.replace("OPTIONS", "").replace("FINISHES", "open('gate').read()")
    script = f"import signal\nsignal.signal(signal.SIGTERM, {set_up})\n{script}\nprint('end')"
    with started(script, tmp_path) as process:
        assert process.stdout is not None
        assert "runs\n" == process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        if "handled" in set_up:
            assert "handled\n" == process.stdout.readline()
        (tmp_path / "gate").write_text("")
        output, errors = process.communicate(timeout=LIMIT)

    assert ("end\n", "", 0) == (output, errors, process.returncode)


def started(script: str, folder: Path) -> subprocess.Popen[str]:
    """A program that runs a script in a folder, in a session of its own."""
    (folder / "script.py").write_text(script)
    return subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )

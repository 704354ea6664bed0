"""What works on a system without the parts of Python that Windows lacks."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

#: Take away what Windows does not have, once the standard library and other people's have looked for it.
LIKE_WINDOWS = """
import asyncio, concurrent.futures, numpy, importlib, multiprocessing, os, platform, shutil, signal
import rich.table, socket, subprocess, sys, tempfile

for module in ("fcntl", "resource", "pwd", "grp", "termios", "_posixshmem"):
    sys.modules[module] = None
ABSENT = {
    os: ("register_at_fork fork getuid geteuid getgid chown fchown pread pwrite statvfs sysconf mkfifo "
         "setsid killpg waitid WNOHANG uname sched_getaffinity O_DIRECTORY O_NOFOLLOW O_CLOEXEC O_NONBLOCK"),
    signal: "pthread_sigmask SIGKILL SIGCHLD SIGHUP SIGALRM SIGUSR1 setitimer SIG_BLOCK SIG_UNBLOCK SIG_SETMASK",
    socket: "AF_UNIX CMSG_LEN send_fds recv_fds",
}
platform.node()
for module, names in ABSENT.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
"""
GRAPH = """
import numpy as np
from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import OptionError
from functionfuse.storage import storage_factory

ones = workflow(lambda count: np.ones(count))
total = workflow(lambda array: float(array.sum()))
node = total(ones(500_000).set_name("ones")).set_name("total")
for folder, options in (("serial", {}), ("threads", {"workers": 2, "kind": "threads"})):
    for _ in range(2):
        flow = LocalWorkflow(node, workflow_name="w", **options)
        storage = storage_factory({"kind": "file", "options": {"path": folder, "fsync": True}})
        flow.set_storage(storage)
        print(flow.run(), len(flow.report.names("computed")))
    storage.save("w", "ones", storage.read_task("w", "ones"))
    storage.remove_workflow("w")
    print(storage.list_workflows())
"""
PROCESSES = """
try:
    LocalWorkflow(node, workflow_name="w", workers=2)
except OptionError as error:
    print(error)
"""
PREFECT = """
from functionfuse.backends.addons.prefectback import PrefectWorkflow
flow = PrefectWorkflow(node, workflow_name="w")
print(flow.generate_flow().name)
"""


def printed(folder: Path, *parts: str) -> list[str]:
    """What a program prints on such a system."""
    command = [sys.executable, "-c", "".join(parts)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    assert "" == done.stderr
    return done.stdout.splitlines()


def test_serial_threads_and_file_storage_work(tmp_path: Path) -> None:
    """A graph runs, one node after the other and in threads, and resumes from files."""
    lines = printed(tmp_path, LIKE_WINDOWS, GRAPH)
    assert ["500000.0 2", "500000.0 0", "[]"] * 2 == lines


def test_processes_are_refused_with_the_alternatives(tmp_path: Path) -> None:
    """The error says on which systems they work, and what to use instead."""
    message = printed(tmp_path, LIKE_WINDOWS, GRAPH, PROCESSES)[-1]
    assert "in processes on Linux and macOS only" in message
    assert "kind='threads'" in message


def test_prefect_workflows_can_be_made(tmp_path: Path) -> None:
    """The part of Prefect's backend that runs on the user's machine is imported and makes a flow."""
    pytest.importorskip("prefect")
    assert (
        "w" == printed(tmp_path, "import prefect, prefect.main\n", LIKE_WINDOWS, GRAPH, PREFECT)[-1]
    )

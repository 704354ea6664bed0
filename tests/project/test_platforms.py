"""The library on a system without the parts of Python that Windows lacks."""

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
         "setsid killpg waitid WNOHANG uname sched_getaffinity fchmod fchdir "
         "O_DIRECTORY O_NOFOLLOW O_CLOEXEC O_NONBLOCK"),
    signal: "pthread_sigmask SIGKILL SIGCHLD SIGHUP SIGALRM SIGUSR1 setitimer SIG_BLOCK SIG_UNBLOCK SIG_SETMASK",
    socket: "AF_UNIX CMSG_LEN send_fds recv_fds",
}
platform.node()
for module, names in ABSENT.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)

def by_path_alone(function):
    def call(path=".", *arguments, dir_fd=None, src_dir_fd=None, dst_dir_fd=None, **options):
        if function in OF_FOLDERS and isinstance(path, int) or (dir_fd, src_dir_fd, dst_dir_fd) != (None,) * 3:
            raise NotImplementedError(f"{function.__name__} relative to a descriptor of a folder")
        return function(path, *arguments, **options)
    return call

shutil._use_fd_functions = False  # of its rmtree, looked up at import
OF_FOLDERS = (os.listdir, os.scandir, os.chmod)
for name in "open stat lstat mkdir rmdir unlink remove rename replace listdir scandir chmod".split():
    setattr(os, name, by_path_alone(getattr(os, name)))
os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks = set(), set(), set()
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
SERIALIZER = """
from functionfuse.errors import StorageError
from functionfuse.serializers import FOLDER_PROTOCOL

class Text:
    def __init__(self, content):
        self.content = content

class TextSerializer:
    serializer_class, name = (Text,), "TextSerializer"

    @staticmethod
    def pickle(text, protocols):
        protocols[FOLDER_PROTOCOL].write_bytes("a.txt", text.content.encode())
        return "TextSerializer", "a.txt"

    @staticmethod
    def unpickle(pid, protocols):
        return Text(protocols[FOLDER_PROTOCOL].read_bytes("a.txt").decode())

    @staticmethod
    def remove(pid, protocols):
        protocols[FOLDER_PROTOCOL].remove("a.txt")

options = {"path": "texts", "grace": 0, "mode": "0600"}
storage = storage_factory({"kind": "file", "options": options})
storage.register_persistent_serializers(TextSerializer)
for content in ("one", "two"):
    storage.save("w", "text", Text(content))
    print(storage.read_task("w", "text").content, storage.list_tasks("w"))
files = sorted(file for _, _, names in os.walk("texts") for file in names)
print(len(files), files[-1])
storage.remove_task("w", "text")
print(storage.list_tasks("w"), [names for _, _, names in os.walk("texts") if names])
storage.save("w", "text", Text("three"))
storage.remove_workflow("w")
print(storage.list_workflows(), [names for _, _, names in os.walk("texts") if names])
os.mkdir("elsewhere")
os.symlink("../elsewhere", "texts/w")
try:
    storage.save("w", "text", 1)
except StorageError as error:
    print(error)
print(storage.list_workflows(), os.listdir("elsewhere"))
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
    """The output of a program on such a system."""
    command = [sys.executable, "-c", "".join(parts)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    assert "" == done.stderr
    return done.stdout.splitlines()


def test_serial_threads_and_file_storage_work(tmp_path: Path) -> None:
    """A graph runs, one node after the other and in threads, and resumes from files."""
    lines = printed(tmp_path, LIKE_WINDOWS, GRAPH)
    assert ["500000.0 2", "500000.0 0", "[]"] * 2 == lines


def test_serializers_keep_files_in_folders_without_descriptors(tmp_path: Path) -> None:
    """Results with sidecar files are saved, replaced, read, listed and removed; links are refused."""
    lines = printed(tmp_path, LIKE_WINDOWS, GRAPH, SERIALIZER)[6:]  # the first six are of GRAPH
    assert ["one ['text']", "two ['text']"] == lines[:2]
    assert ["[] []", "[] []"] == lines[3:5]
    assert "in place of a folder of the storage" in lines[5]
    assert "[] []" == lines[6]


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

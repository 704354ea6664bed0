"""Ray started by a workflow, in a process of its own: interruption, cancellation, missing clusters."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ray_nodes import process, ray_workflow

from functionfuse.testing.engine.suite import Journal, Latch

ray = pytest.importorskip("ray")


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


pytestmark = pytest.mark.usefixtures("ray_cluster")


_START = """
import os, signal, sys, time
from functionfuse import workflow
from functionfuse.backends.builtin.rayback import RayWorkflow
import ray

args = {
    "address": sys.argv[1], "num_cpus": 2, "object_store_memory": 80 * 2**20,
    "include_dashboard": False, "_node_ip_address": "127.0.0.1", "_temp_dir": sys.argv[2],
}
"""
_OWN = """
@workflow
def add(a, b):
    return a + b

made = RayWorkflow(add(1, 2), workflow_name="own", ray_init_args=args)
print(made.run(), ray.is_initialized(), made.run())
"""
_INTERRUPTED = """
def stay(path):
    with open(path, "a") as journal:
        journal.write(f"{os.getpid()}\\n")
    time.sleep(1_000)

@workflow
def wait(path):
    stay(path)

@workflow
class Waiting:
    def wait(self, path):
        stay(path)

path = sys.argv[3]
targets = [wait(path), wait(path), wait(path), Waiting().wait(path)]
try:
    RayWorkflow(*targets, workflow_name="own", ray_init_args=args).run()
except KeyboardInterrupt:
    print("interrupted", RayWorkflow(workflow(abs)(-1), workflow_name="own").run())
"""


_FAILED = """
import gc

@workflow
def keep(value, *_):
    return value

@workflow
def fail(number):
    raise ValueError(number)

@workflow
class Failing:
    def fail(self):
        raise KeyError("method")

def shut_down(event):
    if type(event).__name__ == "NodeFinished":
        ray.shutdown()

for on_error in ("raise", "continue"):
    nodes = [keep(fail(number), number) for number in range(10)]
    try:
        RayWorkflow(*nodes, Failing().fail(), workflow_name="w", ray_init_args=args).run(on_error=on_error)
    except (ValueError, KeyError):
        print("failed")
    gc.collect()
made = RayWorkflow(keep(keep(-1)), workflow_name="w")
made.add_observer(shut_down)
try:
    made.run()
except Exception as error:
    print(type(error).__name__, str(error).partition(" during")[0], ray.is_initialized())
"""


def run_script(*arguments: str, text: str = _OWN) -> subprocess.CompletedProcess[str]:
    """Run a script that has no Ray yet."""
    command = [sys.executable, "-c", _START + text, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)  # noqa: S603


def processes_of(folder: str) -> list[str]:
    """The command lines of running processes that know a folder."""
    lines = [_command_line(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    return [line for line in lines if folder in line]


def _command_line(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended
        return ""


def test_tasks_of_others_can_be_cancelled(tmp_path: Path) -> None:
    """A cancelled task of another program ends, also in a worker that has run nodes before."""

    def for_ever(latch: Latch) -> None:
        Path(f"{latch.path}.pid").write_text(str(os.getpid()))
        latch.open()
        while True:
            time.sleep(0.01)

    gates = [Latch(str(tmp_path / f"{n}")) for n in range(int(ray.cluster_resources()["CPU"]))]
    workers = set(ray_workflow(*[process(number) for number in range(20)]).run())
    with ExitStack() as stack:
        for latch in gates:
            stack.enter_context(latch.closed())
        running = [ray.remote(for_ever).remote(latch) for latch in gates]
        for latch in gates:
            latch.wait()
        for task in running:
            ray.cancel(task)

        for task in running:
            with pytest.raises(ray.exceptions.TaskCancelledError):
                ray.get(task, timeout=30)
    assert workers & {int(Path(f"{latch.path}.pid").read_text()) for latch in gates}


class TestOwnRay:
    """A process that is not connected to any Ray."""

    def test_starts_ray(self) -> None:
        """A run starts Ray, which stays for the next run and ends with the process."""
        with tempfile.TemporaryDirectory(prefix="r") as folder:
            done = run_script("local", folder)

            assert "3 True 3" == done.stdout.strip(), done.stderr
            wait_until(lambda: [] == processes_of(folder))

    def test_failures_and_shutdown(self) -> None:
        """Ray prints no failure of a node; a shutdown during a run is an error that says so, and starts no other Ray."""
        with tempfile.TemporaryDirectory(prefix="r") as folder:
            done = run_script("local", folder, text=_FAILED)

            shutdown = "EngineError ray.shutdown() was called False"
            assert ["failed", "failed", shutdown] == done.stdout.splitlines(), done.stderr
            assert "Unhandled" not in done.stderr
            wait_until(lambda: [] == processes_of(folder))

    def test_interruption(self, journal: Journal) -> None:
        """Ctrl-C ends the run and its nodes, on instances too: the next run has their cores; nothing is left."""
        with tempfile.TemporaryDirectory(prefix="r") as folder:
            command = [sys.executable, "-c", _START + _INTERRUPTED, "local", folder, journal.path]
            with subprocess.Popen(  # noqa: S603
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as process:
                try:
                    wait_until(lambda: process.poll() is not None or len(journal.lines()) == 3)
                    process.send_signal(signal.SIGINT)
                    output, errors = process.communicate(timeout=100)
                finally:
                    process.kill()  # else a failure waits for the nodes

            assert "interrupted 1" == output.strip(), errors
            assert "Traceback" not in errors
            wait_until(lambda: [] == processes_of(folder))
            wait_until(lambda: not any(Path("/proc", pid).exists() for pid in journal.lines()))

    def test_address_without_a_server(self, tmp_path: Path) -> None:
        """An address without a server is an error that gives the address."""
        for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
            done = run_script(address, str(tmp_path))

            assert (
                f"no process listens at the address of the Ray cluster, {address!r}" in done.stderr
            )

    @pytest.mark.parametrize("scheme", ["", "ray://"])
    @pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
    def test_address_of_another_server(self, tmp_path: Path, scheme: str, answer: bytes) -> None:
        """An address with a server that is not Ray is an error soon, whether the server answers or not."""
        with answering(answer) as port:
            address = f"{scheme}127.0.0.1:{port}"
            done = run_script(address, str(tmp_path))

        assert (
            f"listens at the address of the Ray cluster, {address!r}, but does not" in done.stderr
        )

    def test_missing_ray(self) -> None:
        """Without Ray, the error says what to install."""
        code = (
            "import sys; sys.modules['ray'] = None\n"
            "try: import functionfuse.backends.builtin.rayback\n"
            "except ImportError as error: print(type(error).__name__, error)"
        )
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )

        expected = "MissingExtraError RayWorkflow needs Ray: pip install 'functionfuse[ray]'"
        assert expected == done.stdout.strip()


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A port at which a client gets an answer, or none."""
    connections = list[socket.socket]()

    def accept() -> None:
        with suppress(OSError):  # it is shut down
            while True:
                connections.append(listener.accept()[0])
                connections[-1].sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in connections:
            connection.close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll for the end of other processes after their parent: there is no notification."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)

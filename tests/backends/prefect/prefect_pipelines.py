"""A workflow in a script of its own: start it in a process, hold one of its nodes, read what became of it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_helpers import PATIENCE

from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun


__all__ = ["LIMIT", "Pipeline", "ended", "is_gone", "started", "until"]

LIMIT = 120  # seconds: nothing here takes nearly as long unless it is broken

PIPELINE = '''
"""A workflow in a file: sum -> gate -> last. A named pipe holds the gate; a file opens it for good."""

import sys
from pathlib import Path

from functionfuse import workflow
from functionfuse.backends.addons.prefectback import PrefectWorkflow
from functionfuse.storage import storage_factory

HERE = Path({folder!r})


def note(name):
    with (HERE / "ran").open("a") as file:
        file.write(name + "\\n")


@workflow
def add(a, b):
    note("add")
    return a + b


@workflow
def gate(value):
    note("gate")
    if (HERE / "gate").exists():
        (HERE / "started").write_text("now")
        (HERE / "gate").read_text()
    if (HERE / "broken").exists():
        raise RuntimeError("not yet")
    return value


@workflow
def last(value):
    note("last")
    return value + 1


wf = PrefectWorkflow(
    last(gate(add(1, 2).set_name("sum")).set_name("gate")).set_name("last"),
    workflow_name={name!r},
)
wf.set_storage(storage_factory({{"kind": "file", "options": {{"path": str(HERE / "store")}}}}))
number = 5


def make():
    return wf


def needs_an_argument(size):
    return wf


flow = wf.generate_flow()
other = PrefectWorkflow(add(1, 2), workflow_name="another").generate_flow()

if __name__ == "__main__":
    if sys.argv[1] == "serve":
        wf.serve("main", print_starting_message=False)
    elif sys.argv[1] == "schedule":
        wf.serve("scheduled", interval=5, limit=1, print_starting_message=False)
    else:
        print(wf.run())
'''


class Pipeline:
    """The file with the workflow, in a folder of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        """Write it."""
        self.folder, self.name = folder, name
        self.script = folder / f"{name}.py"
        self.script.write_text(PIPELINE.format(folder=str(folder), name=name))

    def close_gate(self) -> None:
        """Let the node `latch` wait until it is let through."""
        os.mkfifo(self.folder / "started")
        os.mkfifo(self.folder / "gate")

    def wait_at_gate(self) -> None:
        """Return when the node `latch` runs."""
        descriptor = os.open(self.folder / "started", os.O_RDONLY | os.O_NONBLOCK)
        try:
            assert select.select([descriptor], [], [], LIMIT)[0], "the gate was never reached"
        finally:
            os.close(descriptor)

    def let_through(self) -> None:
        """Let the node `latch` end."""
        (self.folder / "gate").write_text("go on")

    def open_gate(self) -> None:
        """Let the node `latch` pass from now on."""
        (self.folder / "gate").unlink()

    @property
    def ran(self) -> list[str]:
        """Which functions were called, in order."""
        log = self.folder / "ran"
        return log.read_text().split() if log.exists() else []

    @property
    def stored(self) -> list[str]:
        """The names of the stored results."""
        storage = storage_factory({"kind": "file", "options": {"path": str(self.folder / "store")}})
        return sorted(storage.list_tasks(self.name))


@contextmanager
def started(command: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process in its own process group, which is ended afterwards."""
    variables = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, *command],
        env=variables | {"PREFECT_LOGGING_LEVEL": "WARNING"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def until(condition: Callable[[], Any]) -> Any:
    """Poll until there is an answer: the server and the kernel send no notification."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
    return answer


def ended(server: SyncPrefectClient, identity: UUID, runs: int) -> FlowRun:
    """A flow run, when it has run that often and is at its end."""

    def look() -> FlowRun | None:
        run = server.read_flow_run(identity)
        return run if run.run_count == runs and run.state and run.state.is_final() else None

    found: FlowRun = until(look)
    return found


def is_gone(process: int) -> bool:
    """Tell whether a process has ended, also if its new parent has not reaped it."""
    try:
        return ") Z " in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return True

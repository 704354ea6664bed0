"""Starting and stopping runs on Prefect: deployments, signals, cancelling, event loops; all on the real thing."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import importlib
import os
import select
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from prefect_helpers import PATIENCE, add, flow_run, make, task_runs
from server_processes import free_port, prefect_server_in, runs_go_to

from functionfuse import workflow
from functionfuse.errors import EngineError, OptionError
from functionfuse.events import RunFinished
from functionfuse.storage import storage_factory

prefect = pytest.importorskip("prefect")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

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


@pytest.fixture
def pipeline(tmp_path: Path, request: pytest.FixtureRequest) -> Pipeline:
    """A file with a workflow that is called as the test."""
    return Pipeline(tmp_path, request.node.name)


@contextmanager
def started(command: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process in a process group of its own, which is gone afterwards."""
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
    """Ask until there is an answer: a server and the kernel tell nobody."""
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


def server_of(driver: int) -> int:
    """The temporary server that a process has started."""
    for children in Path(f"/proc/{driver}/task").glob("*/children"):
        for child in children.read_text().split():
            if b"temporary" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    pytest.fail("no temporary server runs")


def is_gone(process: int) -> bool:
    """Tell whether a process has ended; who inherited it may not have taken note."""
    try:
        return ") Z " in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return True


def history(home: Path, query: str) -> list[Any]:
    """What a temporary server has written down."""
    with sqlite3.connect(home / "prefect.db") as database:
        return database.execute(query).fetchall()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A new PREFECT_HOME, and how two runs ended that both were the first on it."""
    home = tmp_path_factory.mktemp("home")
    pipelines = [Pipeline(tmp_path_factory.mktemp(name), name) for name in ("one", "two")]

    def run(pipeline: Pipeline) -> Any:
        with started([str(pipeline.script), "run"], PREFECT_HOME=str(home)) as process:
            return process.communicate(timeout=LIMIT), process.returncode

    with ThreadPoolExecutor(2) as pool:
        return home, list(pool.map(run, pipelines))


@pytest.fixture
def home(first: tuple[Path, list[Any]]) -> Path:
    """A PREFECT_HOME in which the database exists."""
    return first[0]


class TestTemporaryServer:
    """Runs without a server, each in a process of its own; all on one PREFECT_HOME."""

    def test_two_first_runs(self, first: tuple[Path, list[Any]]) -> None:
        """Two runs at once on a new PREFECT_HOME both work, without a word, and both are in the history."""
        home, runs = first
        assert [(("4\n", ""), 0)] * 2 == runs
        assert [("Completed",)] * 2 == history(home, "select state_name from flow_run")
        assert [("Completed", 6)] == history(
            home, "select state_name, count(*) from task_run group by state_name"
        )

    def test_after_another_server(
        self, home: Path, pipeline: Pipeline, server: SyncPrefectClient, prefect_server: str
    ) -> None:
        """A process that has used one server records its next run on the next: nothing goes to the first."""
        script = (
            "import sys\n"
            f"sys.path.insert(0, {str(pipeline.folder)!r})\n"
            f"from {pipeline.name} import wf\n"
            "from prefect.settings import PREFECT_API_URL, temporary_settings\n"
            f"with temporary_settings({{PREFECT_API_URL: {prefect_server!r}}}):\n"
            "    wf.run()\n"
            "wf.set_storage(None)\n"
            "wf.run()\n"
        )
        with started(["-c", script], PREFECT_HOME=str(home)) as process:
            _, errors = process.communicate(timeout=LIMIT)
        assert (0, "") == (process.returncode, errors)
        query = (
            "select task_run.name from task_run join flow_run on flow_run.id = flow_run_id "  # noqa: S608
            f"join flow on flow.id = flow_id where flow.name = '{pipeline.name}'"
        )
        assert {("sum",), ("gate",), ("last",)} == set(history(home, query))
        assert {"sum", "gate", "last"} == set(task_runs(server, pipeline.name, 3))

    def test_interrupted(self, home: Path, pipeline: Pipeline) -> None:
        """Ctrl-C ends a run at once with KeyboardInterrupt; the running node is stored, nothing is left running."""
        pipeline.close_gate()
        with started([str(pipeline.script), "run"], PREFECT_HOME=str(home)) as process:
            pipeline.wait_at_gate()
            server = server_of(process.pid)
            os.killpg(process.pid, signal.SIGINT)  # what a terminal does
            pipeline.let_through()
            _, errors = process.communicate(timeout=30)
        assert -signal.SIGINT == process.returncode
        assert "KeyboardInterrupt" in errors.splitlines()
        assert ["add", "gate"] == pipeline.ran
        assert ["gate", "sum"] == pipeline.stored
        assert is_gone(server)
        query = "select state_name from flow_run order by start_time desc limit 1"
        assert [("Crashed",)] == history(home, query)

    def test_killed(self, home: Path, pipeline: Pipeline, prefect_server: str) -> None:
        """SIGKILL leaves no server behind; the next run executes no stored node, and ends."""
        pipeline.close_gate()
        with started([str(pipeline.script), "run"], PREFECT_HOME=str(home)) as process:
            pipeline.wait_at_gate()
            server = server_of(process.pid)
            process.kill()
            process.communicate(timeout=LIMIT)
        until(lambda: is_gone(server))
        assert ["sum"] == pipeline.stored
        pipeline.open_gate()
        with started([str(pipeline.script), "run"], PREFECT_API_URL=prefect_server) as process:
            assert "4\n" == process.communicate(timeout=LIMIT)[0]
        assert ["add", "gate", "gate", "last"] == pipeline.ran

    def test_killed_without_standard_streams(self, home: Path, pipeline: Pipeline) -> None:
        """A process that was started without standard streams runs, and leaves no server behind when it is killed."""
        pipeline.close_gate()
        command = [sys.executable, str(pipeline.script), "run"]
        start = f"import os; os.closerange(0, 3); os.execv({sys.executable!r}, {command!r})"
        with started(["-c", start], PREFECT_HOME=str(home)) as process:
            pipeline.wait_at_gate()
            server = server_of(process.pid)
            process.kill()
            process.wait(LIMIT)
        until(lambda: is_gone(server))
        assert ["sum"] == pipeline.stored


class TestDeployments:
    """Runs that Prefect starts."""

    def test_served(
        self, server: SyncPrefectClient, prefect_server: str, pipeline: Pipeline
    ) -> None:
        """A served run fails as its node does; tried again from the UI it resumes from the storage, and ends."""
        from prefect.states import AwaitingRetry

        (pipeline.folder / "broken").touch()
        with started(
            [str(pipeline.script), "serve"],
            PREFECT_API_URL=prefect_server,
            PREFECT_RUNNER_POLL_FREQUENCY="1",
        ):
            run = server.create_flow_run_from_deployment(
                deployment(server, f"{pipeline.name}/main")
            )
            assert "Failed" == ended(server, run.id, runs=1).state_name
            assert ["add", "gate"] == pipeline.ran
            (pipeline.folder / "broken").unlink()
            server.set_flow_run_state(run.id, AwaitingRetry(), force=True)
            assert "Completed" == ended(server, run.id, runs=2).state_name
        assert ["add", "gate", "gate", "last"] == pipeline.ran
        states = recorded_states(server, run.id, 5)
        assert [
            ("gate", "Completed"),
            ("gate", "Failed"),
            ("last", "Completed"),
            ("sum", "Completed"),
            ("sum", "Stored"),
        ] == states

    def test_scheduled(
        self, server: SyncPrefectClient, prefect_server: str, pipeline: Pipeline
    ) -> None:
        """The schedule of a served deployment starts runs: the first computes all, the next reads its results."""
        with started(
            [str(pipeline.script), "schedule"],
            PREFECT_API_URL=prefect_server,
            PREFECT_RUNNER_POLL_FREQUENCY="1",
        ):
            identity = deployment(server, f"{pipeline.name}/scheduled")
            first, second = until(lambda: completed_by_schedule(server, identity, 2))
        assert ["add", "gate", "last"] == pipeline.ran
        assert 3 == len(recorded_states(server, first, 3))
        assert [("last", "Stored")] == recorded_states(server, second, 1)

    def test_deployed(
        self,
        server: SyncPrefectClient,
        prefect_server: str,
        pipeline: Pipeline,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A worker finds the workflow by the variable that holds it, and runs it."""
        module = imported(pipeline, monkeypatch)
        work_pool(server, "pool")
        identity = module.wf.deploy("main", "pool", tags=["nightly"], print_next_steps=False)
        found = server.read_deployment(identity)
        assert (f"{pipeline.name}.py:wf.flow", ["nightly"]) == (found.entrypoint, found.tags)
        run = server.create_flow_run_from_deployment(identity)
        command = ["-m", "prefect", "worker", "start", "--pool", "pool", "--run-once"]
        with started(command, PREFECT_API_URL=prefect_server) as worker:
            worker.communicate(timeout=LIMIT)
        assert "Completed" == ended(server, run.id, runs=1).state_name
        assert ["add", "gate", "last"] == pipeline.ran

    def test_function_as_entrypoint(
        self,
        server: SyncPrefectClient,
        prefect_server: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A function that returns the workflow will do: the worker calls it."""
        made = Pipeline(tmp_path, "made_by_function")
        module = imported(made, monkeypatch)
        work_pool(server, "pool")
        identity = module.wf.deploy(
            "main", "pool", entrypoint="made_by_function.py:make", print_next_steps=False
        )
        run = server.create_flow_run_from_deployment(identity)
        command = ["-m", "prefect", "worker", "start", "--pool", "pool", "--run-once"]
        with started(command, PREFECT_API_URL=prefect_server) as worker:
            worker.communicate(timeout=LIMIT)
        assert "Completed" == ended(server, run.id, runs=1).state_name
        assert ["add", "gate", "last"] == made.ran

    @pytest.mark.parametrize(
        ("variable", "message"),
        [
            ("other", "is flow 'another', not 'entrypoints'"),
            ("number", "neither a PrefectWorkflow, nor its flow, nor a function"),
            ("nothing", "neither a PrefectWorkflow, nor its flow, nor a function"),
            ("add", "returned .*, not a PrefectWorkflow|raised TypeError"),
            ("needs_an_argument", r"needs_an_argument\(\) .* raised TypeError"),
        ],
    )
    def test_wrong_entrypoint(
        self,
        server: SyncPrefectClient,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        variable: str,
        message: str,
    ) -> None:
        """What is not this workflow is refused, and so is what is no workflow at all."""
        module = imported(Pipeline(tmp_path, "entrypoints"), monkeypatch)
        with pytest.raises(OptionError, match=message):
            module.wf.deploy("main", "pool", entrypoint=f"entrypoints.py:{variable}")

    def test_flow_as_entrypoint(
        self, server: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A variable that holds the generated flow will do, and so does a running event loop."""
        module = imported(Pipeline(tmp_path, "generated"), monkeypatch)
        work_pool(server, "pool")

        async def deploy() -> UUID:
            identity: UUID = module.wf.deploy(
                "main", "pool", entrypoint="generated.py:flow", print_next_steps=False
            )
            return identity

        assert "generated.py:flow" == server.read_deployment(asyncio.run(deploy())).entrypoint

    @pytest.mark.parametrize(
        ("entrypoint", "reason"),
        [("nowhere.py:wf", "No such file"), ("raises.py:wf", "on purpose")],
    )
    def test_file_that_cannot_be_loaded(
        self,
        server: SyncPrefectClient,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        entrypoint: str,
        reason: str,
    ) -> None:
        """A file that is not there or that raises is refused with the reason."""
        (tmp_path / "raises.py").write_text("raise RuntimeError('on purpose')")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(OptionError, match=f"cannot load '{entrypoint}'.*{reason}"):
            make(add(1, 2), workflow_name="unloadable").deploy("d", "pool", entrypoint=entrypoint)

    def test_file_that_deploys_itself(
        self, server: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that calls deploy() when it is imported would do so for ever in workers: it is refused."""
        looping = Pipeline(tmp_path, "looping")
        with looping.script.open("a") as file:
            file.write("\nwf.deploy('main', 'pool', entrypoint='looping.py:wf')\n")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(OptionError, match="__main__"):
            make(add(1, 2), workflow_name="looping").deploy(
                "main", "pool", entrypoint="looping.py:wf"
            )

    def test_workflow_that_no_worker_finds(self, server: SyncPrefectClient) -> None:
        """A workflow that no variable of a module holds is refused, with what to do."""
        with pytest.raises(OptionError, match=r"assign it to one in a file"):
            make(add(1, 2), workflow_name="nowhere").deploy("main", "pool")

    def test_unpicklable(self, server: SyncPrefectClient) -> None:
        """What cannot travel to the process of a served run is named."""
        lock: Any = threading.Lock()
        with pytest.raises(OptionError, match="an argument of node 'sum' cannot be pickled"):
            make(add(lock, 2).set_name("sum"), workflow_name="locked").serve()

    def test_unknown_options(self) -> None:
        """An option that Prefect's own method does not know is refused, with the nearest."""
        unknown = make(add(1, 2), workflow_name="unknown")
        with pytest.raises(OptionError, match="did you mean 'cron'"):
            unknown.serve(crn="0 0 * * *")
        with pytest.raises(OptionError, match="did you mean 'job_variables'"):
            unknown.deploy("main", "pool", job_variable={})

    def test_no_server(self) -> None:
        """A deployment on a temporary server would be gone with it: it is refused."""
        with pytest.raises(EngineError, match=r"serve\(\) needs a server.*PREFECT_API_URL"):
            make(add(1, 2), workflow_name="serverless").serve()


def deployment(server: SyncPrefectClient, name: str) -> UUID:
    """The identity of a deployment, once there is one of this name."""
    from prefect.exceptions import ObjectNotFound

    def look() -> UUID | None:
        try:
            return server.read_deployment_by_name(name).id
        except ObjectNotFound:
            return None

    found: UUID = until(look)
    return found


def completed_by_schedule(server: SyncPrefectClient, identity: UUID, count: int) -> list[UUID]:
    """The first runs of a deployment that its schedule has started, once so many are completed; else none."""
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterId,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateName,
    )
    from prefect.client.schemas.sorting import FlowRunSort

    found = server.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[identity])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Completed"]))
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
    )
    runs = [run.id for run in found if run.auto_scheduled]
    return runs[:count] if len(runs) >= count else []


def recorded_states(
    server: SyncPrefectClient, flow_run: UUID, count: int
) -> list[tuple[str, str | None]]:
    """The task runs of a flow run with their states, once the server has that many ends."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = server.read_task_runs(flow_run_filter=only(flow_run))
        final = [run for run in found if run.state and run.state.is_final()]
        if len(final) >= count or time.monotonic() > deadline:
            return sorted((run.name, run.state_name) for run in found)
        time.sleep(0.1)  # the server records in its own time, and tells nobody


def only(identity: UUID) -> Any:
    """A filter for one flow run."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    return FlowRunFilter(id=FlowRunFilterId(any_=[identity]))


def work_pool(server: SyncPrefectClient, name: str) -> None:
    """Make a work pool of processes."""
    from prefect.client.schemas.actions import WorkPoolCreate

    server.create_work_pool(WorkPoolCreate(name=name, type="process"), overwrite=True)


def imported(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pipeline as a module, from its own folder."""
    monkeypatch.chdir(pipeline.folder)
    monkeypatch.syspath_prepend(str(pipeline.folder))
    monkeypatch.delitem(sys.modules, pipeline.name, raising=False)
    return importlib.import_module(pipeline.name)


class TestUnreachable:
    """PREFECT_API_URL names an address where nobody listens."""

    @pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "http://nowhere.invalid/api"])
    def test_run(self, url: str) -> None:
        """The error names the address and what to do, instead of minutes of silence."""
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with (
            temporary_settings({PREFECT_API_URL: url}),
            pytest.raises(EngineError, match=f"PREFECT_API_URL={url}.*prefect server start.*unset"),
        ):
            make(add(1, 2), workflow_name="unreachable").run()


class TestCancelling:
    """Somebody cancels a run that was started by run()."""

    def test_cancelled(
        self, server: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The running node is stored, nothing new starts, the run is Cancelled, and its caller is told."""
        from prefect.exceptions import CancelledRun
        from prefect.states import Cancelling

        from functionfuse.backends.addons.prefectback.server import Cancellation

        monkeypatch.setattr(Cancellation, "interval", 0.1)
        noticed = threading.Event()

        @workflow
        def wait(value: int) -> int:
            """Cancel the run, as the UI does, and wait until that is noticed."""
            identity = prefect.context.get_run_context().task_run.flow_run_id
            with prefect.get_client(sync_client=True) as client:
                client.set_flow_run_state(identity, Cancelling())
            assert noticed.wait(LIMIT)
            return value

        running = wait(1).set_name("running")
        cancelled = make(add(running, 1).set_name("next"), workflow_name="cancelled")
        storage = storage_factory({"kind": "file", "options": {"path": str(tmp_path)}})
        cancelled.set_storage(storage)
        cancelled.add_observer(
            lambda event: noticed.set() if isinstance(event, RunFinished) else None
        )
        with pytest.raises(CancelledRun):
            cancelled.run()
        assert "Cancelled" == flow_run(server, "cancelled").state_name
        assert ["running"] == storage.list_tasks("cancelled")
        assert ["running"] == list(task_runs(server, "cancelled", 1))

    def test_awaiting_task_cancelled(
        self, server: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When nobody awaits arun() any more, the run is Cancelled: nothing new starts."""
        from functionfuse.backends.addons.prefectback.server import Cancellation

        monkeypatch.setattr(Cancellation, "interval", 0.1)
        noticed = threading.Event()
        loop = asyncio.new_event_loop()

        @workflow
        def wait(value: int) -> int:
            """Cancel the task, and wait until the run knows."""
            loop.call_soon_threadsafe(tasks[0].cancel)
            assert noticed.wait(LIMIT)
            return value

        running = wait(1).set_name("running")
        left = make(add(running, 1).set_name("next"), workflow_name="left-alone")
        left.add_observer(lambda event: noticed.set() if isinstance(event, RunFinished) else None)
        tasks = [loop.create_task(left.arun())]
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(tasks[0])
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        assert "Cancelled" == flow_run(server, "left-alone").state_name
        assert ["running"] == list(task_runs(server, "left-alone", 1))


@pytest.mark.usefixtures("server")
class TestWhere:
    """Where a run can be started."""

    def test_awaited(self) -> None:
        """arun() gives the result, and the event loop goes on meanwhile: here, to release the node."""
        released = threading.Event()

        @workflow
        def wait(value: int) -> int:
            """Wait for the event loop."""
            assert released.wait(LIMIT)
            return value

        awaited = make(wait(3), workflow_name="awaited")

        async def main() -> Any:
            run = asyncio.create_task(awaited.arun())
            await asyncio.sleep(0)
            released.set()
            return await run

        assert 3 == asyncio.run(main())

    def test_arun_raises(self) -> None:
        """arun() raises what run() raises."""

        @workflow
        def divide(a: int, b: int) -> float:
            """Divide."""
            return a / b

        with pytest.raises(ZeroDivisionError):
            asyncio.run(make(divide(1, 0), workflow_name="awaited-failure").arun())

    def test_in_event_loop(self) -> None:
        """run() and flow() work inside a running event loop, as in a notebook."""
        looped = make(add(1, 2), workflow_name="looped")

        async def main() -> Any:
            return looped.run(), looped.flow()

        assert (3, 3) == asyncio.run(main())

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_in_async_flow(self) -> None:
        """A workflow's flow is a subflow of an asynchronous flow, also by arun()."""
        inner = make(add(1, 2), workflow_name="inner-of-async")

        @prefect.flow  # type: ignore[untyped-decorator]
        async def outer() -> Any:
            return inner.flow(), await inner.arun()

        assert (3, 3) == asyncio.run(outer())
        gc.collect()  # Prefect leaves a connection of its own asynchronous client open

    def test_in_thread(self) -> None:
        """run() works in a thread that is not the main one."""
        threaded = make(add(1, 2), workflow_name="threaded")
        with ThreadPoolExecutor(1) as pool:
            assert 3 == pool.submit(contextvars.copy_context().run, threaded.run).result(LIMIT)

    def test_large(self, server: SyncPrefectClient) -> None:
        """A graph of 300 nodes, some of which fail at first, runs to its end, and all are recorded."""
        tried = SimpleNamespace(names=set())

        @workflow
        def flaky(value: int, name: int) -> int:
            """Fail at the first call of each tenth."""
            if name % 10 == 0 and name not in tried.names:
                tried.names.add(name)
                message = "not yet"
                raise RuntimeError(message)
            return value + 1

        ends = []
        for row in range(30):
            node: Any = 0
            for column in range(10):
                node = flaky(node, 10 * row + column).set_name(f"node-{row}-{column}")
            ends.append(node)
        large = make(*ends, workflow_name="large")
        large.query().set_task_args({"retries": 1, "retry_delay_seconds": 0})
        assert [10] * 30 == large.run()
        wanted = {
            "flow_runs": {"id": {"any_": [str(flow_run(server, "large").id)]}},
            "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
        }
        until(lambda: 300 == server.request("POST", "/task_runs/count", json=wanted).json())

    def test_few_threads(self, server: SyncPrefectClient) -> None:
        """A node is submitted when its parents are done: a chain needs no thread for each of its nodes."""

        @workflow
        def count_threads(most: int) -> int:
            """Give the largest number of threads so far."""
            return max(most, threading.active_count())

        node: Any = threading.active_count()
        for _ in range(200):
            node = count_threads(node)
        assert make(node, workflow_name="few-threads").run() < threading.active_count() + 20


def test_server_that_starts_again(tmp_path: Path) -> None:
    """A process that stays runs on, and has everything recorded, when its server was stopped and started."""
    port = free_port()
    wanted = {"task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    with runs_go_to(f"http://127.0.0.1:{port}/api"):
        for count in (1, 2):
            with prefect_server_in(tmp_path, port), prefect.get_client(sync_client=True) as client:
                assert 3 == make(add(1, 2), workflow_name="restarted").run()
                ask = partial(client.request, "POST", "/task_runs/count", json=wanted)
                until(partial(is_answer, ask, count))


def is_answer(ask: Callable[[], Any], expected: int) -> bool:
    """Tell whether the server answers with a number."""
    answer: int = ask().json()
    return answer == expected


@pytest.mark.usefixtures("server")
class TestLarge:
    """A graph of 6,000 nodes, when it is asked for: FUNCTIONFUSE_FULL=1. It takes minutes."""

    __test__ = bool(os.environ.get("FUNCTIONFUSE_FULL"))

    def test_every_task_run_is_recorded(self, server: SyncPrefectClient) -> None:
        """The server has a completed task run for each of 6,000 nodes."""
        rows = [add(number, 1) for number in range(2_000)]
        for _ in range(2):
            rows = [add(node, 1) for node in rows]
        large = make(*rows, workflow_name="six-thousand")
        assert [3 + number for number in range(2_000)] == large.run()
        wanted = {
            "flow_runs": {"id": {"any_": [str(flow_run(server, "six-thousand").id)]}},
            "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
        }

        def more_than(count: int) -> bool:
            recorded: int = server.request("POST", "/task_runs/count", json=wanted).json()
            return recorded > count

        for count in range(0, 6_000, 500):  # it may take its time as long as it goes on
            until(partial(more_than, count))
        until(partial(more_than, 5_999))
        assert not more_than(6_000)

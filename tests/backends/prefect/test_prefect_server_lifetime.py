"""Ephemeral servers end with the process that started them."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect_helpers import task_runs
from prefect_pipelines import LIMIT, Pipeline, is_gone, started, until

prefect = pytest.importorskip("prefect")

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


def server_of(driver: int) -> int:
    """The ephemeral server that a process has started."""
    for children in Path(f"/proc/{driver}/task").glob("*/children"):
        for child in children.read_text().split():
            if b"ephemeral_server" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    pytest.fail("no ephemeral server runs")


def history(home: Path, query: str) -> list[Any]:
    """Rows of an ephemeral server's database."""
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


class TestEphemeralServer:
    """Runs without a server, each in a process of its own; all on one PREFECT_HOME."""

    def test_two_first_runs(self, first: tuple[Path, list[Any]]) -> None:
        """Two concurrent runs on a new PREFECT_HOME both work, without a warning, and both are in the history."""
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

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_interrupted(self, home: Path, pipeline: Pipeline, number: signal.Signals) -> None:
        """Ctrl-C or SIGTERM ends a run with few lines; the running node is stored, and no process is left."""
        pipeline.close_gate()
        with started([str(pipeline.script), "run"], PREFECT_HOME=str(home)) as process:
            pipeline.wait_at_gate()
            server = server_of(process.pid)
            os.killpg(process.pid, number)  # as a terminal and a batch system do
            pipeline.let_through()
            _, errors = process.communicate(timeout=30)
        assert {signal.SIGINT: -number, signal.SIGTERM: 143}[number] == process.returncode
        assert (number == signal.SIGINT) == ("KeyboardInterrupt" in errors.splitlines())
        assert 10 > len(errors.splitlines()), errors
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

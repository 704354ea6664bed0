"""Deployments: serve, schedule and deploy a workflow, and the entrypoints that a worker loads."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from prefect_helpers import PATIENCE, add, make
from prefect_pipelines import LIMIT, Pipeline, ended, started, until

from functionfuse.errors import EngineError, OptionError

prefect = pytest.importorskip("prefect")

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient


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
        """An entrypoint that is another workflow, or none, is refused."""
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
        """A file that calls deploy() when it is imported is refused: its workers would deploy without end."""
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
        """The part of a served workflow that cannot be pickled is named."""
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
        """A deployment on an ephemeral server is refused: it would end with the server."""
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
        time.sleep(0.1)  # the server records asynchronously, without a notification


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

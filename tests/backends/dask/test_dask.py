"""DaskWorkflow on a cluster of processes, and what is Dask's own about it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("distributed")

import dask
import numpy as np
from dask.sizeof import sizeof
from distributed import Client, LocalCluster
from engine_helpers import QUIET

from functionfuse import workflow
from functionfuse._kernel.units import GroupResult, InstanceResult
from functionfuse._transport.pickled_value import pickle_value
from functionfuse.backends.builtin.daskback import DaskWorkflow
from functionfuse.errors import EngineError, OptionError
from functionfuse.events import NodeFinished
from functionfuse.testing import EngineTests
from functionfuse.testing.engine.suite import Journal, Latch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functionfuse.events import Event


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A client of a cluster with two processes, one node at a time in each; one of them has a model."""
    settings = {
        # Dask's clusters give a worker up that has just died when they look
        "distributed.deploy.lost-worker-timeout": "1 hour",
        # a node is tried on two workers, not on four: each death takes a new process
        "distributed.scheduler.allowed-failures": 1,
    }
    with (
        dask.config.set(settings),
        LocalCluster(n_workers=2, resources={"model": 1}, **QUIET) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


class TestDask(EngineTests):
    """The conformance suite on Dask."""

    runs_in_other_processes = True
    # Dask holds the death of a worker against all that was assigned to it
    isolates_crashes = False
    max_examples = 10

    @pytest.fixture(autouse=True)
    def _on(self, client: Client) -> None:
        self._client = client

    def make_workflow(self, *nodes: Any, workflow_name: str) -> DaskWorkflow:
        """A workflow on the cluster."""
        return DaskWorkflow(*nodes, workflow_name=workflow_name, client=self._client)


@workflow
def add(a: Any, b: Any) -> Any:
    """Add two things."""
    return a + b


@workflow
def where(*needs: Any) -> int:
    """The process that it runs in."""
    return os.getpid()


@workflow
def total(array: Any, number: int) -> float:
    """Change an array, and add it up."""
    array[0] += number
    return float(array.sum())


@workflow
def work(number: int) -> float:
    """Run longer than the engine's interval between two checks of units without an event; raise for 0."""
    time.sleep(1.5)
    return 1 / number


@workflow
def once(journal: Journal, latch: Latch) -> int:
    """Return the number of the process; raise in the second call, and open a latch."""
    journal.write(f"{os.getpid()}")
    if len(journal.lines()) > 1:
        latch.open()
        message = "not again"
        raise ValueError(message)
    return os.getpid()


@workflow
def late(latch: Latch) -> str:
    """Run longer than nodes that wait at the same latch, and than a node that fails when it opens."""
    latch.wait()
    time.sleep(1.5)
    return "late"


@workflow
def lock() -> Any:
    """Return what no other process can have."""
    return threading.Lock()


class Unmakeable:
    """Can be pickled, and not made again."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


@workflow
def unmakeable() -> Any:
    """Return what cannot be made again."""
    return Unmakeable()


@workflow
def fail_twice(journal: Journal) -> str:
    """Raise, but not at the third try."""
    journal.write("tried")
    if len(journal.lines()) < 3:
        message = "not yet"
        raise ValueError(message)
    return "done"


@workflow
class Counter:
    """A number that grows."""

    def __init__(self) -> None:  # noqa: D107
        self.number = 0

    def grow(self, journal: Journal) -> int:
        """Grow, and raise at the first try."""
        self.number += 1
        journal.write("grown")
        if len(journal.lines()) < 2:
            message = "not yet"
            raise ValueError(message)
        return self.number


# ---- options ----


def one_node(client: Client) -> DaskWorkflow:
    """A workflow of a node called `node`."""
    return DaskWorkflow(where().set_name("node"), workflow_name="one", client=client)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resorces": {"GPU": 1}}, "unknown option.*'resorces'; did you mean 'resources'"),
        ({"num_cpus": 1}, "unknown option of Client.submit.*'num_cpus'"),
        ({"pure": True}, "unknown option of Client.submit.*'pure'"),
        ({"resources": {"GPU": 0}}, "resources is a dict of amounts above 0"),
        ({"retries": -1}, "retries is a number of times"),
        ({"priority": "high"}, "priority is a number, not 'high'"),
        ({"workers": []}, "workers is the address or name of a worker"),
        ({"fifo_timeout": "soon"}, "fifo_timeout is a duration"),
        ({"allow_other_workers": True}, "says nothing without workers"),
    ],
)
def test_options_are_checked_when_set(
    client: Client, options: dict[str, Any], message: str
) -> None:
    """An option that Client.submit does not have is refused immediately, with the options that it has."""
    with pytest.raises(OptionError, match=message):
        one_node(client).query().set_submit_args(options)


def test_options_reach_dask(client: Client) -> None:
    """A node runs where its options say."""
    for address, about in client.scheduler_info()["workers"].items():
        made = one_node(client)
        made.query("node").set_submit_args(
            {"workers": address, "resources": {"model": 1}, "priority": 10, "retries": 1}
        )
        pids = client.run(os.getpid)
        assert pids[address] == made.run(), about


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"resources": {"GPU": 1}},
            r"node 'node' needs .*'GPU': 1.*no worker has more than.*model",
        ),
        ({"resources": {"model": 2}}, r"needs .*'model': 2.*no worker has more than {'model': 1"),
        ({"workers": "nobody"}, r"node 'node' may only run on nobody.*the cluster has tcp://127"),
    ],
)
def test_what_no_worker_has(client: Client, options: dict[str, Any], message: str) -> None:
    """A node that no worker can take is an error that says what there is, not an endless wait."""
    made = one_node(client)
    made.query("node").set_submit_args(options)

    with pytest.raises(EngineError, match=message):
        made.run()


def test_retries(client: Client, tmp_path: Path) -> None:
    """Dask retries a failed node as often as `retries` says."""
    journal = Journal(str(tmp_path / "journal"))
    made = DaskWorkflow(add(fail_twice(journal), "!"), workflow_name="retries", client=client)
    made.query("fail_twice.*").set_submit_args({"retries": 2})

    assert made.run() == "done!"
    assert len(journal.lines()) == 3


def test_retries_of_a_method(client: Client, tmp_path: Path) -> None:
    """A retried method starts from its instance in the state before the call."""
    counter: Any = Counter()
    grown = counter.grow(Journal(str(tmp_path / "journal")))
    made = DaskWorkflow(grown, workflow_name="methods", client=client)
    made.query("Counter.grow.*").set_submit_args({"retries": 1})

    assert made.run() == 1


def test_only_what_failed_is_blamed(client: Client) -> None:
    """A long-running node is not blamed for the failure of another dependency of its consumers."""
    lost = add(add(1, "").set_name("failed"), work(1).set_name("first"))
    end = add(lost, work(1).set_name("second"))
    made = DaskWorkflow(end, workflow_name="blame", client=client)

    with pytest.raises(TypeError):
        made.run(on_error="continue")

    assert made.report is not None
    assert ["failed"] == made.report.names("failed")
    assert ["first", "second"] == sorted(made.report.names("computed"))


def test_a_value_that_cannot_be_made_again(client: Client, tmp_path: Path) -> None:
    """A unit that was lost with its worker and then fails is blamed on its dependents, not on units that run meanwhile."""
    journal, latch = Journal(str(tmp_path / "journal")), Latch(str(tmp_path / "gate"))
    running = late(latch).set_name("running")
    end = add(running, once(journal, latch).set_name("once")).set_name("end")
    made = DaskWorkflow(end, workflow_name="again", client=client)

    def end_its_worker(event: Event) -> None:
        if isinstance(event, NodeFinished) and event.record.name == "once":
            os.kill(int(journal.lines()[0]), signal.SIGKILL)

    made.add_observer(end_its_worker)
    with latch.closed(), pytest.raises(ValueError, match="not again"):
        made.run(on_error="continue")

    assert made.report is not None
    assert ["end"] == made.report.names("failed")
    assert ["running", "once"] == made.report.names("computed")


# ---- pickling ----


def test_large_literals(client: Client) -> None:
    """A large literal arrives at each of its nodes as the node's own, and nothing of it stays."""
    array = np.ones(2_000_000)

    sums = DaskWorkflow(
        *[total(array, number) for number in range(4)], workflow_name="large", client=client
    ).run()

    assert sums == [2_000_000.0 + number for number in range(4)]
    assert array[0] == 1


def test_results_that_cannot_be_sent(client: Client) -> None:
    """A result that no other worker could have is an error of its node, on whichever worker it is needed."""
    for node, reason in ((lock(), "cannot pickle"), (unmakeable(), "invalid literal")):
        made = DaskWorkflow(where(node.set_name("it")), workflow_name="sent", client=client)
        with pytest.raises(EngineError, match=f"result of node 'it' cannot be .*{reason}"):
            made.run()


def test_functions_that_cannot_be_sent(client: Client) -> None:
    """A function with an object that cannot be pickled fails its node, and dependents do not run."""
    held = threading.Lock()

    @workflow
    def holding() -> Any:
        return held

    made = DaskWorkflow(where(holding().set_name("it")), workflow_name="sent", client=client)
    with pytest.raises(EngineError, match=r"node 'it' cannot be sent to a worker.*cannot pickle"):
        made.run()


def test_sizes() -> None:
    """Dask knows the size of pickled results, so that it can spill them and place their dependents."""
    array = np.ones(1_000_000)

    assert sizeof(pickle_value(InstanceResult(array, None))) > array.nbytes
    assert sizeof(pickle_value(GroupResult({0: array, 1: array + 1}))) > 2 * array.nbytes


def test_names_in_the_dashboard(client: Client) -> None:
    """Dask's tasks are called after the nodes."""
    made = DaskWorkflow(where().set_name("the ä node"), workflow_name="names", client=client)
    seen: list[str] = []
    made.add_observer(lambda _: seen.extend(map(str, client.futures)))
    made.run()

    assert any(key.startswith("the ä node-") for key in seen)


def test_nothing_stays(client: Client) -> None:
    """After a run, the client holds nothing of it, whether it failed or not."""
    gc.collect()  # what pytest keeps of other tests
    with pytest.raises(TypeError):
        DaskWorkflow(add(add(1, 2), ""), workflow_name="stays", client=client).run()
    DaskWorkflow(add(add(1, 2), 3), workflow_name="stays", client=client).run()
    client.run_on_scheduler(os.getpid)  # behind all that the client had to say

    assert dict(client.futures) == {}


# ---- which cluster ----


def test_no_scheduler_at_the_address() -> None:
    """An address without a scheduler is an error that names it."""
    made = DaskWorkflow(where(), workflow_name="nobody", address="tcp://127.0.0.1:9")

    with pytest.raises(EngineError, match=r"no Dask scheduler answers at 'tcp://127.0.0.1:9'"):
        made.run()


def test_address(client: Client) -> None:
    """A workflow runs on the cluster of the scheduler at an address, and leaves it running."""
    assert client.scheduler is not None
    made = DaskWorkflow(add(1, 2), workflow_name="address", address=client.scheduler.address)

    assert [made.run(), made.run()] == [3, 3]


def test_own_cluster() -> None:
    """Without a client or an address, each run has a cluster of its own, whose processes end with it."""
    made = DaskWorkflow(where(), workflow_name="own", cluster_kwargs={"n_workers": 1})
    pid = made.run()

    assert pid != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.filterwarnings("ignore")  # of what Dask leaves when it cannot start
def test_own_cluster_that_cannot_be() -> None:
    """Arguments that LocalCluster does not take are named."""
    made = DaskWorkflow(where(), workflow_name="own", cluster_kwargs={"n_workers": "many"})

    with pytest.raises(EngineError, match=r"LocalCluster with .*'many'.* cannot be started"):
        made.run()


def test_one_way_only(client: Client) -> None:
    """Two ways to say which cluster to use are one too many."""
    with pytest.raises(OptionError, match="one of client and address"):
        DaskWorkflow(where(), workflow_name="two", client=client, address="tcp://127.0.0.1:9")


def test_clients_that_will_not_do(client: Client) -> None:
    """An asynchronous client is refused when it is given, a closed one when it is used."""

    async def made_with_asynchronous() -> None:
        assert client.scheduler is not None
        async with Client(client.scheduler.address, asynchronous=True) as own:
            DaskWorkflow(where(), workflow_name="async", client=own)

    with pytest.raises(OptionError, match=r"is asynchronous.*asynchronous=False"):
        asyncio.run(made_with_asynchronous())

    assert client.scheduler is not None
    closed = Client(client.scheduler.address, set_as_default=False)
    closed.close()
    with pytest.raises(EngineError, match="is closed: make a new one"):
        DaskWorkflow(where(), workflow_name="closed", client=closed).run()

"""Running graphs on Ray: the conformance suite, and what is Ray's own."""

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
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from functionfuse import workflow
from functionfuse.errors import EngineError, FunctionFuseWarning, OptionError
from functionfuse.events import NodeFailed
from functionfuse.storage import storage_factory
from functionfuse.testing import EngineTests
from functionfuse.testing.engine.suite import Journal, Latch, notes_of
from functionfuse.testing.engine.transport import Noting, size_of

ray = pytest.importorskip("ray")

from functionfuse.backends.builtin.rayback import RayWorkflow  # noqa: E402 - not without Ray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functionfuse.storage.base import Storage

pytestmark = pytest.mark.usefixtures("ray_cluster")


def without_actors(*nodes: Any, workflow_name: str) -> RayWorkflow:
    """A workflow whose instances are in no actor."""
    return RayWorkflow(*nodes, workflow_name=workflow_name, actors=False)


class TestWithActors(EngineTests):
    """The conformance suite on Ray, with an actor for each instance."""

    runs_in_other_processes = copies_values = keeps_instances = True
    max_examples = 3
    make_workflow = staticmethod(RayWorkflow)


class TestWithoutActors(EngineTests):
    """The conformance suite on Ray, where instances go from task to task."""

    runs_in_other_processes = copies_values = True
    max_examples = 5
    make_workflow = staticmethod(without_actors)


both = pytest.mark.parametrize("make", [RayWorkflow, without_actors], ids=["actors", "tasks"])


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Where nodes write what they did."""
    return Journal(str(tmp_path / "journal"))


@pytest.fixture
def latch(tmp_path: Path) -> Latch:
    """Where nodes wait."""
    return Latch(str(tmp_path / "gate"))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty storage."""
    return storage_factory({"kind": "file", "options": {"path": str(tmp_path / "storage")}})


def ray_workflow(*nodes: Any) -> RayWorkflow:
    """A workflow with a name."""
    return RayWorkflow(*nodes, workflow_name="ray")


@workflow
def same(value: Any) -> Any:
    """Give back what was taken."""
    return value


@workflow
def noted(journal: Journal, line: str, *needs: Any) -> str:
    """Write a line."""
    journal.write(line)
    return line


@workflow
def ones(count: int) -> Any:
    """Make an array; from some 100 kB on, it goes through shared memory."""
    return np.ones(count)


@workflow
def doubled(array: Any) -> Any:
    """Change what was taken."""
    array *= 2
    return array


@workflow
def process(_: int) -> int:
    """Tell in which process this runs."""
    return os.getpid()


@workflow
def looked_at(array: Any) -> tuple[bool, bool]:
    """Tell whether an array can be written to, and whether it is in shared memory."""
    return array.flags.writeable, in_shared_memory(array)


@workflow
def variable(name: str) -> str | None:
    """Look into the worker's environment."""
    return os.environ.get(name)


@workflow
def task_name() -> str:
    """Tell what Ray calls the task that this runs in."""
    name: str = ray.get_runtime_context().get_task_name()
    return name


@workflow
def assigned() -> dict[str, float]:
    """Tell what Ray gave the task."""
    resources: dict[str, float] = ray.get_runtime_context().get_assigned_resources()
    return resources


@workflow
def die(how: str, *needs: Any) -> None:
    """End the worker without a word."""
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


@workflow
def die_once(path: str, journal: Journal) -> str:
    """End the worker the first time."""
    journal.write("tried")
    if not Path(path).exists():
        Path(path).touch()
        os._exit(3)
    return "done"


@workflow
class Weights:
    """An array that methods change in place."""

    def __init__(self, start: Any) -> None:  # noqa: D107
        self.array = start

    def add(self, number: float) -> float:
        """Add to each."""
        self.array += number
        total: float = self.array.sum()
        return total

    def where(self) -> int:
        """Tell which process this is."""
        return os.getpid()

    def resources(self) -> dict[str, float]:
        """Tell what Ray gave the process."""
        resources: dict[str, float] = ray.get_runtime_context().get_assigned_resources()
        return resources

    def die(self) -> None:
        """End the worker."""
        os._exit(3)


@workflow
class Locked:
    """Holds what cannot be pickled."""

    def __init__(self) -> None:  # noqa: D107
        self.lock, self.count = threading.Lock(), 0

    def next(self) -> int:
        """Count."""
        with self.lock:
            self.count += 1
        return self.count


def in_shared_memory(array: Any) -> bool:
    """Tell whether an array lies in the memory that Ray's processes share."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= array.ctypes.data < end:
            return "plasma" in line
    return False


class TestValues:
    """What travels."""

    @both
    def test_arrays_can_be_changed(self, make: Any) -> None:
        """A function may write to a large array that it takes, and who else takes it does not see that."""
        array = ones(100_000)
        first, second = doubled(array), doubled(array)

        given = make(first, second, doubled(first), array, workflow_name="x").run()

        assert [2.0, 2.0, 4.0, 1.0] == [each[0] for each in given]
        assert all(each.flags.writeable for each in given)

    def test_arrays_anywhere_can_be_changed(self) -> None:
        """So it is for arrays in containers and objects, large and small."""

        @workflow
        def change(parts: dict[str, Any]) -> float:
            parts["deep"][0] += 1
            parts["object"].array[:] = 3
            total: float = parts["deep"].sum() + parts["object"].array.sum()
            return total

        for count in (1, 100_000):
            weights = Weights(ones(count))

            assert (
                count + 1 + 3 * count
                == ray_workflow(change({"deep": ones(count), "object": weights})).run()
            )

    def test_read_only_arrays_are_not_copied(self) -> None:
        """An array that its maker made read-only stays in shared memory, and read-only."""

        @workflow
        def read_only() -> Any:
            array = np.ones(100_000)
            array.setflags(write=False)
            return array

        assert [(False, True), (True, False)] == ray_workflow(
            looked_at(read_only()), looked_at(ones(100_000))
        ).run()

    def test_arrays_as_ray_gives_them_out(self) -> None:
        """On request no array is copied, and writing to one is an error of the node that tries."""
        array = ones(100_000)
        nodes = looked_at(array), looked_at(np.ones(100_000)), looked_at(ones(1))

        large, literal, small = RayWorkflow(*nodes, workflow_name="x", read_only=True).run()

        assert [(False, True), (False, True), (False, False)] == [large, literal, small]
        with pytest.raises(ValueError, match="read-only") as caught:
            RayWorkflow(doubled(array).set_name("writes"), workflow_name="x", read_only=True).run()
        assert any("in node 'writes'" in note for note in notes_of(caught.value))

    @pytest.mark.parametrize("actors", [True, False])
    def test_instances_of_read_only_workflows(self, *, actors: bool) -> None:
        """Methods change the arrays that their instance has made, wherever it is."""
        weights: Any = Weights(0)
        first = weights.add(np.ones(100_000))
        made = RayWorkflow(
            first, weights.add(1), weights, workflow_name="x", read_only=True, actors=actors
        )

        *sums, instance = made.run()

        assert [100_000.0, 200_000.0, 200_000.0] == [*sums, instance.array.sum()]

    @both
    def test_state_of_arrays_can_be_changed(self, make: Any) -> None:
        """Methods change large arrays of the instance in place; who takes it sees it as it was then."""
        weights = Weights(ones(100_000))
        first = weights.add(1)
        before = same(weights)
        second = weights.add(1)

        one, instance, two = make(first, before, second, workflow_name="x").run()

        assert (200_000.0, 300_000.0) == (one, two)
        assert 200_000.0 == instance.array.sum()

    def test_instances_stay_in_one_process(self) -> None:
        """The calls on an instance run in one process, so the instance may hold what cannot be pickled."""
        weights, locked = Weights(0), Locked()
        targets = [weights.where(), weights.where(), locked.next(), locked.next()]

        first, second, *counts = ray_workflow(*targets).run()

        assert first == second
        assert [1, 2] == counts

    def test_references_to_objects_of_ray(self) -> None:
        """A result may hold a reference to an object that the user put into Ray's store."""

        @workflow
        def put() -> Any:
            return {"reference": ray.put("there")}

        @workflow
        def get(value: Any) -> Any:
            return ray.get(value["reference"])

        assert "there" == ray_workflow(get(put())).run()

    def test_large_functions(self) -> None:
        """A function that holds much is sent once, not with each node."""
        table = np.ones(1_000_000)

        @workflow
        def look_up(index: int) -> float:
            value: float = table[index]
            return value

        assert [1.0] * 3 == ray_workflow(*[look_up(index) for index in range(3)]).run()

    @both
    def test_large_literals(self, make: Any) -> None:
        """A large array is an argument of functions and methods, each of which may write to its own."""
        array: Any = np.ones(100_000)
        weights = Weights(0)
        nodes = [doubled(array), doubled(array), weights.add(array), weights.add(array)]

        one, other, *sums = make(*nodes, workflow_name="x").run()

        assert [1.0, 2.0, 2.0] == [array[0], one[0], other[0]]
        assert [100_000.0, 200_000.0] == sums

    def test_large_literals_one_after_the_other(self, journal: Journal) -> None:
        """A large argument is pickled once also if few of the nodes that take it are with Ray at a time."""
        held = Noting(journal, bytes(1_000_000))

        made = ray_workflow(*[size_of(held) for _ in range(6)])

        assert [1_000_000] * 6 == made.run(max_pending_tasks=1)
        assert ["pickled"] == journal.lines()
        assert [1_000_000] * 6 == made.run(max_pending_tasks=2)
        assert ["pickled"] * 2 == journal.lines()


class TestRunning:
    """`run()` and its arguments."""

    def test_results_stay_in_the_storage(self, storage: Storage, journal: Journal) -> None:
        """Without return_results the targets are stored and None is given; again, nothing is even read."""
        made = ray_workflow(noted(journal, "x").set_name("x"), same([1]).set_name("y"))
        made.set_storage(storage)

        assert made.run(return_results=False) is None
        assert ["x", [1]] == [storage.read_task("ray", name) for name in "xy"]
        assert made.run(return_results=False) is None
        assert made.report is not None
        assert [] == list(made.report)
        assert ["x", [1]] == made.run()
        assert ["x"] == journal.lines()

    def test_results_need_a_storage_to_stay_in(self) -> None:
        """Without a storage, return_results=False would lose everything, and is refused."""
        with pytest.raises(OptionError, match="set_storage"):
            ray_workflow(same(1)).run(return_results=False)

    @pytest.mark.parametrize("wrong", [-1, 1.5, True, "2"])
    def test_max_pending_tasks_is_checked(self, wrong: Any) -> None:
        """A limit is a number of nodes."""
        with pytest.raises(OptionError, match="max_pending_tasks"):
            ray_workflow(same(1)).run(max_pending_tasks=wrong)

    @both
    def test_pending_tasks_are_limited(self, make: Any) -> None:
        """No more nodes than max_pending_tasks are with Ray at a time, calls on instances included."""
        weights = Weights(0)
        targets = [*(same(number) for number in range(6)), same(weights), same(weights)]
        made = make(*targets, workflow_name="x")
        pending, most = set[str](), 0

        def count(event: Any) -> None:
            nonlocal most
            name = getattr(event, "name", None)
            if name is not None:
                pending.add(name)
            elif hasattr(event, "record"):
                pending.discard(event.record.name)
            most = max(most, len(pending))

        made.add_observer(count)

        assert list(range(6)) == made.run(max_pending_tasks=2)[:6]
        assert 2 == most

    def test_nothing_new_starts(self, journal: Journal, latch: Latch, storage: Storage) -> None:
        """After a failure, what Ray has in its queue does not start either; what runs ends and is stored."""
        made = ray_workflow(fail_when(journal, "held"), *[held(latch, journal) for _ in range(12)])
        made.set_storage(storage)
        with latch.closed() as open_gate:

            def open_on_failure(event: Any) -> None:
                if isinstance(event, NodeFailed):
                    open_gate()

            made.add_observer(open_on_failure)
            with pytest.raises(ValueError, match="held"):
                made.run()

        assert {"held"} == set(journal.lines())
        assert len(journal.lines()) == len(storage.list_tasks("ray")) <= 3

    def test_names(self) -> None:
        """Ray shows nodes under their own names."""
        assert "the node" == ray_workflow(task_name().set_name("the node")).run()

    def test_a_running_ray_is_used(self) -> None:
        """The Ray that the process is connected to is used, and stays; its own address and "auto" are right."""
        before = ray.get_runtime_context().get_job_id()
        address = ray.get_runtime_context().gcs_address
        _, port = address.split(":")

        for right in (address, f"localhost:{port}", "auto", f"ray://127.0.0.1:{port}", None):
            made = RayWorkflow(same(1), workflow_name="x", ray_init_args={"address": right})
            assert 1 == made.run()
        assert before == ray.get_runtime_context().get_job_id()
        assert ray.is_initialized()

    @pytest.mark.parametrize("address", ["127.0.0.1:1", "192.0.2.1:{port}"])
    def test_another_cluster_than_the_running_ray(self, address: str) -> None:
        """The address of another cluster is refused, instead of running on the wrong one."""
        used = ray.get_runtime_context().gcs_address
        address = address.format(port=used.split(":")[1])
        made = RayWorkflow(same(1), workflow_name="x", ray_init_args={"address": address})

        with pytest.raises(OptionError, match=f"cluster at '{address}'.*the one at '{used}'"):
            made.run()

    def test_arguments_that_a_running_ray_was_not_given(self) -> None:
        """What comes too late for ray.init is told, at the line of the run; not if it says to go on."""
        late: dict[str, Any] = {"address": "local", "num_cpus": 1, "namespace": None}
        made = RayWorkflow(same(1), workflow_name="x", ray_init_args=late)

        with pytest.warns(FunctionFuseWarning, match="not used: address, num_cpus") as caught:
            assert 1 == made.run()
        assert __file__ == caught[0].filename
        quiet = {**late, "ignore_reinit_error": True}
        assert 1 == RayWorkflow(same(1), workflow_name="x", ray_init_args=quiet).run()


@workflow
def held(latch: Latch, journal: Journal) -> str:
    """Wait at a gate."""
    journal.write("held")
    latch.wait()
    return "held"


@workflow
def fail_when(journal: Journal, line: str) -> None:
    """Raise when two others have started."""
    while journal.lines().count(line) < 2:
        time.sleep(0.01)
    raise ValueError(line)


class TestRemoteArgs:
    """`query(pattern).set_remote_args`."""

    def test_resources(self) -> None:
        """A node gets what it asks for."""
        made = ray_workflow(assigned().set_name("two"), assigned().set_name("none"))
        made.query("two").set_remote_args({"num_cpus": 2})
        made.query("none").set_remote_args({"num_cpus": 0})

        two, none = made.run()

        assert (2.0, None) == (two["CPU"], none.get("CPU"))

    def test_resources_of_an_instance(self) -> None:
        """The actor of an instance gets what the instance asks for."""
        weights: Any = Weights(0)
        made = ray_workflow(weights.set_name("weights").resources())
        made.query("weights").set_remote_args({"num_cpus": 1})

        assert 1.0 == made.run()["CPU"]

    def test_runtime_env(self) -> None:
        """A node runs in its own runtime environment, also a call on an instance."""
        made = ray_workflow(variable("FLAVOUR"))
        made.query().set_remote_args({"runtime_env": {"env_vars": {"FLAVOUR": "sweet"}}})

        assert "sweet" == made.run()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_cpu": 1}, "unknown option of a Ray task: 'num_cpu'.*'num_cpus'"),
            ({"num_cpus": -1}, "Ray refuses.*negative"),
            ({"max_retries": "3"}, "Ray refuses.*max_retries"),
            ({"resources": {"CPU": 1}}, "Ray refuses.*num_cpus"),
            ({"num_returns": 3}, "'num_returns' cannot be set"),
            ({"max_restarts": 3}, "'max_restarts' cannot be set.*lost"),
            ({"namespace": "x"}, "unknown option of a Ray task: 'namespace'"),
        ],
    )
    def test_wrong_options_are_refused(self, options: dict[str, Any], message: str) -> None:
        """What Ray does not know or refuses, or would change what a run means, is refused when it is set."""
        with pytest.raises(OptionError, match=message):
            ray_workflow(same(1)).query().set_remote_args(options)

    def test_options_of_instances(self) -> None:
        """An instance takes options of actors, and without actors those of tasks."""
        node = Weights(0).add(1)
        ray_workflow(node).query("Weights.*").set_remote_args({"namespace": "x"})

        with pytest.raises(OptionError, match=r"'max_retries'.*'Weights_0000' runs in one"):
            ray_workflow(node).query().set_remote_args({"max_retries": 1})
        without_actors(node, workflow_name="x").query().set_remote_args({"max_retries": 1})

    def test_methods_run_where_the_instance_is(self) -> None:
        """A method cannot ask for something else than its instance has."""
        node: Any = Weights(ones(1)).add(1)
        node.set_name("add")
        made = ray_workflow(node)
        made.query("add").set_remote_args({"num_cpus": 2})

        with pytest.raises(OptionError, match=r"'add' was given.*'Weights_0000'"):
            made.run()
        made.query("Weights.*").set_remote_args({"num_cpus": 2})
        assert 2 == made.run()

    @pytest.mark.parametrize(
        "request_", [{"num_cpus": 4}, {"resources": {"unobtainium": 1}}, {"num_gpus": 1}]
    )
    def test_requests_that_nobody_can_meet(
        self, request_: dict[str, Any], journal: Journal
    ) -> None:
        """What no node of the cluster has is an error before anything runs; Ray itself would wait."""
        made = ray_workflow(same(noted(journal, "first")).set_name("greedy"))
        made.query("greedy").set_remote_args(request_)

        with pytest.raises(OptionError, match=r"node 'greedy' asks for .*they have: CPU: 3"):
            made.run()
        assert [] == journal.lines()

    def test_labels_that_no_node_has(self) -> None:
        """So it is with labels."""
        made = ray_workflow(same(1).set_name("x"))
        made.query().set_remote_args({"label_selector": {"zone": "in(north, south)"}})

        with pytest.raises(OptionError, match="node 'x' asks for CPU: 1 with labels"):
            made.run()
        made.query().set_remote_args({"label_selector": {"zone": "!north"}})
        assert 1 == made.run()

    def test_stored_nodes_ask_for_nothing(self, storage: Storage) -> None:
        """Who only reads what is stored needs none of the resources that computing it took."""
        made = ray_workflow(same(1).set_name("x"))
        made.set_storage(storage)
        made.run()
        made.query().set_remote_args({"num_gpus": 1})

        assert 1 == made.run()

    def test_init_args_are_checked(self) -> None:
        """An option that ray.init does not know is refused when the workflow is made."""
        with pytest.raises(OptionError, match=r"unknown option of ray.init: 'adress'.*'address'"):
            RayWorkflow(same(1), workflow_name="x", ray_init_args={"adress": "auto"})


class Unsendable(Exception):
    """Cannot be pickled, and does not say what it holds."""

    def __init__(self) -> None:  # noqa: D107
        super().__init__(threading.Lock())


class TestFailures:
    """What goes wrong on the way."""

    @pytest.mark.parametrize("how", ["exit", "kill"])
    def test_workers_that_die(self, how: str, journal: Journal) -> None:
        """A worker that ends without a word is an error that names the node; nothing is run again unasked."""
        dead = die(how, noted(journal, "before")).set_name("dead")
        made = ray_workflow(noted(journal, "after", dead))

        with pytest.raises(EngineError, match="worker of node 'dead' died") as caught:
            made.run()

        assert any("in node 'dead' (die at" in note for note in notes_of(caught.value))
        assert ["before"] == journal.lines()

    def test_workers_of_groups_that_die(self) -> None:
        """So it is for nodes that run together."""
        made = ray_workflow(die("exit", same(1).set_name("a")).set_name("b"))
        made.query().fuse()

        with pytest.raises(EngineError, match=r"worker of node 'a .. b \(2 nodes\)' died"):
            made.run()

    def test_actors_that_die(self) -> None:
        """So it is for the worker of an instance, and later calls on it do not run."""
        weights: Any = Weights(0)
        weights.die().set_name("dead")

        with pytest.raises(EngineError, match="worker of node 'dead' died"):
            ray_workflow(weights.add(1)).run()

    @pytest.mark.parametrize("stored", ["stored", "not stored"])
    def test_retries(self, tmp_path: Path, journal: Journal, storage: Storage, stored: str) -> None:
        """Who asks for retries gets them, with a storage as without."""
        made = ray_workflow(die_once(str(tmp_path / "file"), journal))
        made.query().set_remote_args({"max_retries": 2})
        if stored == "stored":
            made.set_storage(storage)

        assert "done" == made.run()
        assert ["tried", "tried"] == journal.lines()

    def test_retries_after_exceptions(self, journal: Journal) -> None:
        """Ray's retry_exceptions sees the exceptions that functions raise, by their type."""

        @workflow
        def fail_twice() -> int:
            journal.write("tried")
            if len(journal.lines()) < 3:
                raise KeyError
            return len(journal.lines())

        made = ray_workflow(fail_twice())
        made.query().set_remote_args({"max_retries": 5, "retry_exceptions": [KeyError]})

        assert 3 == made.run()

    def test_functions_that_cannot_be_pickled(self, journal: Journal) -> None:
        """A function or argument that cannot be sent fails its node, by name, and no other."""
        lock = threading.Lock()
        other = noted(journal, "other")
        for node in (workflow(lambda: lock)(), same(lock)):
            made = ray_workflow(same(node.set_name("locked")), other)

            with pytest.raises(EngineError, match=r"node 'locked' cannot be sent.*lock"):
                made.run(on_error="continue")
        assert ["other", "other"] == journal.lines()

    @both
    def test_results_that_cannot_be_pickled(self, make: Any) -> None:
        """A result that cannot be sent fails its node."""
        node = workflow(threading.Lock)().set_name("locked")

        with pytest.raises(EngineError, match=r"cannot be pickled.*lock") as caught:
            make(same(node), workflow_name="x").run()
        assert any("in node 'locked'" in note for note in notes_of(caught.value))

    def test_instances_that_cannot_be_pickled(self) -> None:
        """An instance that cannot be sent fails where somebody else than its methods takes it."""
        locked = Locked()

        with pytest.raises(EngineError, match=r"the instance.*cannot be pickled.*lock"):
            ray_workflow(same(locked)).run()

    def test_exceptions_that_cannot_be_pickled(self) -> None:
        """An exception that holds what cannot be sent keeps its type."""

        @workflow
        def refuse() -> None:
            raise Unsendable

        with pytest.raises(Unsendable, match="lock") as caught:
            ray_workflow(refuse().set_name("x")).run()
        assert any("in node 'x'" in note for note in notes_of(caught.value))

    def test_traceback(self) -> None:
        """The cause of an exception shows where it was raised in the worker."""
        with pytest.raises(ZeroDivisionError) as caught:
            ray_workflow(workflow(divide)(1, 0)).run()

        assert "return a / b" in str(caught.value.__cause__)

    @both
    def test_exit(self, make: Any) -> None:
        """What is no `Exception` arrives as it was raised."""
        with pytest.raises(SystemExit) as caught:
            make(workflow(sys.exit)(7), workflow_name="x").run()

        assert 7 == caught.value.code


def divide(a: float, b: float) -> float:
    """Divide."""
    return a / b


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


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script that has no Ray yet."""
    command = [sys.executable, "-c", _START + _OWN, *arguments]
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
    """What was cancelled and is not ours ends, also in a worker that has run nodes before."""

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

    def test_interruption(self, journal: Journal) -> None:
        """Ctrl-C ends the run and its nodes, on instances too: the next run has their cores; nothing is left."""
        with tempfile.TemporaryDirectory(prefix="r") as folder:
            command = [sys.executable, "-c", _START + _INTERRUPTED, "local", folder, journal.path]
            with subprocess.Popen(  # noqa: S603
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as process:
                wait_until(lambda: process.poll() is not None or len(journal.lines()) == 3)
                process.send_signal(signal.SIGINT)
                output, errors = process.communicate(timeout=100)

            assert "interrupted 1" == output.strip(), errors
            wait_until(lambda: [] == processes_of(folder))
            wait_until(lambda: not any(Path("/proc", pid).exists() for pid in journal.lines()))

    def test_nobody_listens(self, tmp_path: Path) -> None:
        """An address where nobody listens is an error that gives the address."""
        for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
            done = run_script(address, str(tmp_path))

            assert f"nobody listens at the address of the Ray cluster, {address!r}" in done.stderr

    @pytest.mark.parametrize("scheme", ["", "ray://"])
    @pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
    def test_somebody_else_listens(self, tmp_path: Path, scheme: str, answer: bytes) -> None:
        """An address where somebody listens who is not Ray is an error soon, be he silent or not."""
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
    """A port where whoever connects gets an answer, or silence."""
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
    """Wait for what other processes do after their parent has ended: nothing tells when."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)

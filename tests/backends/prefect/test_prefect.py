"""PrefectWorkflow against a real Prefect server, read through the server's own API."""

from __future__ import annotations

import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect_helpers import (
    EDGES,
    EDGES_RESULT,
    PATIENCE,
    edges,
    edges_targets,
    flow_run,
    log_messages,
    make,
    task_runs,
)

from functionfuse import workflow
from functionfuse.errors import OptionError
from functionfuse.storage import storage_factory
from functionfuse.testing import EngineTests

prefect = pytest.importorskip("prefect")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefect.client.orchestration import SyncPrefectClient

    from functionfuse.backends.addons.prefectback import PrefectWorkflow


@pytest.mark.usefixtures("server")
class TestPrefectThreads(EngineTests):
    """The conformance suite on Prefect's own default task runner."""

    max_examples = 10

    def make_workflow(self, *nodes: Any, workflow_name: str = "suite") -> PrefectWorkflow:
        """On Prefect."""
        return make(*nodes, workflow_name=workflow_name)


def ran(folder: Path) -> list[str]:
    """Which nodes executed, in order."""
    log = folder / "ran"
    return log.read_text().split() if log.exists() else []


@workflow
def add(a: int, b: int, log: str | None = None) -> int:
    """Add two numbers."""
    if log:
        with Path(log).open("a") as file:
            file.write("add\n")
    return a + b


@workflow
def multiply(a: int, b: int, log: str | None = None) -> int:
    """Multiply two numbers."""
    if log:
        with Path(log).open("a") as file:
            file.write("multiply\n")
    return a * b


class TestFlow:
    """The flow is an ordinary flow of Prefect."""

    def test_page(self, server: SyncPrefectClient) -> None:
        """The page of the README: a flow named after the workflow, and the sum."""
        node1 = add(1, 1).set_name("node1")
        sums = make(add(node1, 1).set_name("node2"), workflow_name="sums")
        sums.generate_flow()
        assert 3 == sums.run()
        assert isinstance(sums.flow, prefect.Flow)
        assert "sums" == sums.flow.name
        assert {"node1", "node2"} == set(task_runs(server, "sums", 2))
        assert "Completed" == flow_run(server, "sums").state_name

    def test_run_generates(self, server: SyncPrefectClient) -> None:
        """run() makes the flow if there is none, and can be called again."""
        again = make(add(1, 2), workflow_name="again")
        assert [3, 3] == [again.run(), again.run()]

    def test_flow_can_be_called(self, server: SyncPrefectClient) -> None:
        """The generated flow is called like any other, also inside another flow."""
        inner = make(add(1, 2), multiply(2, 3), workflow_name="inner").generate_flow()

        @prefect.flow  # type: ignore[untyped-decorator]
        def outer() -> Any:
            return inner()

        assert [3, 6] == inner()
        assert [3, 6] == outer()

    def test_settings_of_a_called_flow(self, server: SyncPrefectClient) -> None:
        """A flow that is called runs with the same settings as run(), in which nothing waits for nothing."""
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY

        @workflow
        def heartbeat() -> object:
            """Look at a setting."""
            return PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value()

        looking = make(heartbeat(), workflow_name="looking")
        assert [None, None] == [looking.flow(), looking.run()]

    def test_settings_of_the_user(self, server: SyncPrefectClient) -> None:
        """Options of the user override the backend's defaults."""
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        @workflow
        def heartbeat() -> object:
            """Look at a setting."""
            return PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value()

        looking = make(heartbeat(), workflow_name="looking-again")
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 45}):
            assert [45, 45] == [looking.flow(), looking.run()]

    def test_name_that_prefect_refuses(self, server: SyncPrefectClient) -> None:
        """A workflow name with characters that Prefect forbids gives a flow all the same."""
        odd = make(add(1, 2), workflow_name="a/b & <c>%")
        assert 3 == odd.run()
        assert "a-b - -c--" == odd.flow.name

    def test_flow_options(self, server: SyncPrefectClient) -> None:
        """Every option of @flow reaches the flow."""
        options = {
            "name": "another",
            "description": "adds",
            "retries": 1,
            "timeout_seconds": 60,
            "log_prints": True,
            "persist_result": False,
            "task_runner": prefect.task_runners.ConcurrentTaskRunner(max_workers=3),
        }
        optioned = make(add(1, 2), workflow_name="options")
        optioned.set_prefect_flow_options(options)
        flow = optioned.generate_flow()
        assert options == {name: getattr(flow, name) for name in options}
        assert 3 == optioned.run()

    def test_flow_options_after_generating(self) -> None:
        """Options set after the first run take effect: the flow is made again."""
        late = make(add(1, 2), workflow_name="late")
        late.generate_flow()
        late.set_prefect_flow_options({"description": "later"})
        assert "later" == late.flow.description

    @pytest.mark.parametrize("options", [{"retrys": 1}, {"retries": 1, "cpu": 2}])
    def test_unknown_flow_option(self, options: dict[str, Any]) -> None:
        """An option that @flow does not know is refused when it is set, with those that it does."""
        with pytest.raises(OptionError, match=r"option of a Prefect flow.*retry_delay_seconds"):
            make(add(1, 2), workflow_name="bad").set_prefect_flow_options(options)

    def test_unknown_task_option(self) -> None:
        """An option that @task does not know is refused when it is set, with the nearest."""
        with pytest.raises(OptionError, match="did you mean 'retries'"):
            make(add(1, 2), workflow_name="bad").query().set_task_args({"retrys": 1})

    def test_refused_values(self) -> None:
        """A value that Prefect refuses is refused when it is set."""
        bad = make(add(1, 2), workflow_name="bad")
        with pytest.raises(OptionError, match="retry_delay_seconds"):
            bad.query().set_task_args({"retries": 1, "retry_delay_seconds": "soon"})
        with pytest.raises(OptionError, match="on_failure"):
            bad.set_prefect_flow_options({"on_failure": [1]})

    def test_flow_retries(self, server: SyncPrefectClient, tmp_path: Path) -> None:
        """A flow's retries run the graph again; with a storage only what is missing."""

        @workflow
        def fails_once(value: int) -> int:
            """Fail at the first call."""
            flag = tmp_path / "called"
            if not flag.exists():
                flag.touch()
                message = "not yet"
                raise RuntimeError(message)
            return value

        once = add(1, 2, log=str(tmp_path / "ran")).set_name("once")
        retried = make(fails_once(once), workflow_name="flow-retries")
        retried.set_prefect_flow_options({"retries": 1})
        retried.set_storage(storage_factory({"kind": "file", "options": {"path": tmp_path / "s"}}))
        assert 3 == retried.run()
        assert ["add"] == ran(tmp_path)


class TestTaskRuns:
    """The server's record of a run."""

    def test_edges(self, server: SyncPrefectClient) -> None:
        """Dependencies of whole results, items, containers and instances are Prefect's own; equal literals are none."""
        assert EDGES_RESULT == make(*edges_targets(), workflow_name="edges").run()
        assert EDGES == edges(task_runs(server, "edges", len(EDGES)))

    @pytest.mark.parametrize(
        "name", ["a/b", "{x}", "{", "a<b>&%c", "übung 雪", "new\nline", "n" * 300, "{{a}} b"]
    )
    def test_names(self, server: SyncPrefectClient, name: str) -> None:
        """A task run is called as its node, whatever its name."""
        make(add(1, 2).set_name(name), workflow_name="names").run()
        assert [name] == list(task_runs(server, "names", 1))

    def test_failure(self, server: SyncPrefectClient, tmp_path: Path) -> None:
        """A failed node is Failed and so is the flow run; what depended on it does not appear; what was stored stays."""

        @workflow
        def divide(a: int, b: int) -> float:
            """Divide."""
            return a / b

        good = add(1, 2).set_name("good")
        bad = divide(good, 0).set_name("bad")
        failing = make(add(bad, 1).set_name("after"), workflow_name="failing")
        storage = storage_factory({"kind": "file", "options": {"path": tmp_path}})
        failing.set_storage(storage)
        with pytest.raises(ZeroDivisionError) as raised:
            failing.run()
        note = "in node 'bad' (TestTaskRuns.test_failure.divide at test_prefect.py:"
        assert 1 == len([line for line in raised.value.__notes__ if line.startswith(note)])
        runs = task_runs(server, "failing", 2)
        assert {"good": "Completed", "bad": "Failed"} == {
            name: run.state_name for name, run in runs.items()
        }
        assert "Failed" == flow_run(server, "failing").state_name
        assert ["good"] == storage.list_tasks("failing")

    def test_stored(self, server: SyncPrefectClient, tmp_path: Path) -> None:
        """A node loaded from the storage is a Completed run named Stored; skipped nodes do not appear."""
        last = add(add(1, 2).set_name("first"), 3).set_name("last")
        for expected in ({"first": "Completed", "last": "Completed"}, {"last": "Stored"}):
            stored = make(last, workflow_name="stored")
            stored.set_storage(storage_factory({"kind": "file", "options": {"path": tmp_path}}))
            assert 6 == stored.run()
            runs = task_runs(server, "stored", len(expected))
            assert expected == {name: run.state_name for name, run in runs.items()}

    def test_logs(self, server: SyncPrefectClient) -> None:
        """Prints and logs of a node are in its task run's logs when log_prints is on."""

        @workflow
        def speak() -> None:
            """Say something."""
            print("printed words")  # noqa: T201
            prefect.get_run_logger().info("logged words")

        loud = make(speak().set_name("speaker"), workflow_name="logs")
        loud.set_prefect_flow_options({"log_prints": True})
        loud.run()
        run = task_runs(server, "logs", 1)["speaker"]
        assert {"printed words", "logged words"} <= set(log_messages(server, run, 2))

    def test_tags_and_retries(self, server: SyncPrefectClient, tmp_path: Path) -> None:
        """Options by query reach the nodes that match, and no others."""

        @workflow
        def fails_once(value: int) -> int:
            """Fail at the first call."""
            flag = tmp_path / "called"
            if not flag.exists():
                flag.touch()
                message = "not yet"
                raise RuntimeError(message)
            return value

        source = add(1, 2).set_name("source")
        retried = make(fails_once(source).set_name("retried"), workflow_name="task-retries")
        retried.query("retr.*").set_task_args({"retries": 1, "tags": ["slow"]})
        assert 3 == retried.run()
        runs = task_runs(server, "task-retries", 2)
        assert {"source": (1, []), "retried": (2, ["slow"])} == {
            name: (run.run_count, run.tags) for name, run in runs.items()
        }

    def test_retried_method(self, server: SyncPrefectClient, tmp_path: Path) -> None:
        """A method that changes its instance and then fails is retried from the instance's state before the call."""

        @workflow
        class Counter:
            """Counts."""

            def __init__(self) -> None:
                self.count = 0

            def up(self) -> int:
                """Count, and fail at the first call."""
                self.count += 1
                flag = tmp_path / "called"
                if not flag.exists():
                    flag.touch()
                    message = "not yet"
                    raise RuntimeError(message)
                return self.count

        counter = Counter()
        targets = [counter.up(), counter.up()]
        counting = make(*targets, workflow_name="counting")
        counting.query(".*up.*").set_task_args({"retries": 1})
        assert [1, 2] == counting.run()

    def test_nodes_overlap(self, server: SyncPrefectClient) -> None:
        """Independent nodes run at the same time: each waits for the other."""
        barrier = threading.Barrier(2)

        @workflow
        def meet(_: int) -> bool:
            """Wait for the other one."""
            barrier.wait(timeout=PATIENCE)
            return True

        assert [True, True] == make(meet(1), meet(2), workflow_name="overlap").run()

    def test_saved_immediately(self, server: SyncPrefectClient, tmp_path: Path) -> None:
        """A result is stored before the nodes that take it start."""

        @workflow
        def is_stored(_: int) -> bool:
            """Look for the file."""
            return (tmp_path / "saved-at-once" / "first").exists()

        saving = make(is_stored(add(1, 2).set_name("first")), workflow_name="saved-at-once")
        saving.set_storage(storage_factory({"kind": "file", "options": {"path": tmp_path}}))
        assert saving.run()

    def test_arguments_are_not_looked_through(self, server: SyncPrefectClient) -> None:
        """Prefect does not visit the elements of an argument, which costs seconds for a long list."""

        @workflow
        def length(values: list[int], more: Any) -> int:
            """Count."""
            return len(values) + len(more["k"])

        node = length(Untouchable([1, 2, 3]), more={"k": Untouchable([4])})
        assert 4 == make(node, workflow_name="untouched").run()


class Untouchable(list[int]):
    """A list that cannot be iterated over."""

    def __iter__(self) -> Iterator[int]:
        message = "an element was read"
        raise AssertionError(message)


class TestCaching:
    """Prefect's cache works as for a plain task."""

    @staticmethod
    def policies() -> dict[str, dict[str, Any]]:
        """Ways to ask for it."""
        from prefect.cache_policies import INPUTS, TASK_SOURCE
        from prefect.tasks import task_input_hash

        return {
            "task_input_hash": {"cache_key_fn": task_input_hash},
            "source": {"cache_policy": TASK_SOURCE + INPUTS},
        }

    @pytest.mark.parametrize("policy", ["task_input_hash", "source"])
    def test_shared(self, server: SyncPrefectClient, tmp_path: Path, policy: str) -> None:
        """Two nodes of one function with the same resolved inputs share an entry; different functions never do."""
        log = str(tmp_path / "ran")
        seed = add(1, 1)
        nodes = [
            add(2, 5, log=log).set_name("first_sum"),
            add(seed, 5, log=log).set_name("second_sum"),
            multiply(2, 5, log=log).set_name("product_sum"),
        ]
        caching = make(*nodes, workflow_name=f"caching-{policy}")
        caching.set_prefect_flow_options(
            {"task_runner": prefect.task_runners.ConcurrentTaskRunner(max_workers=1)}
        )
        caching.query("^.*sum.*$").set_task_args(self.policies()[policy])
        assert [7, 7, 10] == caching.run()
        assert ["add", "multiply"] == sorted(ran(tmp_path))
        assert caching.report is not None
        assert 1 == len(caching.report.names("cached"))
        assert [7, 7, 10] == caching.run()
        assert ["add", "multiply"] == sorted(ran(tmp_path))

    def test_inputs_policy(self, server: SyncPrefectClient, tmp_path: Path) -> None:
        """INPUTS compares the inputs alone, as Prefect says."""
        from prefect.cache_policies import INPUTS

        log = str(tmp_path / "ran")
        caching = make(multiply(add(3, 4, log=log), 1, log=log), workflow_name="caching-inputs")
        caching.query().set_task_args({"cache_policy": INPUTS})
        assert [7, 7] == [caching.run(), caching.run()]
        assert ["add", "multiply"] == ran(tmp_path)

    def test_keys_are_those_of_a_task_by_hand(self, server: SyncPrefectClient) -> None:
        """The task key, the cache key and the arguments are those of the same plain task."""
        keys: dict[str, list[Any]] = defaultdict(list)

        def key(context: Any, arguments: dict[str, Any]) -> None:
            from prefect.tasks import task_input_hash

            kind = "node" if context.task_run.name == "node" else "hand"
            keys[kind] += [context.task.task_key, arguments, task_input_hash(context, arguments)]
            keys[kind] += [context.task.source_code, context.task.description]

        caching = make(add(add(1, 2), b=3).set_name("node"), workflow_name="keys")
        caching.query("node").set_task_args({"cache_key_fn": key})
        caching.run()

        @prefect.flow  # type: ignore[untyped-decorator]
        def by_hand() -> None:
            prefect.task(cache_key_fn=key)(add.__wrapped__)(3, b=3)

        by_hand()
        assert 5 == len(keys["node"])
        assert keys["hand"] == keys["node"]

    def test_cached_is_stored(self, server: SyncPrefectClient, tmp_path: Path) -> None:
        """A result from Prefect's cache is saved to the storage if it is missing there."""
        storage = storage_factory({"kind": "file", "options": {"path": tmp_path}})
        node = add(41, 1).set_name("answer")
        for _ in range(2):
            caching = make(node, workflow_name="cached-stored")
            caching.query().set_task_args(self.policies()["task_input_hash"])
            caching.run()
            caching.set_storage(storage)
        assert 42 == caching.run()
        assert 42 == storage.read_task("cached-stored", "answer")

    def test_nothing_is_hashed_unasked(self, server: SyncPrefectClient) -> None:
        """Without an option about caching no cache key is computed: an argument that has none is accepted."""

        @workflow
        def is_locked(lock: Any) -> bool:
            """Look at a lock."""
            return bool(lock.locked())

        assert not make(is_locked(threading.Lock()).set_name("lock"), workflow_name="locks").run()
        run = task_runs(server, "locks", 1)["lock"]
        assert ["Finished in state Completed()"] == log_messages(server, run, 1)

"""Undocumented parts of Prefect: the installed version has them, and what happens in a version that lacks one."""

from __future__ import annotations

import inspect
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest

prefect = pytest.importorskip("prefect")

from functionfuse.backends.addons.prefectback import _compat  # noqa: E402 - needs Prefect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefect.events.worker import EventsWorker

#: Any address: nothing connects to it.
URL = "http://127.0.0.1:9/api"


@pytest.fixture
def worker() -> Iterator[type[EventsWorker]]:
    """Prefect's class of event workers, whose override is removed again."""
    from prefect.events.worker import EventsWorker

    yield EventsWorker
    EventsWorker.set_client_override(None)


def test_functions_with_both_variants_are_called_synchronously() -> None:
    """Functions with an `aio` variant get `_sync`; others are called without it."""
    from prefect.artifacts import create_markdown_artifact
    from prefect.client.schemas.objects import State
    from prefect.flows import Flow

    functions = create_markdown_artifact, State.result, Flow.deploy, Flow.from_source
    assert all(hasattr(function, "aio") for function in functions)

    def synchronous(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    assert ((1,), {"key": 2}) == _compat.call_sync(synchronous, 1, key=2)
    synchronous.aio = synchronous  # type: ignore[attr-defined]
    assert ((1,), {"key": 2, "_sync": True}) == _compat.call_sync(synchronous, 1, key=2)


def test_events_go_to_the_server_of_the_latest_run(worker: type[EventsWorker]) -> None:
    """The latest of the runs in progress; without a run, Prefect chooses."""
    with _compat.route_events(URL):
        with _compat.route_events(f"{URL}/inner"):
            assert f"{URL}/inner" in str(worker._client_override)  # noqa: SLF001 - Prefect shows it nowhere else
        assert str(worker._client_override).endswith(f"'{URL}'),))")  # noqa: SLF001 - Prefect shows it nowhere else
    assert worker._client_override is None  # noqa: SLF001 - Prefect shows it nowhere else


def test_without_an_override_events_go_where_prefect_sends_them(
    worker: type[EventsWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version without it runs workflows as well."""
    with monkeypatch.context() as patched:
        patched.delattr(worker, "set_client_override")
        with _compat.route_events(URL):
            assert worker._client_override is None  # noqa: SLF001 - Prefect shows it nowhere else


def test_waiting_without_a_queue_ends(
    worker: type[EventsWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version without a queue to wait for does not block the end of a run."""
    monkeypatch.setattr(worker, "instance", object)
    _compat.wait_until_events_sent(timeout=60)


def test_a_future_without_a_state_has_no_final_state() -> None:
    """Without the attribute, a future counts as one without a state."""
    from prefect.futures import PrefectConcurrentFuture

    assert "_final_state" in inspect.getsource(PrefectConcurrentFuture)
    assert not _compat.has_final_state(object())


def test_cycles_of_a_future_are_broken() -> None:
    """A future that is done refers to nothing afterwards."""
    future: Future[int] = Future()
    future.set_result(1)
    _compat.break_cycles(future)
    assert {} == vars(future)


def test_the_recorder_flushes_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting's least interval is replaced, and no other; without the function, nothing is."""
    from prefect.server.services import task_run_recorder

    assert "flush_every" in inspect.signature(task_run_recorder.consumer).parameters

    monkeypatch.setattr(task_run_recorder, "consumer", lambda **options: options)
    _compat.set_recorder_flush(0.1)
    consumer: Any = task_run_recorder.consumer
    assert [0.1, 5] == [consumer(flush_every=seconds)["flush_every"] for seconds in (1, 5)]

    monkeypatch.delattr(task_run_recorder, "consumer")
    _compat.set_recorder_flush(0.1)
    assert not hasattr(task_run_recorder, "consumer")

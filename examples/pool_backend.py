"""A complete backend: each node runs in a process of a pool of concurrent.futures."""
# ruff: noqa: ARG002, BLE001, D101, D102 - docs/writing-a-backend.md says what each method is for

from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pickle import loads
from typing import Any

from functionfuse.backends.base import Query, Workflow
from functionfuse.engine import Capabilities, dump_exception, dumps, execute, load_exception
from functionfuse.errors import EngineError


class PoolEngine:
    name, capabilities = "pool", Capabilities()

    def drive(self, body: Any) -> Any:
        with ProcessPoolExecutor(mp_context=get_context("forkserver")) as self.pool:
            return body()

    def submit(self, unit: Any, inputs: Any, options: Any) -> Future[Any]:
        try:
            values = [handle.result()[1] for handle in inputs]
            return self.pool.submit(_execute, _pickled((unit, values), unit))
        except (EngineError, BrokenExecutor) as error:  # it fails this node, not the run
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed

    def wait(self, pending: Any) -> Any:
        return wait(pending, return_when=FIRST_COMPLETED).done

    def record(self, handle: Future[Any]) -> Any:
        try:
            record, _, error = handle.result()
        except BrokenExecutor as broken:
            message = "a process of the pool died"
            raise EngineError(message) from broken
        if error:
            raise load_exception(error)
        return record

    def fetch(self, handle: Future[Any]) -> Any:
        return loads(handle.result()[1])

    def release(self, handle: Future[Any]) -> None:
        pass  # the value goes with its future

    def cancel(self, pending: Any) -> None:
        for handle in pending:
            handle.cancel()


def _execute(sent: bytes) -> tuple[Any, Any, Any]:  # in the worker: record, value, error
    try:
        unit, values = loads(sent)
        value, record = execute(unit, [loads(each) for each in values])
        return record, _pickled(value, unit), None
    except BaseException as error:
        return None, None, dump_exception(error)


def _pickled(value: Any, unit: Any) -> bytes:
    try:
        data = dumps(value)
        loads(data)  # what cannot be read again is found here, where its node is known
    except Exception as error:
        message = f"what node {unit.node.name!r} takes or gives cannot be pickled: {error}"
        raise EngineError(message) from error
    return data


class PoolWorkflow(Workflow[Query, Any]):
    _query = Query

    def _engine(self) -> PoolEngine:
        return PoolEngine()

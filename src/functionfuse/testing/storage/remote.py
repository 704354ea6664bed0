"""Remote storage tests: broken connections, and the number of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

from functionfuse.errors import ResultNotFound, StorageError
from functionfuse.testing.storage.runs import Calls, fan, run
from functionfuse.testing.storage.suite import StorageSuite, number_of, value_of

if TYPE_CHECKING:
    from functionfuse.storage.base import Storage
    from functionfuse.testing.storage.suite import Connection, Requests

__all__ = ["ConnectionTests", "RequestTests"]

#: Methods that need a connection, and their arguments.
METHODS: Final[dict[str, tuple[Any, ...]]] = {
    **dict.fromkeys(("read_task", "file_exists", "info", "remove_task"), ("w", "node")),
    "list_tasks": ("w",),
    "list_workflows": (),
    "info_many": ("w", ["node", "other"]),
    "stamp": ("w", {"node": {}}),
    "save_sources": ("w", {"digest": "text"}),
    "read_source": ("w", "digest"),
}


class ConnectionTests(StorageSuite):
    """Broken connections."""

    @pytest.mark.parametrize("nbytes", [0, 100, 2_000, 100_000, 1_000_000])
    def test_a_connection_that_breaks_in_a_save(
        self, storage: Storage, connection: Connection, nbytes: int
    ) -> None:
        """A save that breaks after any number of bytes raises, and leaves the earlier result and a clean listing."""
        storage.save("w", "node", value_of(1))
        connection.break_after(nbytes)
        with pytest.raises(StorageError, match="cannot save w/node"):
            storage.save("w", "node", value_of(2, 200_000))
        connection.mend()
        assert 1 == number_of(storage.read_task("w", "node"))
        assert ["node"] == storage.list_tasks("w")
        storage.save("w", "node", value_of(3))
        assert 3 == number_of(storage.read_task("w", "node"))

    @pytest.mark.parametrize("method", METHODS)
    def test_a_broken_connection_is_no_missing_result(
        self, storage: Storage, connection: Connection, method: str
    ) -> None:
        """A query without a connection is an error, not an empty answer."""
        storage.save("w", "node", 1)
        arguments = METHODS[method]
        connection.break_after(0)
        with pytest.raises(StorageError) as caught:
            getattr(storage, method)(*arguments)
        assert not isinstance(caught.value, ResultNotFound)
        connection.mend()
        getattr(storage, method)(*arguments)

    def test_a_run_without_connection_computes_nothing(
        self, storage: Storage, connection: Connection
    ) -> None:
        """A run without a connection fails before it computes results that cannot be saved."""
        calls = Calls()
        connection.break_after(0)
        with pytest.raises(StorageError):
            run(storage, fan(calls, 3))
        assert [] == calls


class RequestTests(StorageSuite):
    """Requests of a run."""

    def requests_of(self, storage: Any, requests: Requests, width: int) -> list[str]:
        """The requests of a run whose results are all stored."""
        calls = Calls()
        run(storage, fan(calls, width))
        calls.clear()
        with requests() as made:
            assert ["last"] == run(storage, fan(calls, width))
        assert [] == calls
        return made

    def test_a_finished_run_is_resumed_by_one_listing(
        self, storage: Storage, requests: Requests
    ) -> None:
        """The number of requests does not grow with the graph."""
        few = self.requests_of(storage, requests, 2)
        storage.remove_workflow("w")
        many = self.requests_of(storage, requests, 20)
        assert few == many
        assert len(many) <= 5, many

    def test_a_broken_run_is_resumed_by_one_listing(
        self, storage: Storage, requests: Requests
    ) -> None:
        """Only loaded and computed results have requests of their own: loaded ones for header and value."""
        calls = Calls()
        run(storage, fan(calls, 20))
        storage.remove_task("w", "last")
        storage.remove_task("w", "part 7")
        calls.clear()
        with requests() as made:
            run(storage, fan(calls, 20))
        assert ["part 7", "last"] == calls
        # 19 headers and reads, listings of results, stamps and texts of code, new_workflow,
        # and some for each of the two computed nodes
        assert len(made) <= 2 * 19 + 5 + 2 * 4, made

    def test_headers_need_a_request_each(self, storage: Storage, requests: Requests) -> None:
        """`info` requests a header and its stamp; `info_many` headers, stamps that exist, and one listing of stamps."""
        names = [str(number) for number in range(20)]
        for name in names:
            storage.save("w", name, 1)
        with requests() as made:
            storage.info("w", "1")
        assert 2 == len(made), made
        with requests() as made:
            assert 20 == len(storage.info_many("w", names))
        assert 20 + 1 == len(made), made
        storage.stamp("w", {name: {} for name in "123"})
        with requests() as made:
            assert 20 == len(storage.info_many("w", names))
        assert 20 + 1 + 3 == len(made), made

    @pytest.mark.parametrize("method", ["save", "read_task", "file_exists", "list_tasks"])
    def test_one_request(self, storage: Storage, requests: Requests, method: str) -> None:
        """Saving, reading and listing each need one request."""
        arguments = {"save": ("w", "node", np.zeros(1_000)), "list_tasks": ("w",)}
        storage.save("w", "node", np.ones(1_000))
        storage.list_tasks("w")
        with requests() as made:
            getattr(storage, method)(*arguments.get(method, ("w", "node")))
        assert 1 == len(made), made

"""Servers that accept connections and never answer: a run ends within the timeouts, with an error that names them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import StorageError
from functionfuse.storage import storage_factory
from functionfuse.storage.backends.connection import Connection

pytest.importorskip("s3fs")

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@workflow
def one() -> int:
    """A node."""
    return 1


def configuration(address: str, **options: Any) -> dict[str, Any]:
    """A storage on an S3 server."""
    s3fs = {"endpoint_url": address, "key": "key", "secret": "secret", **options}
    return {"kind": "S3", "options": {"path": "bucket/results", "s3fs": s3fs}}


def test_silent_s3_server(silent_server: str) -> None:
    """A plan, a run and a query of results end with an error that says how to give the server more time."""
    timeouts = {"read_timeout": 0.2, "connect_timeout": 0.2}
    storage = configuration(silent_server, config_kwargs=timeouts)
    made = LocalWorkflow(one(), workflow_name="w")
    made.set_storage(storage)

    def headers() -> object:
        return storage_factory(storage).info_many("w", ["a", "b"])

    for call in (made.plan, made.run, storage_factory(storage).list_workflows, headers):
        with pytest.raises(StorageError, match=r"does not answer in time.*read_timeout"):
            call()


def test_requests_to_s3_are_few(silent_server: str) -> None:
    """Without options, a request is sent four times at most: the timeouts of s3fs make that a minute."""
    filesystem = Connection("s3://bucket", {"endpoint_url": silent_server}).filesystem

    assert {"total_max_attempts": 2, "mode": "standard"} == filesystem.config_kwargs["retries"]
    assert (2, 15) == (filesystem.retries, filesystem.read_timeout)


def test_options_of_the_user_stay(silent_server: str) -> None:
    """The user's own number of attempts is used."""
    mine = {"endpoint_url": silent_server, "config_kwargs": {"retries": {"max_attempts": 7}}}
    filesystem = Connection("s3://bucket", mine).filesystem

    assert {"max_attempts": 7} == filesystem.config_kwargs["retries"]

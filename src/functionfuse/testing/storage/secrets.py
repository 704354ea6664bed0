"""Secret tests of storages: no secret in reprs, files, logs or errors."""

from __future__ import annotations

import logging
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.testing.storage.suite import StorageSuite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from functionfuse.storage.base import Storage
    from functionfuse.testing.storage.suite import Connection, RawAccess

__all__ = ["SecretTests"]


def leaks(secrets: Sequence[str], *texts: str) -> list[str]:
    """The texts that contain a secret."""
    return [text for text in texts if any(secret in text for secret in secrets)]


def texts_of(error: BaseException) -> list[str]:
    """The messages of an error and its causes."""
    texts = traceback.format_exception(error)
    seen: BaseException | None = error
    while seen is not None:
        texts += [str(seen), repr(seen), repr(seen.args)]
        texts += getattr(seen, "__notes__", [])
        seen = seen.__cause__ or seen.__context__
    return texts


def error_of(call: Callable[[], object]) -> BaseException:
    """The error that a call raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whichever it is
        call()
    return caught.value


@workflow
def increased(number: int) -> int:
    """The next number."""
    return number + 1


class SecretTests(StorageSuite):
    """Secrets of a storage."""

    @pytest.fixture(autouse=True)
    def _nothing_is_logged(
        self, caplog: pytest.LogCaptureFixture, secrets: Sequence[str]
    ) -> Iterator[None]:
        """No log record of a test has a secret, except debug records of foreign libraries."""
        caplog.set_level(logging.DEBUG, "functionfuse")
        caplog.set_level(logging.INFO)
        yield
        records = [*caplog.get_records("setup"), *caplog.get_records("call")]
        assert [] == leaks(secrets, *(repr(vars(each)) + each.getMessage() for each in records))

    def test_texts_of_a_storage(self, storage: Storage, secrets: Sequence[str]) -> None:
        """The repr of a storage has no secrets, before and after it is used."""
        texts = [repr(storage), str(storage), f"{storage}", f"{storage!r}"]
        storage.save("w", "node", 1)
        texts += [repr(storage), str(storage)]
        assert [] == leaks(secrets, *texts)

    def test_results_and_their_headers(
        self, storage: Storage, secrets: Sequence[str], raw_access: RawAccess
    ) -> None:
        """No file and no header has a secret."""
        one = increased(1).set_name("one")
        made = LocalWorkflow(increased(one).set_name("two"), workflow_name="w")
        made.set_storage(storage)
        made.run()
        found = raw_access.files()
        assert 2 == sum("/." not in path for path in found)  # the others are texts of code
        files = [f"{path} {data.decode('latin-1')}" for path, data in found.items()]
        texts = [repr(made), repr(made.plan()), repr(made.report)]
        assert [] == leaks(secrets, *files, *texts, repr(storage.info("w", "one")))

    def test_errors(self, storage: Storage, secrets: Sequence[str], raw_access: RawAccess) -> None:
        """No error has a secret, whatever fails."""
        storage.save("w", "node", 1)
        raw_access.write("w", "damaged", b"no result")
        errors = [
            error_of(lambda: storage.save("w", "node", threading.Lock())),
            error_of(lambda: storage.read_task("w", "nothing")),
            error_of(lambda: storage.info("w", "nothing")),
            error_of(lambda: storage.remove_task("w", "nothing")),
            error_of(lambda: storage.read_task("w", "damaged")),
        ]
        assert [] == leaks(secrets, *(text for error in errors for text in texts_of(error)))

    def test_errors_of_a_broken_connection(
        self, storage: Storage, secrets: Sequence[str], connection: Connection
    ) -> None:
        """No error has a secret from a lower layer."""
        storage.save("w", "node", 1)
        connection.break_after(0)
        calls: list[Callable[[], Any]] = [
            lambda: storage.save("w", "node", 1),
            lambda: storage.read_task("w", "node"),
            lambda: storage.list_tasks("w"),
            storage.list_workflows,
            lambda: storage.file_exists("w", "node"),
            lambda: storage.new_workflow("other") or storage.save("other", "node", 1),
        ]
        texts = [text for call in calls for text in texts_of(error_of(call))]
        assert [] == leaks(secrets, *texts)

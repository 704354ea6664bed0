"""Secrets of a connection: read from the environment where they are used, and never shown."""

from __future__ import annotations

import pickle
import traceback
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

from functionfuse.errors import StorageError
from functionfuse.storage import storage_factory
from functionfuse.storage.backends.connection import Connection
from functionfuse.storage.backends.redaction import mask_secrets, resolve_variables

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "5ecret-of-ours"  # noqa: S105 - it is one, for the tests

OPTIONS: dict[str, Any] = {
    "plain": {"secret": SECRET},
    "of other file systems": {"password": SECRET},
    "in what is passed on": {"client_kwargs": {"aws_secret_access_key": SECRET}},
    "a secret that is a mapping": {"token": {"refresh": SECRET}},
    "in a list": {"tokens": ["first", SECRET]},
    "bytes": {"account_key": SECRET.encode()},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_no_text_has_a_secret(options: dict[str, Any]) -> None:
    """Not the recipe's own, nor one that is cleaned, whatever the option is called."""
    connection = Connection("memory://x", options)
    assert SECRET not in repr(connection)
    assert "it is *** indeed" == connection.clean(f"it is {SECRET} indeed")


def test_a_password_in_an_address_is_hidden() -> None:
    """An address may hold one."""
    storage = storage_factory(f"ftp://me:{SECRET}@nowhere/x")
    assert "FsspecStorage('ftp://me:***@nowhere/x')" == repr(storage)


def test_public_options_are_shown() -> None:
    """And so is where a secret is."""
    options = {"endpoint_url": "http://x", "anon": False, "secret": "env:NAME", "key": None}
    assert options == mask_secrets(options)


def test_options_are_looked_up_where_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also inside of other texts; a missing variable is named."""
    options = {"secret": "env:A_SECRET", "client_kwargs": {"region_name": "env:A_REGION"}}
    monkeypatch.setenv("A_SECRET", SECRET)
    with pytest.raises(StorageError, match=r"'region_name' refers to .* A_REGION, which is not"):
        resolve_variables(options)
    monkeypatch.setenv("A_REGION", "north")
    expected = {"secret": SECRET, "client_kwargs": {"region_name": "north"}}
    assert expected == resolve_variables(options)
    assert "***" == Connection("memory://x", options).clean(SECRET)


def secret_storage() -> Any:
    """A storage that knows a secret."""
    return storage_factory({"kind": "S3", "options": {"path": "b", "s3fs": {"secret": SECRET}}})


def test_a_storage_takes_its_secret_to_a_worker() -> None:
    """A recipe that is sent is complete."""
    assert SECRET in pickle.dumps(secret_storage()).decode(errors="replace")


def test_a_storage_takes_no_secret_into_a_file(tmp_path: Path) -> None:
    """A result that holds a storage is refused if the secret would go along."""
    files = storage_factory(tmp_path / "results")
    with pytest.raises(StorageError, match="would be stored in the file: give them as 'env:NAME'"):
        files.save("w", "node", {"storage": secret_storage()})
    assert [] == files.list_tasks("w")
    harmless = {"path": "b", "s3fs": {"secret": "env:A_SECRET"}}
    files.save("w", "node", {"storage": storage_factory({"kind": "S3", "options": harmless})})
    assert "S3Storage('s3://b')" == repr(files.read_task("w", "node")["storage"])


class Tells:
    """A serializer whose errors tell all that it knows."""

    serializer_class = complex
    name = "tells"

    @classmethod
    def pickle(cls, obj: Any, protocols: Any) -> Any:
        """Fail, and tell."""
        message = f"nothing is done with {SECRET}"
        raise OSError(message) from ValueError(f"deep down: {SECRET}")

    @classmethod
    def unpickle(cls, pid: Any, protocols: Any) -> Any:
        """Not called."""

    @classmethod
    def remove(cls, pid: Any, protocols: Any) -> None:
        """Not called."""


def test_errors_are_cleaned_with_all_that_led_to_them() -> None:
    """Also those of a serializer, which has its own ways to the data."""
    storage = storage_factory(
        {"kind": "fsspec", "options": {"url": "memory://x", "storage_options": {"token": SECRET}}}
    )
    storage.register_persistent_serializers(Tells)
    with pytest.raises(
        StorageError, match=r"'tells' cannot save .*nothing is done with \*\*\*"
    ) as told:
        storage.save("w", "node", [1j])
    assert SECRET not in "".join(traceback.format_exception(told.value))


class Broken(fsspec.AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """A file system whose operations fail, with its options in the error."""

    protocol = "broken"

    def __init__(self, token: str, error: type[Exception], **options: Any) -> None:
        """Take what to tell, and how."""
        super().__init__(**options)
        self.error = error(f"refused: {token}")

    def cat_file(self, path: str, **_: Any) -> bytes:
        """Fail."""
        raise self.error


@pytest.mark.parametrize("kind", [ValueError, PermissionError, OSError, FileNotFoundError])
def test_errors_of_a_file_system_are_cleaned(kind: type[Exception]) -> None:
    """Neither the error nor its chain shows a secret."""
    fsspec.register_implementation("broken", Broken, clobber=True)
    connection = Connection("broken://x", {"token": SECRET, "error": kind})
    with pytest.raises((StorageError, FileNotFoundError)) as told:
        connection.call("cat_file", "path")
    chain: list[BaseException | None] = [told.value]
    for error in chain:
        assert SECRET not in repr(error)
        if error is not None:
            chain += [error.__cause__, error.__context__]

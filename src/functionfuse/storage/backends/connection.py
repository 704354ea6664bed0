"""fsspec connection: created in the process that uses it, with secrets masked in errors and reprs."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import MissingExtraError, OptionError, StorageError
from functionfuse.serializers.base import is_pickling_result
from functionfuse.storage.backends.redaction import (
    MASK,
    environment_secrets,
    literal_secrets,
    mask_secrets,
    resolve_variables,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fsspec import AbstractFileSystem

__all__ = ["Connection"]

_CONCURRENT: Final = 256  # reads that wait for a server at the same time
_PATTERN: Final = re.compile(r"[*?\[]")
_CHECK_SERVER: Final = "check endpoint_url, and that the server runs"
_GIVE_TIME: Final = (
    "the server accepts connections but does not answer in time: check it, or give it more seconds, "
    "on S3 by s3fs={'config_kwargs': {'read_timeout': 60}}"
)
#: With the timeouts of s3fs, 5 seconds for a connection and 15 for an answer, a server that hangs is an error within
#: a minute. By default botocore sends a request five times, and s3fs has that repeated five times: six minutes.
_RETRIES: Final = {"total_max_attempts": 2, "mode": "standard"}
_REPETITIONS: Final = 2
_ADVICE: Final = {  # by the name of the exception class, which belongs to an optional library
    "EndpointConnectionError": _CHECK_SERVER,
    "ConnectTimeoutError": _CHECK_SERVER,
    "ReadTimeoutError": _GIVE_TIME,
    "TimeoutError": _GIVE_TIME,
    "NoCredentialsError": "give key and secret, or set up a profile or the environment variables of s3fs",
    "PartialCredentialsError": "give both key and secret",
    "TypeError": "check the names of the options",
    "PermissionError": "check key and secret, and their permissions here",
}
_PASSWORD: Final = re.compile(r"(?<=//)([^/@:]*):([^/@]+)(?=@)")  # in a URL
#: By process and options; those of a parent process stay after a fork but are not used.
#: One for all folders of an S3 server: making its client takes a quarter of a second and megabytes of memory.
_filesystems: Final[dict[tuple[int, str], tuple[AbstractFileSystem, str]]] = {}


class Connection:
    """URL and options of a file system; pickled as such."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        """Configure the connection; nothing is connected.

        Args:
            url: A URL of fsspec.
            options: Options of the file system; `"env:NAME"` refers to an environment variable of the
                process that connects.

        Raises:
            OptionError: The options are not a mapping.
        """
        if not isinstance(options, Mapping):
            message = (
                f"options of a file system must be a mapping, not {type(options).__qualname__}"
            )
            raise OptionError(message)
        self.url = url
        self._options = dict(options)
        shared = url.partition("://")[0] if self._is_s3 else url
        recipe = json.dumps([shared, self._options], sort_keys=True, default=repr)
        self._digest = hashlib.sha256(recipe.encode(errors="surrogatepass")).hexdigest()

    def __reduce__(self) -> tuple[type[Connection], tuple[str, dict[str, Any]]]:
        if is_pickling_result() and any(self._literal()):
            message = f"a connection to {self!r} in a result has secrets, which would be stored in the file: give them as 'env:NAME'"
            raise StorageError(message)
        return type(self), (self.url, self._options)

    def __repr__(self) -> str:
        options = f", {mask_secrets(self._options)!r}" if self._options else ""
        return f"{self.shown_url!r}{options}"

    @property
    def shown_url(self) -> str:
        """The URL without a password."""
        return _PASSWORD.sub(rf"\1:{MASK}", self.url)

    @property
    def filesystem(self) -> AbstractFileSystem:
        """The file system, shared by all threads of this process and all copies of the connection.

        Raises:
            StorageError: The file system cannot be created.
        """
        return self._connect()[0]

    @property
    def root(self) -> str:
        """The path of the URL on the file system."""
        return self.url.partition("://")[2].rstrip("/") if self._is_s3 else self._connect()[1]

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the file system.

        Raises:
            FileNotFoundError: No such file exists.
            StorageError: Any other failure, with advice and without secrets.
        """
        function = getattr(self.filesystem, method)
        try:
            return function(*arguments, **options)
        except Exception as error:  # noqa: BLE001 - each file system has its own
            failure = error
        # raised outside of the except block: else the original error, with secrets, would be the context
        if isinstance(failure, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        raise self._explained(failure)

    def starts(self, paths: Sequence[str], size: int) -> list[bytes | None]:
        """The first `size` bytes of files, read concurrently by asynchronous file systems; None for missing files.

        Raises:
            StorageError: A file cannot be read.
        """
        found: list[bytes | None] = []
        for batch in _batches(paths, _CONCURRENT):  # a server that hangs fails the first batch
            read = self.call("cat_ranges", batch, 0, size, on_error="return")
            found += map(self._start, batch, read)
        return found

    def _start(self, path: str, read: bytes | Exception) -> bytes | None:
        """The start of a file from the outcome of its read."""
        if not isinstance(read, Exception):
            return bytes(read)
        if isinstance(read, FileNotFoundError):
            return None
        # object stores refuse a range of an empty file; a server that does not answer is not asked again
        if not _advice(read) and not self.call("info", path)["size"]:
            return b""
        raise self._explained(read)

    def _explained(self, failure: Exception) -> StorageError:
        """The error to raise for a failure of the file system, with advice and without secrets."""
        error = StorageError(self.clean(_explain(failure)))
        error.__cause__ = self._redact_cause(failure)
        return error

    def remove_all(self, path: str) -> None:
        """Remove a folder with its contents, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            if not _PATTERN.search(path):
                self.call("rm", path, recursive=True)
                return
            for file in self.call("find", path):  # rm would expand the path as a pattern
                self.call("rm_file", file)

    def scrub(self, error: StorageError) -> None:
        """Mask the secrets in an error, and remove causes that contain any."""
        error.args = tuple(self.clean(str(part)) for part in error.args)
        error.__cause__ = self._redact_cause(error.__cause__)
        error.__context__ = self._redact_cause(error.__context__)

    def clean(self, text: str) -> str:
        """Mask the secrets of this connection in a text."""
        secrets = {*self._literal(), *environment_secrets(self._options)}
        for secret in sorted(secrets, key=len, reverse=True):  # one may contain another
            text = text.replace(secret, MASK)
        return text

    def _redact_cause(self, error: BaseException | None) -> BaseException | None:
        """An error, or None if it or one of its causes contains a secret."""
        chain = [error]
        for known in chain:
            text = f"{known} {known!r}"
            if self.clean(text) != text:
                return None
            if known is not None:
                others = (known.__cause__, known.__context__)
                chain += [other for other in others if other not in chain]
        return error

    def _literal(self) -> Iterator[str]:
        yield from literal_secrets(self._options)
        yield from (found[2] for found in _PASSWORD.finditer(self.url))

    @property
    def _is_s3(self) -> bool:
        return self.url.startswith(("s3:", "s3a:"))

    def _install(self) -> str:
        return ": pip install 'functionfuse[s3]'" if self._is_s3 else ""

    def _connect(self) -> tuple[AbstractFileSystem, str]:
        key = os.getpid(), self._digest
        # two threads may both create one, which is cheap: the first use connects
        return _filesystems.get(key) or _filesystems.setdefault(key, self._create())

    def _create(self) -> tuple[AbstractFileSystem, str]:
        from fsspec.core import url_to_fs

        # a private instance without a listing cache: other processes write and remove files too
        own = {"skip_instance_cache": True, "use_listings_cache": False}
        options = {**resolve_variables(self._options), **own}
        if self._is_s3:
            options["config_kwargs"] = {"retries": _RETRIES, **options.get("config_kwargs", {})}
        try:
            filesystem, root = url_to_fs(self.url, **options)
        except Exception as error:  # noqa: BLE001 - each file system has its own
            failure = error
        else:
            if self._is_s3:
                filesystem.retries = _REPETITIONS
            return filesystem, root.rstrip("/")
        reason = self.clean(f"{failure}") or type(failure).__name__
        if isinstance(failure, ImportError):
            message = f"{self.shown_url!r} needs a library that is not installed: {reason}{self._install()}"
            raise MissingExtraError(message)
        message = (
            f"cannot create the file system of {self.shown_url!r}: {reason}; check URL and options"
        )
        raise StorageError(message)


def _batches(paths: Sequence[str], size: int) -> Iterator[list[str]]:
    return (list(paths[first : first + size]) for first in range(0, len(paths), size))


def _explain(error: Exception) -> str:
    """The message of a file system error, with advice."""
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    given = reason not in {"", "None"}  # s3fs has the message None for a server without a reason
    return "; ".join([reason if given else type(error).__name__, *_advice(error)])


def _advice(error: Exception) -> list[str]:
    """What to do about a known error; at most one sentence."""
    names = [kind.__name__ for kind in type(error).__mro__]
    return [_ADVICE[name] for name in names if name in _ADVICE][:1]

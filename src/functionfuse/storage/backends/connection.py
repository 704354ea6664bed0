"""A file system of fsspec by recipe: made where it is used, and nobody gets to see its secrets."""

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
    from collections.abc import Iterator

    from fsspec import AbstractFileSystem

__all__ = ["Connection"]

_PATTERN: Final = re.compile(r"[*?\[]")
_CHECK_SERVER: Final = "check endpoint_url, and that the server runs"
_ADVICE: Final = {  # by the name of an exception: its class belongs to an optional library
    "EndpointConnectionError": _CHECK_SERVER,
    "ConnectTimeoutError": _CHECK_SERVER,
    "NoCredentialsError": "give key and secret, or set up a profile or the variables that s3fs looks at",
    "PartialCredentialsError": "give both key and secret",
    "TypeError": "check the names of the options",
    "PermissionError": "check key and secret, and that they may do this here",
}
_PASSWORD: Final = re.compile(r"(?<=//)([^/@:]*):([^/@]+)(?=@)")  # in an address
#: By process and recipe; those of the process that this one was forked from are kept, not used.
_filesystems: Final[dict[tuple[int, str], tuple[AbstractFileSystem, str]]] = {}


class Connection:
    """The recipe: an address and options of a file system."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        """Take the recipe; nothing is connected.

        Args:
            url: As fsspec understands it.
            options: Of that file system; `"env:NAME"` stands for an environment variable of the
                process that connects.

        Raises:
            OptionError: The options are no mapping.
        """
        if not isinstance(options, Mapping):
            message = f"options of a file system are a mapping, not a {type(options).__qualname__}"
            raise OptionError(message)
        self.url = url
        self._options = dict(options)
        recipe = json.dumps([url, self._options], sort_keys=True, default=repr)
        self._digest = hashlib.sha256(recipe.encode(errors="surrogatepass")).hexdigest()

    def __reduce__(self) -> tuple[type[Connection], tuple[str, dict[str, Any]]]:
        if is_pickling_result() and any(self._literal()):
            message = f"a connection to {self!r} has secrets, which would get into a file: give them as 'env:NAME'"
            raise StorageError(message)
        return type(self), (self.url, self._options)

    def __repr__(self) -> str:
        options = f", {mask_secrets(self._options)!r}" if self._options else ""
        return f"{self.shown_url!r}{options}"

    @property
    def shown_url(self) -> str:
        """The address without a password."""
        return _PASSWORD.sub(rf"\1:{MASK}", self.url)

    @property
    def filesystem(self) -> AbstractFileSystem:
        """The file system of this process, all threads and all copies of the recipe.

        Raises:
            StorageError: It cannot be made.
        """
        return self._connected()[0]

    @property
    def root(self) -> str:
        """The path that the address stands for in the file system."""
        return self._connected()[1]

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the file system.

        Raises:
            FileNotFoundError: There is no such file.
            StorageError: Anything else that went wrong, with advice and without secrets.
        """
        function = getattr(self.filesystem, method)
        try:
            return function(*arguments, **options)
        except Exception as error:  # noqa: BLE001 - each file system has its own
            failure = error
        # raised where the first is handled no more: else that would be the context, secrets and all
        if isinstance(failure, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        raise StorageError(self.clean(_explained(failure))) from self._shown(failure)

    def remove_all(self, path: str) -> None:
        """Remove a folder with all that is in it, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            if not _PATTERN.search(path):
                self.call("rm", path, recursive=True)
                return
            for file in self.call("find", path):  # rm would remove what the path matches
                self.call("rm_file", file)

    def scrub(self, error: StorageError) -> None:
        """Take the secrets out of an error, and what led to it away if that has any."""
        error.args = tuple(self.clean(str(part)) for part in error.args)
        error.__cause__ = self._shown(error.__cause__)
        error.__context__ = self._shown(error.__context__)

    def clean(self, text: str) -> str:
        """A text without the secrets of this connection."""
        secrets = {*self._literal(), *environment_secrets(self._options)}
        for secret in sorted(secrets, key=len, reverse=True):  # one may contain another
            text = text.replace(secret, MASK)
        return text

    def _shown(self, error: BaseException | None) -> BaseException | None:
        """An error, or None if it or one that led to it tells a secret."""
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

    def _install(self) -> str:
        return ": pip install 'functionfuse[s3]'" if self.url.startswith(("s3:", "s3a:")) else ""

    def _connected(self) -> tuple[AbstractFileSystem, str]:
        key = os.getpid(), self._digest
        # two threads may both make one, which costs little: it connects when it is used first
        return _filesystems.get(key) or _filesystems.setdefault(key, self._made())

    def _made(self) -> tuple[AbstractFileSystem, str]:
        from fsspec.core import url_to_fs

        # an instance of its own that remembers no listing: others write and remove files too
        own = {"skip_instance_cache": True, "use_listings_cache": False}
        options = {**resolve_variables(self._options), **own}
        try:
            filesystem, root = url_to_fs(self.url, **options)
        except Exception as error:  # noqa: BLE001 - each file system has its own
            failure = error
        else:
            return filesystem, root.rstrip("/")
        reason = self.clean(f"{failure}") or type(failure).__name__
        if isinstance(failure, ImportError):
            message = f"{self.shown_url!r} needs a library that is not installed: {reason}{self._install()}"
            raise MissingExtraError(message)
        message = f"there is no way to {self.shown_url!r}: {reason}; check address and options"
        raise StorageError(message)


def _explained(error: Exception) -> str:
    """What an error of a file system says, and what to check."""
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    names = [kind.__name__ for kind in type(error).__mro__]
    advice = [_ADVICE[name] for name in names if name in _ADVICE]
    given = reason not in {"", "None"}  # s3fs says None for a server that gives no reason
    return "; ".join([reason if given else names[0], *advice[:1]])

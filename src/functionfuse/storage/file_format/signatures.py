"""Signatures: a keyed digest of a result with the names of its workflow and node."""

from __future__ import annotations

import hmac
import os
import shlex
import stat
import struct
import warnings
from typing import Final

from functionfuse.errors import ExposedKeyWarning, OptionError, UntrustedResult
from functionfuse.storage.file_format.head import layout_of
from functionfuse.storage.file_format.layout import UNSIGNED

__all__ = ["SigningKey"]

#: Separates these signatures from other uses of the same key.
_CONTEXT: Final = b"functionfuse result\0"
_LENGTH: Final = struct.Struct("<I")
_SHORTEST: Final = 16  # bytes
_OTHERS: Final = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH
_warned: Final = set[str]()  # key files with a warning in this process


class SigningKey:
    """A secret that signs results; pickled as its source, from which each process loads the secret."""

    __slots__ = ("_secret", "source")

    def __init__(self, source: str, secret: bytes) -> None:
        """Use `load` instead.

        Raises:
            OptionError: The secret is too short.
        """
        if len(secret) < _SHORTEST:
            message = (
                f"the signing key in {source} has {len(secret)} bytes and needs at least {_SHORTEST}: "
                'make one by `python -c "import secrets; print(secrets.token_hex())"`'
            )
            raise OptionError(message)
        self.source = source
        self._secret = secret

    @classmethod
    def load(cls, source: str) -> SigningKey:
        """Load a key.

        Args:
            source: `"env:NAME"` for an environment variable, `"file:PATH"` for a file.
                A line break at the end is not part of the key.

        Raises:
            OptionError: The source is invalid, missing, or has no key.
        """
        kind, _, name = source.partition(":") if isinstance(source, str) else ("", "", "")
        if kind == "env" and name:
            return cls(source, _of_variable(name))
        if kind == "file" and name:
            path = os.path.abspath(
                os.path.expanduser(name)
            )  # a worker may have another current folder
            return cls(f"file:{path}", _of_file(path))
        # the value is not shown: it may be the secret itself
        message = (
            "signing_key must be 'env:NAME' or 'file:PATH': where the key is, never the key itself"
        )
        raise OptionError(message)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return SigningKey.load, (self.source,)

    def __repr__(self) -> str:
        return f"SigningKey({self.source!r})"

    def sign(self, version: int, workflow: str, node: str, header: bytes) -> bytes:
        """The signature of a header, which contains the digests of the other parts.

        Args:
            version: The version of the format, which decides on the algorithm.
            workflow: The workflow of the result.
            node: The node of the result.
            header: The header.
        """
        names = (name.encode(errors="surrogatepass") for name in (workflow, node))
        bound = b"".join(_LENGTH.pack(len(name)) + name for name in names)
        message = _CONTEXT + _LENGTH.pack(version) + bound + header
        return layout_of(version).mac(self._secret, message)

    def check(
        self, signature: bytes, version: int, workflow: str, node: str, header: bytes
    ) -> None:
        """Verify the signature of a header.

        Raises:
            UntrustedResult: There is no signature, or not one of this key for this workflow and node.
        """
        if signature == UNSIGNED:
            message = (
                "it is not signed: it was written without a signing_key. "
                "Remove it, or read it without a signing_key if you trust its origin"
            )
            raise UntrustedResult(message)
        if not hmac.compare_digest(signature, self.sign(version, workflow, node, header)):
            message = (
                f"its signature is not that of {self.source} for this workflow and node: it was "
                "altered, belongs to another node, or was signed with another key. Remove it, or "
                "read it with the key that signed it"
            )
            raise UntrustedResult(message)


def _of_variable(name: str) -> bytes:
    secret = os.environ.get(name)
    if secret is None:
        message = f"the environment variable {name!r} of the signing key is not set in this process"
        raise OptionError(message)
    return os.fsencode(secret).rstrip(b"\r\n")


def _of_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read().rstrip(b"\r\n")
    except OSError as error:
        message = f"the signing key cannot be read from {path!r}: {error.strerror}"
        raise OptionError(message) from error
    if mode & _OTHERS:
        _warn_of_others(path, mode)
    return secret


def _warn_of_others(path: str, mode: int) -> None:
    """Warn once of a key file that other users can access."""
    if path not in _warned:
        _warned.add(path)
        message = (
            f"other users can read or write the signing key in {path!r} "
            f"(mode {stat.S_IMODE(mode):04o}): run `chmod 600 {shlex.quote(path)}`"
        )
        warnings.warn(message, ExposedKeyWarning, stacklevel=2)

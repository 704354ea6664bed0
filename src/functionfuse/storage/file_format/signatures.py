"""Signatures of results: who reads with a key believes only what was written with it, under the same names."""

from __future__ import annotations

import hmac
import os
import shlex
import stat
import struct
import warnings
from typing import Final

from functionfuse.errors import ExposedKeyWarning, OptionError, UntrustedResult

__all__ = ["SigningKey"]

#: So that a signature of ours cannot be taken for one that the key was used for elsewhere.
_CONTEXT: Final = b"functionfuse result\0"
_LENGTH: Final = struct.Struct("<I")
_SHORTEST: Final = 16  # bytes
_UNSIGNED: Final = bytes(32)
_OTHERS: Final = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH
_warned: Final = set[str]()  # key files that this process has warned of


class SigningKey:
    """A secret that signs results. It travels by its source: each process looks the secret up by itself."""

    __slots__ = ("_secret", "source")

    def __init__(self, source: str, secret: bytes) -> None:
        """Use `load` instead.

        Raises:
            OptionError: The secret is too short to be one.
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
        """Look a key up.

        Args:
            source: `"env:NAME"` for an environment variable, `"file:PATH"` for a file.
                A line break at the end is not part of the key.

        Raises:
            OptionError: The source is not understood, is not there, or holds no key.
        """
        kind, _, name = source.partition(":") if isinstance(source, str) else ("", "", "")
        if kind == "env" and name:
            return cls(source, _of_variable(name))
        if kind == "file" and name:
            path = os.path.abspath(os.path.expanduser(name))  # a worker may stand elsewhere
            return cls(f"file:{path}", _of_file(path))
        # what was given is not shown: it may be the secret itself
        message = (
            "a signing_key is 'env:NAME' or 'file:PATH': where the key is, never the key itself"
        )
        raise OptionError(message)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return SigningKey.load, (self.source,)

    def __repr__(self) -> str:
        return f"SigningKey({self.source!r})"

    def sign(self, version: int, workflow: str, node: str, header: bytes) -> bytes:
        """The signature of a result's header, which holds the digests of all the rest."""
        names = (name.encode(errors="surrogatepass") for name in (workflow, node))
        bound = b"".join(_LENGTH.pack(len(name)) + name for name in names)
        message = _CONTEXT + _LENGTH.pack(version) + bound + header
        return hmac.digest(self._secret, message, "sha256")

    def check(
        self, signature: bytes, version: int, workflow: str, node: str, header: bytes
    ) -> None:
        """Accept only what this key signed for this workflow and node.

        Raises:
            UntrustedResult: It is not signed, or not by this key, or is another node's result.
        """
        if signature == _UNSIGNED:
            message = (
                "it is not signed: whoever wrote it had no signing_key. "
                "Remove it, or read it without a signing_key if you know where it comes from"
            )
            raise UntrustedResult(message)
        if not hmac.compare_digest(signature, self.sign(version, workflow, node, header)):
            message = (
                f"its signature is not that of {self.source} for this workflow and node: it was "
                "altered, belongs to another node, or was signed with another key. Remove it, or "
                "read it with the key that it was written with"
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
    """Warn once of a key file that is not its owner's alone."""
    if path not in _warned:
        _warned.add(path)
        message = (
            f"other users can read or write the signing key in {path!r} "
            f"(mode {stat.S_IMODE(mode):04o}): run `chmod 600 {shlex.quote(path)}`"
        )
        warnings.warn(message, ExposedKeyWarning, stacklevel=2)

"""Layout of version 2: SHA-256 of blocks of 16 MiB, and HMAC-SHA256 as the signature; only read."""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import TYPE_CHECKING, Any, Final

from functionfuse.storage.file_format.checksums import Algorithm
from functionfuse.storage.file_format.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LAYOUT"]

_SHA256: Final = Algorithm(
    "sha256",
    32,
    lambda data: hashlib.sha256(data).digest(),
    hashlib.sha256,
    is_cryptographic=True,
)


def _sha256() -> Algorithm:
    return _SHA256


def _contents(_: Mapping[str, Any]) -> Algorithm:
    return _SHA256


def _hmac_sha256(secret: bytes, message: bytes) -> bytes:
    return hmac.digest(secret, message, "sha256")


LAYOUT: Final = Layout(
    2, struct.Struct("<8sII32s32s"), 16 * 2**20, _sha256, _contents, _hmac_sha256
)

"""Version 2 of the file format, of earlier states of the library: verified with SHA-256 and HMAC, and never written."""

from __future__ import annotations

import hashlib
import hmac
import json
import pickle
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from file_format_helpers import ABOUT, KEY, corrupt, read
from trust_helpers import ANOTHER

from functionfuse.errors import CorruptResult, UntrustedResult
from functionfuse.storage import storage_factory
from functionfuse.storage.__main__ import main
from functionfuse.storage.file_format.file_format import (
    DEFERRED,
    file_size,
    header_of,
    header_size,
    is_signed,
    unframe,
)

if TYPE_CHECKING:
    from pathlib import Path

    from functionfuse.storage.file_format.file_format import Chunk

VALUE = {"x": [1, 2.5, "three"]}
#: What the library wrote for `VALUE`, without a key and with `KEY`: two prefixes, and one rest.
UNSIGNED_PREFIX = bytes.fromhex(
    "894646555345 0d0a 02000000 b0000000"
    "561cca8fd97ebc969ce16e7f0552b817d8b69d39cb9b00ffd7e30a0cc2caaece" + "00" * 32
)
SIGNED_PREFIX = bytes.fromhex(
    "894646555345 0d0a 02000000 b0000000"
    "42f2b324b473a1da3969a5fbb94a07bbb9d68dc6470703ec7c0245947c254816"
    "2b41d0e61f179a80e187b07b686f9c386694fa83807caaa7505e42f72036523e"
)
REST = (
    b'{"workflow":"w","node":"node","seconds":0.5,"seed":3,"codec":"pickle5","parts":[[42,'
    b'"081c5eb275a86172071fffe87b09f740803438ae859b5864b8aa477bf8783329"]]}'.ljust(176)
    + b"\x80\x05\x95\x1f\0\0\0\0\0\0\0}\x94\x8c\x01x\x94]\x94(K\x01G@\x04\0\0\0\0\0\0"
    b"\x8c\x05three\x94es.".ljust(64, b"\0")
)
FILES = {"unsigned": (UNSIGNED_PREFIX + REST, None), "signed": (SIGNED_PREFIX + REST, KEY)}
each_file = pytest.mark.parametrize(("data", "key"), FILES.values(), ids=FILES)


def written(
    value: object, *, key: bytes | None = None, names: tuple[str, str] = ("w", "n")
) -> bytes:
    """A file of version 2, by its description: blocks of 16 MiB, each with a SHA-256."""
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(value, 5, buffer_callback=buffers.append)
    parts = [stream, *(bytes(buffer.raw()) for buffer in buffers)]
    table = []
    for part in parts:
        blocks = [part[start : start + 2**24] for start in range(0, len(part) or 1, 2**24)]
        table.append([len(part), *(hashlib.sha256(block).hexdigest() for block in blocks)])
    workflow, node = names
    header = json.dumps({"workflow": workflow, "node": node, "parts": table}).encode()
    header += b" " * (-(80 + len(header)) % 64)
    bound = b"".join(struct.pack("<I", len(name)) + name.encode() for name in names)
    message = b"functionfuse result\0" + struct.pack("<I", 2) + bound + header
    signature = hmac.digest(key, message, "sha256") if key else bytes(32)
    start = struct.pack("<8sII", b"\x89FFUSE\r\n", 2, len(header))
    digest = hashlib.sha256(start + signature + header).digest()
    body = b"".join(part + bytes(-len(part) % 64) for part in parts)
    return start + digest + signature + header + body


@each_file
def test_it_is_read(data: bytes, key: Any) -> None:
    """With its key and without one; its header is described; the size is known from it."""
    assert VALUE == read(bytearray(data), key=key) == read(bytearray(data))
    header = header_of(data[: header_size(data)])
    assert header is not None
    assert ("node", 0.5, 3) == (header["node"], header["seconds"], header["seed"])
    assert "value" not in header
    assert (len(data), 256, key is not None) == (
        file_size(data),
        header_size(data),
        is_signed(data),
    )


@each_file
def test_any_changed_byte_is_seen(data: bytes, key: Any) -> None:
    """Also one that makes it another version."""
    changed = bytearray(data)
    for position in range(len(data)):
        for bit in (0x01, 0x80, 0xFF):
            changed[position] ^= bit
            corrupt(changed, key=key)
            changed[position] ^= bit
    for length in range(len(data)):
        corrupt(changed[:length], key=key)
    corrupt(changed + bytes(64), key=key)


def test_its_signature_is_verified() -> None:
    """A file that is unsigned, or signed with another key or for another node, is refused."""
    for data, key, names in (
        (UNSIGNED_PREFIX + REST, KEY, ("w", "node")),
        (SIGNED_PREFIX + REST, ANOTHER, ("w", "node")),
        (SIGNED_PREFIX + REST, KEY, ("w", "other")),
    ):
        with pytest.raises(UntrustedResult):
            unframe(bytearray(data), *names, key=key)
    with pytest.raises(CorruptResult, match="renamed or copied"):
        unframe(bytearray(UNSIGNED_PREFIX + REST), "w", "other")


def test_its_large_buffers_are_verified_by_blocks(tmp_path: Path) -> None:
    """Immediately, in the background, and with a key; damage in any block is seen."""
    array = np.arange((2 * DEFERRED + 800) // 8)
    data = bytearray(written([array, "text"], names=("w", "node")))
    deferred: list[Chunk] = []
    np.testing.assert_array_equal(array, read(data, defer=deferred.append)[0])
    assert [2**24, 2**24, 800] == [len(chunk.data) for chunk in deferred]
    storage = storage_factory(tmp_path)
    path = tmp_path / "w" / "node"
    path.parent.mkdir()
    for position in (0, 2**24, 2 * 2**24 + 799):
        path.write_bytes(data)
        np.testing.assert_array_equal(array, storage.read_task("w", "node")[0])
        storage.wait_verified()
        data[deferred[0].start + position] ^= 1
        corrupt(data)
        path.write_bytes(data)
        storage.read_task("w", "node")
        with pytest.raises(CorruptResult, match="w/node' is damaged"):
            storage.wait_verified()
        data[deferred[0].start + position] ^= 1


@pytest.mark.parametrize("signed", [False, True])
def test_a_storage_reads_and_replaces_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    signed: bool,  # noqa: FBT001
) -> None:
    """Large or small, mapped or not; the next save writes the current version."""
    monkeypatch.setenv("KEY_OF_TESTS", "0123456789abcdef")
    secret = b"0123456789abcdef" if signed else None
    options = {"path": tmp_path, "signing_key": "env:KEY_OF_TESTS" if signed else None}
    (tmp_path / "w").mkdir()
    for map_files in (True, False):
        storage = storage_factory({"kind": "file", "options": {**options, "map": map_files}})
        for value in ("small", np.ones(300_000)):
            (tmp_path / "w" / "n").write_bytes(written(value, key=secret))
            np.testing.assert_array_equal(value, storage.read_task("w", "n"))
            assert "value" not in storage.info("w", "n")
            storage.save("w", "n", value)
            assert 3 == (tmp_path / "w" / "n").read_bytes()[8]
            np.testing.assert_array_equal(value, storage.read_task("w", "n"))


def test_it_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints its header as that of other files."""
    (tmp_path / "file").write_bytes(SIGNED_PREFIX + REST)
    assert 0 == main(["info", str(tmp_path / "file")])
    printed = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert ("yes", "320 bytes") == (printed["signed"][:3], printed["size"])
    assert ABOUT == {name: printed[name] for name in ABOUT}

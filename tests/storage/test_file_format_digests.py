"""Digests of result files: of the value, of the chunks of signed files, and of contents that are read on demand."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from blake3 import blake3
from file_format_helpers import ABOUT, KEY, corrupt, framed, read
from hypothesis import given, settings
from hypothesis import strategies as st
from trust_helpers import old_format
from xxhash import xxh3_128, xxh3_128_hexdigest

from functionfuse.errors import CorruptResult, UntrustedResult
from functionfuse.storage import storage_factory
from functionfuse.storage.backends.file_io import PrivateContents, write_frame
from functionfuse.storage.file_format import frame as frames
from functionfuse.storage.file_format.checksums import xxh3
from functionfuse.storage.file_format.file_format import header_of, header_size
from functionfuse.storage.file_format.frame import frame
from functionfuse.storage.file_format.layout import CHUNK
from functionfuse.testing.storage.sidecars import Numbered, NumberedSerializer

if TYPE_CHECKING:
    from pathlib import Path

    from functionfuse.storage.file_format.signatures import SigningKey

#: Several chunks, the last of which is short, and a second buffer.
LARGE = [np.arange((2 * CHUNK + 8_000) // 8), "text", np.ones(1_000)]


def header(data: bytes | bytearray) -> dict[str, Any]:
    """The header of a file."""
    found = header_of(bytes(data))
    assert found is not None
    return found


# ---- the digest of the value ----


@pytest.mark.parametrize("value", [1, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("key", [None, KEY], ids=["unsigned", "signed"])
def test_the_digest_of_a_value_covers_lengths_and_chunks(
    value: Any, key: SigningKey | None
) -> None:
    """It can be computed from the header."""
    found = header(framed(value, key=key))
    expected = xxh3_128()
    for length, *_ in found["parts"]:
        expected.update(struct.pack("<Q", length))
    for _, *digests in found["parts"]:
        for digest in digests:
            expected.update(bytes.fromhex(digest))
    assert expected.hexdigest() == found["value"]


@settings(deadline=None)
@given(*[st.recursive(st.integers() | st.text(), st.lists, max_leaves=5)] * 2)
def test_equal_digests_are_those_of_equal_values(one: Any, other: Any) -> None:
    """Whatever else the header says."""
    digests = [
        header(frame(value, ABOUT | {"seconds": n}).joined())["value"]
        for n, value in enumerate([one, other, one])
    ]
    assert digests[0] == digests[2]
    assert (one == other) == (digests[0] == digests[1])


def test_any_changed_item_of_an_array_is_another_value() -> None:
    """In each chunk; and so is another shape of the same bytes."""
    array = np.zeros(CHUNK // 8 + 10)
    digests = {header(framed(array))["value"], header(framed(array.reshape(2, -1)))["value"]}
    for position in (0, CHUNK // 8 - 1, CHUNK // 8, -1):
        changed = array.copy()
        changed[position] = 1
        digests.add(header(framed(changed))["value"])
    assert 6 == len(digests)


def test_a_save_returns_the_digest_and_so_does_the_header(tmp_path: Path) -> None:
    """Small and large values, of files and of other places; none with sidecar files."""
    memory = {"kind": "memory", "options": {"name": str(tmp_path)}}
    for storage in (storage_factory(tmp_path), storage_factory(memory)):
        saved = [storage.save("w", "node", value) for value in (LARGE, 1, LARGE)]
        assert saved[0] == saved[2] != saved[1]
        assert saved[2].digest == storage.info("w", "node")["value"]
        storage.register_persistent_serializers(NumberedSerializer)
        assert saved[0].digest == storage.save("w", "node", LARGE).digest
        assert storage.save("w", "node", [Numbered(1)]).digest is None
        assert storage.info("w", "node")["value"] is None


# ---- signed files ----


def test_chunks_of_signed_files_have_cryptographic_digests() -> None:
    """Other contents with the same XXH3 can be made; with the same BLAKE3 they cannot."""
    data = framed(LARGE, key=KEY)
    found, start = header(data), header_size(bytes(data))
    assert "blake3" == found["checksums"]
    length = found["parts"][0][0]
    assert [blake3(data[start : start + length]).hexdigest()] == found["parts"][0][1:]
    unsigned = framed(LARGE)
    start = header_size(bytes(unsigned))
    stream = bytes(unsigned[start : start + length])
    assert ["xxh3-128", xxh3_128_hexdigest(stream)] == [
        header(unsigned)["checksums"],
        header(unsigned)["parts"][0][1],
    ]


def test_a_signed_file_with_other_checksums_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No version of the library writes one: its contents could be forged under a valid signature."""
    monkeypatch.setattr(frames, "blake3", xxh3)
    data = framed(LARGE, key=KEY)
    monkeypatch.undo()
    read(data)
    with pytest.raises(UntrustedResult, match="not cryptographic"):
        read(data, key=KEY)


def test_the_signature_is_that_of_the_description() -> None:
    """BLAKE3 with a key that is derived from the secret, over version, names and header."""
    data = framed(1, key=KEY)
    secret = blake3(
        b"0123456789abcdef", derive_key_context="functionfuse 2026-11-28 signatures of result files"
    )
    named = b"\x01\0\0\0w" + b"\x04\0\0\0node"
    content = b"functionfuse result\0" + b"\x03\0\0\0" + named + data[64 : header_size(bytes(data))]
    assert blake3(content, key=secret.digest()).digest() == data[32:64]


# ---- contents that are read on demand ----


@pytest.fixture(params=["signed", "unmapped", "neither verified nor mapped"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A storage that reads large files into private memory."""
    monkeypatch.setenv("KEY_OF_TESTS", "0123456789abcdef")
    options: Any = {
        "signed": {"signing_key": "env:KEY_OF_TESTS"},
        "unmapped": {"map": False},
        "neither verified nor mapped": {"map": False, "verify": "never"},
    }[request.param]
    made = storage_factory({"kind": "file", "options": {"path": tmp_path, **options}})
    made.save("w", "node", LARGE)
    return made


def test_every_chunk_is_read(storage: Any) -> None:
    """Values of all lengths around those of chunks come back, and can be worked on."""
    for count in (CHUNK - 64, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 63):
        value = np.arange(count, dtype=np.uint8), np.arange(200_000), bytes(2 * CHUNK)
        storage.save("w", "node", value)
        found = storage.read_task("w", "node")
        for expected, array in zip(value, found, strict=True):
            np.testing.assert_array_equal(expected, array)
        found[0][:] = 1
        assert found[0].all()


def test_damage_of_any_chunk_is_seen(
    storage: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Also a file that is shorter than its header says; unless arrays are not verified."""
    path = tmp_path / "w" / "node"
    data = path.read_bytes()
    start = header_size(data)
    positions = [start, start + 200, start + CHUNK + 200, start + 2 * CHUNK + 200, len(data) - 1]
    is_verified = "neither" not in request.node.name
    for position in positions if is_verified else positions[:1]:
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(CorruptResult, match="w/node"):
            storage.read_task("w", "node")
    for length in (len(data) - 64, start + CHUNK, start, 100, 20):
        path.write_bytes(data[:length])
        with pytest.raises(CorruptResult, match="w/node"):
            storage.read_task("w", "node")


def test_a_file_that_is_cut_while_it_is_read_is_damaged(tmp_path: Path) -> None:
    """The rest of the memory would be zeros."""
    path = tmp_path / "file"
    path.write_bytes(framed(LARGE))
    with path.open("rb", buffering=0) as file:
        contents = PrivateContents(file, path.stat().st_size)
    os.truncate(path, 5_000)
    with pytest.raises(CorruptResult, match="truncated while it was read"):
        read(memoryview(contents.data), load=contents.load)
    contents.close()


def test_descriptors_are_closed(storage: Any, tmp_path: Path) -> None:
    """After reads that succeed and reads that fail."""
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        storage.read_task("w", "node")
    data = (tmp_path / "w" / "node").read_bytes()
    (tmp_path / "w" / "node").write_bytes(data[:-64])
    with pytest.raises(CorruptResult):
        storage.read_task("w", "node")
    assert before == len(os.listdir("/dev/fd"))


def test_a_large_pickle_stream_is_read_and_verified(storage: Any, tmp_path: Path) -> None:
    """A stream that is larger than a chunk, too."""
    value = [bytes([n % 256]) * 3_000 for n in range(3_000)]
    storage.save("w", "node", value)
    assert value == storage.read_task("w", "node")
    path = tmp_path / "w" / "node"
    data = bytearray(path.read_bytes())
    data[-CHUNK] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptResult):
        storage.read_task("w", "node")
    corrupt(data)


def test_a_large_file_of_the_legacy_format_is_read(tmp_path: Path) -> None:
    """It has no header that says what to read."""
    storage = storage_factory({"kind": "file", "options": {"path": tmp_path, "map": False}})
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "node").write_bytes(old_format(bytes(2_000_000)))
    assert bytes(2_000_000) == storage.read_task("w", "node")


FORKED = """
import os, sys
import numpy as np
from functionfuse.storage import storage_factory

options = {"path": sys.argv[1], "signing_key": "env:KEY_OF_TESTS"}
storage = storage_factory({"kind": "file", "options": options})
storage.save("w", "parent", np.ones(4_000_000))
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
else:
    storage.save("w", "child", storage.read_task("w", "parent"))
    os._exit(0)
print(int(storage.read_task("w", "child").sum()))
"""


def test_a_forked_process_computes_digests_in_threads_of_its_own(tmp_path: Path) -> None:
    """It does not have the threads of its parent, and would wait for them without end."""
    command = [sys.executable, "-c", FORKED, str(tmp_path)]
    environment = {**os.environ, "KEY_OF_TESTS": "0123456789abcdef"}
    done = subprocess.run(command, check=True, env=environment, capture_output=True, timeout=100)  # noqa: S603
    assert b"4000000\n" == done.stdout


# ---- the end of threads ----


def threads() -> list[str]:
    """The threads of this process that compute digests."""
    return [each.name for each in threading.enumerate() if "functionfuse-digests" in each.name]


class FullDisk:
    """A file that takes two chunks."""

    def __init__(self) -> None:
        """Begin empty."""
        self.left = 2

    def fileno(self) -> int:
        """A descriptor of no regular file."""
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def seek(self, position: int) -> int:
        """Go anywhere."""
        return position

    def write(self, chunk: bytes | memoryview) -> int:
        """Take a chunk."""
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(chunk)


def test_a_read_and_a_save_that_fail_leave_no_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the garbage collector would end them, in any thread, and wait there without end."""
    monkeypatch.setenv("KEY_OF_TESTS", "0123456789abcdef")
    options = {"path": tmp_path, "signing_key": "env:KEY_OF_TESTS"}
    storage = storage_factory({"kind": "file", "options": options})
    storage.save("w", "node", LARGE)
    file = tmp_path / "w" / "node"
    content = bytearray(file.read_bytes())
    content[-CHUNK] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptResult) as read:
        storage.read_task("w", "node")
    assert [] == threads()
    full: Any = FullDisk()
    with pytest.raises(OSError, match="No space") as saved:
        write_frame(full, frame(LARGE, ABOUT, key=KEY))
    assert [] == threads()
    assert read.tb is not None  # the frames of the failed calls still exist
    assert saved.tb is not None

"""`python -m functionfuse.storage info`: describe a result file from its header."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from file_format_helpers import headed

from functionfuse.storage.__main__ import main
from functionfuse.storage.file_format.file_format import header_size, unframe
from functionfuse.storage.file_format.frame import frame
from functionfuse.storage.file_format.signatures import SigningKey

if TYPE_CHECKING:
    from pathlib import Path

ABOUT = {
    "node": "svm-model",
    "workflow": "classifier",
    "function": "train",
    "created": 1_700_000_000.5,
    "seed": 3,
    "fingerprint": None,
}


class Trace:
    """Unpickling it leaves a folder."""

    def __init__(self, path: str) -> None:
        """Take the folder's name."""
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Make the folder."""
        return os.mkdir, (self.path,)


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A result file that leaves a trace when it is unpickled."""
    path = tmp_path / "svm-model"
    value = [Trace(str(tmp_path / "trace")), np.zeros(1_000)]
    path.write_bytes(frame(value, ABOUT).joined())
    return path


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The printed values, by their names."""
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    return {line[0]: line[1] for line in lines}


def refused(path: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code, and the description of a file that cannot be read."""
    code = main(["info", str(path)])
    return code, capsys.readouterr().err


@pytest.mark.parametrize("kind", ["pipe", "device", "link to itself"])
def test_paths_that_are_not_files_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """A pipe without a writer does not block."""
    path = tmp_path / "node"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    code, message = refused(path, capsys)
    assert 2 == code
    assert ("symbolic links" if kind == "link to itself" else "not a regular file") in message


def test_a_linked_result_is_printed(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path may be a link."""
    link = result.with_name("link")
    link.symlink_to(result)
    assert 0 == main(["info", str(link)])
    assert "svm-model" == told(capsys)["node"]


def test_a_terminal_obeys_nothing_of_a_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every text of a header is printed as plain text."""
    path = tmp_path / "node"
    data = frame(1, {"workflow": "w", "node": "n\x1b[2J"}).joined()
    size = header_size(data)
    path.write_bytes(headed(data[64:size].replace(b'"pickle5"', b'"\\u001b["')) + data[size:])
    assert 0 == main(["info", str(path)])
    assert "\x1b" not in capsys.readouterr().out


def test_the_header_is_printed(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Content, origin and size, in the same order for all files."""
    assert 0 == main(["info", str(result)])
    printed = told(capsys)
    assert {
        "workflow": "classifier",
        "node": "svm-model",
        "function": "train",
        "created": "2023-11-14 22:13:20 UTC",
        "seed": "3",
        "fingerprint": "null",
        "checksums": "xxh3-128",
        "signed": "no",
        "size": f"{result.stat().st_size:,} bytes",
    } == {name: text for name, text in printed.items() if name not in ("contents", "value")}
    assert ["workflow", "node", "function", "created"] == list(printed)[:4]
    assert printed["contents"].endswith(" bytes and 1 buffers of 8,000 bytes")


def test_nothing_is_unpickled(result: Path) -> None:
    """Looking at a file runs nothing of it."""
    assert 0 == main(["info", str(result)])
    assert not (result.parent / "trace").exists()
    unframe(bytearray(result.read_bytes()), "classifier", "svm-model")  # reading would
    assert (result.parent / "trace").exists()


def test_a_signed_file_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No key is needed to describe it, and the signature is not verified."""
    key = SigningKey("a test", bytes(16))
    (tmp_path / "file").write_bytes(frame(1, ABOUT, key=key).joined())
    assert 0 == main(["info", str(tmp_path / "file")])
    assert told(capsys)["signed"].startswith("yes")


def test_a_url_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """Any that fsspec knows."""
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://of-a-test/node", "wb") as file:
        file.write(frame(1, ABOUT).joined())
    assert 0 == main(["info", "memory://of-a-test/node"])
    assert "svm-model" == told(capsys)["node"]


def test_a_file_of_the_old_format_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of the legacy format has no header, but can be verified."""
    stream = pickle.dumps(Trace(str(tmp_path / "trace")))
    digest = hashlib.sha1(stream, usedforsecurity=False).digest()
    (tmp_path / "old").write_bytes(stream + digest)
    assert 0 == main(["info", str(tmp_path / "old")])
    printed = told(capsys)
    assert printed["format"].startswith("legacy: a pickle and its SHA-1")
    assert f"{len(stream) + 20} bytes" == printed["size"]
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("data", [b"", b"hello", b"x" * 1_000], ids=["empty", "short", "long"])
def test_another_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    """The error names the file, and the exit code is 1."""
    (tmp_path / "file").write_bytes(data)
    message = f"{tmp_path}/file: it is neither a result file nor a file of the legacy format\n"
    assert (1, message) == refused(tmp_path / "file", capsys)


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (20, "the file is truncated"),
        (100, "the header does not match its checksum"),
        (-1, "bytes, but its header announces"),
    ],
)
def test_a_truncated_file_is_reported(
    result: Path, capsys: pytest.CaptureFixture[str], length: int, message: str
) -> None:
    """Wherever it was cut; what its header says is printed if it is there."""
    result.write_bytes(result.read_bytes()[:length])
    code, said = refused(result, capsys)
    assert 1 == code
    assert message in said


def test_unreadable_files_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No such file, a folder, no such file system: a line each, and the exit code is 2."""
    message = "cannot be read: No such file or directory"
    assert (2, f"{tmp_path}/nothing: {message}\n") == refused(tmp_path / "nothing", capsys)
    message = "cannot be read: it is a folder; give the path of one result file in it"
    assert (2, f"{tmp_path}: {message}\n") == refused(tmp_path, capsys)
    pytest.importorskip("fsspec")
    message = "cannot be read: No such file or directory"
    assert (2, f"memory://nothing: {message}\n") == refused("memory://nothing", capsys)
    message = "cannot be read: Protocol not known: nowhere"
    assert (2, f"nowhere://x: {message}\n") == refused("nowhere://x", capsys)


def test_a_header_cannot_command_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names and values are printed in one line each, whatever characters they have."""
    metadata = {"workflow": "\x1b[31mred", "node": "a\nsize 3", "key\x1b[0m": "x", "empty": ""}
    (tmp_path / "file").write_bytes(frame(1, metadata).joined())
    assert 0 == main(["info", str(tmp_path / "file")])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert len(metadata) + 5 == len(out.splitlines())
    assert r'"\u001b[31mred"' in out


@pytest.mark.parametrize("created", [1e300, "yesterday", None, [1]], ids=str)
def test_a_strange_header_is_printed_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], created: object
) -> None:
    """An invalid time does not hide the rest."""
    metadata = {"workflow": "w", "node": "n", "created": created}
    (tmp_path / "file").write_bytes(frame(1, metadata).joined())
    assert 0 == main(["info", str(tmp_path / "file")])
    expected = created if isinstance(created, str) else json.dumps(created)
    assert expected == told(capsys)["created"]


def test_a_header_without_parts_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An intact header that the library did not write is refused."""
    header = b'{"workflow":"w"}'
    (tmp_path / "file").write_bytes(headed(header))
    code, said = refused(tmp_path / "file", capsys)
    assert (1, True) == (code, "does not list the parts" in said)


def test_it_is_a_command(result: Path) -> None:
    """From a shell, with exit codes; without arguments it says how it is used."""
    command = [sys.executable, "-m", "functionfuse.storage"]
    done = subprocess.run([*command, "info", str(result)], capture_output=True, text=True)  # noqa: PLW1510, S603
    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith("workflow     classifier\nnode         svm-model\n")
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: PLW1510, S603
    assert 2 == done.returncode
    assert "usage: python -m functionfuse.storage" in done.stderr


def test_names_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    """With LC_ALL=C they are shown as JSON, which is ASCII."""
    path = tmp_path / "node"
    path.write_bytes(frame(1, {"workflow": "w", "node": "été"}).joined())
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    command = [sys.executable, "-m", "functionfuse.storage", "info", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, env=environment)  # noqa: S603
    assert b'node       "\\u00e9t\\u00e9"\n' in done.stdout

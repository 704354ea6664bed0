"""`python -m functionfuse.storage info PATH`: print the header of a result file without unpickling it."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import stat
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from functionfuse.errors import CorruptResult, StorageError
from functionfuse.storage.file_format.file_format import (
    file_size,
    header_of,
    header_size,
    is_signed,
)
from functionfuse.storage.file_format.head import START_SIZE
from functionfuse.storage.file_format.legacy_format import legacy_stream

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

#: The fields that are printed first, in this order.
_USUAL = ("workflow", "node", "function", "created", "seconds", "seed", "engine", "host")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 for a damaged or incomplete file, or 2 if the file cannot be read."""
    options = _parser().parse_args(arguments)
    try:
        with _open_file(options.path) as file:
            start = _start(file)
            described = _describe(start) or _describe_legacy(start + file.read())
            sys.stdout.write(_table(described))
            if header_size(start):
                _check_size(file.seek(0, os.SEEK_END), file_size(start))
    except StorageError as error:
        sys.stderr.write(f"{options.path}: {error}\n")
        return 1
    except Exception as error:  # noqa: BLE001 - file systems of fsspec raise any exception
        sys.stderr.write(f"{options.path}: cannot be read: {_reason(error)}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m functionfuse.storage", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    info = commands.add_parser(
        "info", help="print the header of a result file", description=__doc__
    )
    info.add_argument("path", help="a result file, STORAGE/WORKFLOW/NODE, or its URL for fsspec")
    return parser


def _open_file(path: str) -> BinaryIO:
    if "://" not in path:
        return open(os.path.expanduser(path), "rb", opener=_opener)
    import fsspec

    opened: BinaryIO = fsspec.open(path, "rb").open()
    return opened


def _opener(path: str, flags: int) -> int:
    """Open a regular file, also through a link; never wait for a FIFO."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # open() refuses a folder
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is not a regular file", path)


def _start(file: BinaryIO) -> bytes:
    start = file.read(START_SIZE)
    return start + file.read(max(0, header_size(start) - START_SIZE))


def _describe(start: bytes) -> dict[str, str] | None:
    """The lines to print, by title; None for the legacy format."""
    header = header_of(start)
    if header is None:
        return None
    size = file_size(start)
    parts = [length for length, *_ in header.pop("parts")]
    codec = _text("codec", header.pop("codec", "?"))
    usual = {name: header.pop(name) for name in _USUAL if name in header}
    return {
        **{_text("", name): _text(name, value) for name, value in (usual | header).items()},
        "signed": "yes (needs the key to verify)" if is_signed(start) else "no",
        "contents": f"{codec}, {parts[0]:,} bytes and {len(parts) - 1} buffers of {sum(parts[1:]):,} bytes",
        "size": f"{size:,} bytes",
    }


def _describe_legacy(data: bytes) -> dict[str, str]:
    stream = legacy_stream(bytearray(data))
    return {
        "format": "legacy: a pickle and its SHA-1, which matches; no header",
        "signed": "no",
        "contents": f"a pickle of {len(stream):,} bytes",
        "size": f"{len(data):,} bytes",
    }


def _check_size(found: int, expected: int) -> None:
    """Raise if the file is incomplete, which the header alone does not show."""
    if found != expected:
        message = f"the file has {found:,} bytes, but its header announces {expected:,}"
        raise CorruptResult(message)


def _table(described: dict[str, str]) -> str:
    width = max(map(len, described)) + 2
    return "".join(f"{name:<{width}}{text}\n" for name, text in described.items())


def _text(name: str, value: Any) -> str:
    """A value of the header on one line, without control characters for the terminal."""
    if name == "created":
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, str) and value and _can_be_shown(value):
        return value
    return json.dumps(value)


def _can_be_shown(text: str) -> bool:
    """Whether the terminal prints a text unchanged; with LC_ALL=C it may print ASCII only."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return text.isprintable()


def _reason(error: Exception) -> str:
    if isinstance(error, IsADirectoryError):
        return "it is a folder; give the path of one result file in it"
    if isinstance(error, FileNotFoundError):  # a file system of fsspec only says the name
        return os.strerror(errno.ENOENT)
    return str(getattr(error, "strerror", None) or error)


if __name__ == "__main__":
    sys.exit(main())

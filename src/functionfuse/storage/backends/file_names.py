"""File name encoding of node and workflow names, and its inverse.

Ordinary names are unchanged.
Characters that a file system does not accept are percent-encoded, so that a name cannot leave its folder:
separators, control characters, `%` itself and a leading dot (dot files are internal: temporary files).
For case-insensitive file systems upper-case letters are encoded too,
and all characters outside of ASCII, of which such file systems treat different ones as equal.
For file systems of fsspec, characters of patterns and URLs are encoded too.
A name that is too long is shortened and gets a digest; the full name is in the header of the file.
The empty name gets a digest too: it would be the path of the folder itself.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys
from typing import Final
from urllib.parse import unquote_to_bytes

__all__ = [
    "file_name",
    "is_cut",
    "native_name",
    "node_name",
    "portable_names",
    "stored_name",
]

_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f/\\%\ud800-\udfff]|^\.")
_FOLDED: Final = re.compile(r"[^\x00-\x7f]|[A-Z]")
_GLOBS: Final = re.compile(r"[*?\[\]{}#\ufffe\uffff]")
_LONGEST: Final = 200  # bytes; file systems take 255, temporary and derived names need room
_KEPT: Final = 100  # bytes at the start of a longer name that stay readable
_CUT: Final = "%~"  # never the result of percent-encoding
_CUT_NAME: Final = re.compile(r".{1,100}%~[0-9a-f]{32}|%~[0-9a-f]{32}", re.DOTALL)
_ORDINARY: Final = re.compile(
    r"[a-z0-9_ ()+=,@~-][a-z0-9_ ()+=,@~.-]{0,199}"
)  # on every file system
#: False with LC_ALL=C and PYTHONUTF8=0; file names are in UTF-8 nevertheless.
_IS_UTF8: Final = sys.getfilesystemencoding() == "utf-8"


@functools.lru_cache(maxsize=4096)  # a result that is saved is asked for several times
def file_name(name: str, *, fold_case: bool = False, globs: bool = False) -> str:
    """Encode the name of a node or workflow as a file name.

    Args:
        name: Any string.
        fold_case: The file system is case-insensitive.
        globs: The file system reads some characters as patterns or parts of a URL.
    """
    quoted = _UNSAFE.sub(_encode, name)
    if globs:
        quoted = _GLOBS.sub(_encode, quoted)
    if fold_case:
        quoted = _FOLDED.sub(_encode, quoted)
    raw = quoted.encode()
    if 0 < len(raw) <= _LONGEST:
        return quoted
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:32]
    return raw[:_KEPT].decode(errors="ignore") + _CUT + digest


def node_name(file: str) -> str | None:
    """Decode a file name; None if it was shortened, so that the full name is in the header of the file."""
    if _CUT in file:
        return None
    return unquote_to_bytes(file).decode(errors="surrogatepass")


def is_cut(file: str) -> bool:
    """Whether `file` is a shortened name; the full name is in the header of the file."""
    return _CUT in file and _CUT_NAME.fullmatch(file) is not None


def stored_name(file: str, *, fold_case: bool = False, globs: bool = False) -> str | None:
    """Decode a file name from a listing, and check that encoding the name results in it.

    Args:
        file: Any file name, also that of a file of another program.
        fold_case: As for `file_name`.
        globs: As for `file_name`.

    Returns:
        The name of the node or workflow; None for a shortened name and for a file of another program.
    """
    if _ORDINARY.fullmatch(file):
        return file
    try:
        name = node_name(file)
    except UnicodeError:  # bytes or escapes that are not UTF-8
        return None
    if name is None or file_name(name, fold_case=fold_case, globs=globs) != file:
        return None
    return name


def native_name(name: str) -> str:
    """The string that functions of `os` encode to the UTF-8 of a name, in any locale."""
    return name if _IS_UTF8 else os.fsdecode(name.encode(errors="surrogateescape"))


def portable_names(names: list[str]) -> list[str]:
    """The inverse of `native_name`, for names from `os.listdir`."""
    if _IS_UTF8:
        return names
    return [os.fsencode(name).decode(errors="surrogateescape") for name in names]


def _encode(match: re.Match[str]) -> str:
    raw = match.group().encode(errors="surrogatepass")
    return "".join(f"%{byte:02x}" for byte in raw)

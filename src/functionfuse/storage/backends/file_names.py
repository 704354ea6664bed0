"""Names of nodes and workflows as file names, and back.

Ordinary names stay as they are.
What a file system cannot take is percent-encoded, so that a name can never leave its folder:
separators, control characters, `%` itself and a leading dot (dot files are ours: temporary files).
Where a file system does not tell upper from lower case, upper-case letters are encoded too,
and all that is not ASCII: such file systems also have their own ideas about which of those are the same.
So is what other programs would read as a pattern or a part of an address, where files are not the system's own.
A name too long for a file keeps its beginning and gets a digest; the whole name is in the file's header.
So is the empty one, lest it stand for the folder itself.
"""

from __future__ import annotations

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
_KEPT: Final = 100  # bytes of a longer name that stay readable
_CUT: Final = "%~"  # never the result of percent-encoding
_CUT_NAME: Final = re.compile(r".{1,100}%~[0-9a-f]{32}|%~[0-9a-f]{32}", re.DOTALL)
_ORDINARY: Final = re.compile(
    r"[a-z0-9_ ()+=,@~-][a-z0-9_ ()+=,@~.-]{0,199}"
)  # on every file system
#: Not so with LC_ALL=C and PYTHONUTF8=0; file names are in UTF-8 all the same.
_IS_UTF8: Final = sys.getfilesystemencoding() == "utf-8"


def file_name(name: str, *, fold_case: bool = False, globs: bool = False) -> str:
    """The file name for a node's or workflow's name.

    Args:
        name: Any string.
        fold_case: The file system does not tell upper from lower case.
        globs: The file system takes some characters for patterns or parts of an address.
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
    """The name that a file name stands for; None if it was cut and stands in the file's header."""
    if _CUT in file:
        return None
    return unquote_to_bytes(file).decode(errors="surrogatepass")


def is_cut(file: str) -> bool:
    """Whether `file` has the form of a shortened name: the whole name is in the file's header."""
    return _CUT in file and _CUT_NAME.fullmatch(file) is not None


def stored_name(file: str, *, fold_case: bool = False, globs: bool = False) -> str | None:
    """Decode a file name that a listing returned, and check that encoding gives it again.

    Args:
        file: Any file name, also one that another program made.
        fold_case: As for `file_name`.
        globs: As for `file_name`.

    Returns:
        The node's or workflow's name; None for a shortened name and for a file of another program.
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
    """The name of a local file that the system's functions take for the UTF-8 of a name, in any locale."""
    return name if _IS_UTF8 else os.fsdecode(name.encode(errors="surrogateescape"))


def portable_names(names: list[str]) -> list[str]:
    """The names whose native names these are, as `os.listdir` returns them."""
    if _IS_UTF8:
        return names
    return [os.fsencode(name).decode(errors="surrogateescape") for name in names]


def _encode(match: re.Match[str]) -> str:
    raw = match.group().encode(errors="surrogatepass")
    return "".join(f"%{byte:02x}" for byte in raw)

"""Snapshot of a script for workers that load results: the names and definitions of its classes and functions.

A worker does not run the script. It takes its classes from the functions of nodes, and all others from the snapshot.
"""

from __future__ import annotations

import io
import pickle
import sys
import zlib
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.pickle_buffers import PROTOCOL
from functionfuse._common.process_identity import this_process
from functionfuse._common.received_scripts import receive_script, received_scripts
from functionfuse._common.script_objects import (
    MAIN_NAMES,
    running_script,
    script_file,
    script_name,
)
from functionfuse._common.script_references import NAMED_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType

    from functionfuse._common.received_scripts import Definitions

__all__ = ["ScriptSnapshot"]

_MAX_BYTES: Final = 256 * 1024  # of one pickle: classes may refer to large variables


class ScriptSnapshot:
    """The script of a process; its pickle has the definitions, and is made once."""

    def __init__(self) -> None:
        """Take the script of this process when the snapshot is first pickled."""
        self._pickled: tuple[Any, ...] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._pickled is None:
            # a node that runs a workflow passes on the script of its own caller
            self._pickled = next((each.arguments for each in received_scripts()), None) or _pickle()
        return receive_script, self._pickled


# ---- contents ----


def _pickle() -> tuple[str, str | None, bytes]:
    main = running_script()
    contents = pickle.dumps((_imported_files(), _definitions(main)))
    return this_process(), script_file(main), zlib.compress(contents)


def _imported_files() -> dict[str, str]:
    """Names of the modules of projects, by their files."""
    import sysconfig  # late: few runs send a snapshot

    installed = tuple({sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()})
    files = {
        name: file
        for name, module in [*sys.modules.items()]
        if name not in MAIN_NAMES and isinstance(file := getattr(module, "__file__", None), str)
    }
    return {file: name for name, file in files.items() if not file.startswith(installed)}


def _definitions(main: ModuleType | None) -> Definitions:
    """Pickle classes and functions of the script."""
    found = {} if main is None else dict(_objects_of(main))
    functions = {path: value for path, value in found.items() if type(value) is FunctionType}
    together = _pickled([*functions.values()])
    definitions: list[tuple[tuple[str, ...], bytes | str]] = []
    if isinstance(together, bytes):
        definitions.append((tuple(functions), together))
        # one by one, since a worker may fail to create some of them
        found = {path: value for path, value in found.items() if path not in functions}
    return definitions + [((path,), _pickled([value])) for path, value in found.items()]


def _objects_of(main: ModuleType) -> Iterable[tuple[str, Any]]:
    for name, value in [*vars(main).items()]:
        wrapped = getattr(value, "__dict__", {}).get("__wrapped__")
        for path, each in ((name, value), (f"{name}.__wrapped__", wrapped)):
            kind = type(each)
            if not isinstance(each, type | FunctionType) and kind.__name__ not in NAMED_KINDS:
                continue
            if (script_name(each) or ("", ""))[1] == path:
                yield path, each


def _pickled(values: Sequence[Any]) -> bytes | str:
    """A pickle, or the reason why there is none."""
    from functionfuse._common.pickler import Pickler

    with _LimitedFile() as file:
        try:
            Pickler(file, PROTOCOL).dump(values)
        except Exception as error:  # noqa: BLE001 - whatever the user's classes raise
            return f"{type(error).__name__}: {error}"
        return file.getvalue()


class _LimitedFile(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + len(data) > _MAX_BYTES:
            message = f"with the variables that it uses, it is larger than {_MAX_BYTES // 1024} KiB"
            raise ValueError(message)
        return super().write(data)

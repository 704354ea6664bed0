"""Scripts of other processes, in a worker that loads results: the names and definitions of their classes and functions."""

from __future__ import annotations

import importlib
import pickle
import zlib
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.process_identity import this_process
from functionfuse._common.script_objects import ScriptObjectError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import ModuleType

    #: Names with a pickle of their objects, or the reason why there is none.
    Definitions = Sequence[tuple[tuple[str, ...], bytes | str]]

__all__ = ["ReceivedScript", "receive_script", "received_scripts"]

_MAX_RECEIVED: Final = 16


class ReceivedScript:
    """The script of another process."""

    def __init__(self, process: str, file: str | None, contents: bytes) -> None:
        """Unpickle the names; definitions are unpickled when they are used."""
        self.arguments = process, file, contents  # of `receive_script`
        self.file = file
        self._modules: Mapping[str, str]
        self._definitions: Definitions
        self._modules, self._definitions = pickle.loads(zlib.decompress(contents))
        self._objects: dict[str, Any] = {}

    def module_of(self, file: str) -> ModuleType | None:
        """The module that the other process has imported from a file."""
        name = self._modules.get(file)
        return None if name is None else importlib.import_module(name)

    def find(self, path: str) -> Any:
        """Return the copy of a class or function.

        Raises:
            AttributeError: The script does not define it.
            ScriptObjectError: It cannot be sent to workers.
        """
        for names, pickled in self._definitions:
            for name in names:
                if path == name or path.startswith(f"{name}."):
                    found = self._open(names, pickled)[name]
                    return attrgetter(path[len(name) + 1 :])(found) if path != name else found
        raise AttributeError(path)

    def _open(self, names: tuple[str, ...], pickled: bytes | str) -> Mapping[str, Any]:
        if isinstance(pickled, str):
            message = f"{names[0]!r} of the script cannot be sent to workers: {pickled}"
            raise ScriptObjectError(message)
        if names[0] not in self._objects:
            try:
                made = pickle.loads(pickled)
            except Exception as error:
                message = f"{names[0]!r} of the script cannot be unpickled in a worker ({type(error).__name__}: {error})"
                raise ScriptObjectError(message) from error
            self._objects.update(zip(names, made, strict=True))
        return self._objects


_received: Final[dict[Any, ReceivedScript]] = {}  # the latest last


def receive_script(process: str, file: str | None, contents: bytes) -> ReceivedScript | None:
    """Unpickle the script of another process; None for that of this one."""
    if process == this_process():
        return None
    key = process, file, contents
    snapshot = _received.pop(key, None) or ReceivedScript(*key)
    _received[key] = snapshot
    while len(_received) > _MAX_RECEIVED:
        del _received[next(iter(_received))]
    return snapshot


def received_scripts() -> Iterable[ReceivedScript]:
    """The scripts of other processes, the latest first."""
    return [*reversed(_received.values())]

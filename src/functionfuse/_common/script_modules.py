"""Names of a script as a module: results that were stored after an import of its file, read by the script itself."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Any

from functionfuse._common.received_scripts import received_scripts
from functionfuse._common.script_objects import running_script
from functionfuse._common.script_references import is_same_script, script_object

__all__ = ["file_of_script_module", "may_name_script", "module_global"]


def may_name_script(stream: bytes | memoryview) -> bool:
    """Tell whether a pickle may name a module that is the script, since its name occurs in it."""
    for file in _script_files():
        name, pattern = _pattern(file)
        if name not in sys.modules and pattern.search(stream) is not None:
            return True
    return False


def file_of_script_module(name: str) -> str | None:
    """The script's file, if an import of this name would run the script a second time."""
    if name in sys.modules:
        return None
    last = name.rpartition(".")[2]
    for file in _script_files():
        if _pattern(file)[0] != last:
            continue
        with suppress(Exception):  # a package around it may raise anything
            spec = find_spec(name)
            if spec is not None and is_same_script(file, spec.origin):
                return file
    return None


def module_global(module: str, path: str) -> Any:
    """Return a global variable of a module; of the script, if that is the module."""
    file = file_of_script_module(module)
    if file is not None:
        return script_object(file, path)
    return attrgetter(path)(import_module(module))


def _script_files() -> list[str]:
    """The files of the script and of those that this process works for; called for each result."""
    own = getattr(running_script(), "__file__", None)
    files = [script.file for script in received_scripts()]
    return [file for file in (own, *files) if isinstance(file, str)]


@lru_cache(maxsize=64)
def _pattern(file: str) -> tuple[str, re.Pattern[Any]]:
    name = Path(file).stem
    return name, re.compile(re.escape(name.encode()))

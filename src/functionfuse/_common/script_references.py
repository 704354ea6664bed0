"""References to classes and functions of scripts, in stored results: the file of the script and the name there.

A reader takes the running script's own object, or that of a module that was imported from the same file.
A worker takes the copy that it has, or makes one of the definitions that came from the script's process.
"""

from __future__ import annotations

import os
import sys
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.received_scripts import received_scripts
from functionfuse._common.script_fields import describe_difference, fields_of
from functionfuse._common.script_objects import (
    MAIN_NAMES,
    ScriptObjectError,
    copies,
    may_be_of_script,
    running_script,
    script_file,
    script_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from functionfuse._common.script_fields import Fields

__all__ = ["NAMED_KINDS", "is_same_script", "reduce_script_object", "script_object"]

#: Types whose objects pickle refers to by a global name, as if they were classes.
NAMED_KINDS: Final = frozenset(
    {"NewType", "ParamSpec", "TypeAliasType", "TypeVar", "TypeVarTuple", "_lru_cache_wrapper"}
)


def is_global_object(value: Any, kind: type) -> bool:
    """Tell whether pickle finds an object of a script under a global name, as if it was a class."""
    if kind.__name__ in NAMED_KINDS:
        return may_be_of_script(value)
    return (
        kind.__module__ in MAIN_NAMES
        and "__reduce__" in vars(kind)
        and isinstance(value.__reduce__(), str)
    )


def reduce_script_object(value: Any) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
    """A reference to a class or function of a script; None if no global variable of it leads there."""
    name = script_name(value)
    if name is None:
        return None
    # one object for one text, or the pickles of two processes would differ
    file = None if name.file is None else sys.intern(name.file)
    return script_object, (file, sys.intern(name.path), _interned(fields_of(value)))


def _interned(fields: Fields | None) -> Fields | None:
    if isinstance(fields, dict):
        return {sys.intern(str(name)): sys.intern(value) for name, value in fields.items()}
    return None if fields is None else tuple(sys.intern(str(name)) for name in fields)


def script_object(file: str | None, path: str, fields: Fields | None = None) -> Any:
    """Return the class or function that a stored result refers to.

    Args:
        file: The file of the script; None for a notebook and other code without a file.
        path: The name there.
        fields: The fields that the class had.

    Raises:
        ScriptObjectError: It is not here, or has other fields.
    """
    found = _find(file, path)
    if isinstance(found, type) and not _sets_its_state(found):
        difference = describe_difference(fields, fields_of(found))
        if difference:
            message = (
                f"it was stored when class {path!r} of {_described(file)} was defined {difference}: "
                "restore that definition, or remove the result to compute it again"
            )
            raise ScriptObjectError(message)
    return found


def _find(file: str | None, path: str) -> Any:
    try:
        for module in _modules_of(file):
            return attrgetter(path)(module)
        for script in received_scripts():
            if is_same_script(file, script.file):
                return script.find(path)
        for name, copy in copies(path):
            if name.file == file:
                return copy
    except AttributeError:
        message = (
            f"it needs {path!r} of {_described(file)}, which does not define it now: "
            "define it as before, or remove the result to compute it again"
        )
        raise ScriptObjectError(message) from None
    raise _elsewhere(file, path)


def _modules_of(file: str | None) -> Iterator[ModuleType]:
    """The script if it runs in this process, and modules that were imported from its file."""
    main = running_script()
    if main is not None and is_same_script(file, script_file(main)):
        yield main
    if file is None or any(is_same_script(file, each.file) for each in received_scripts()):
        return
    ending = os.sep + os.path.basename(file)
    for name, module in [*sys.modules.items()]:
        other = getattr(module, "__file__", None)
        if (
            isinstance(other, str)
            and other.endswith(ending)
            and name not in MAIN_NAMES
            and is_same_script(file, other)
        ):
            yield module
    for script in received_scripts():
        if (imported := script.module_of(file)) is not None:
            yield imported


def is_same_script(stored: str | None, here: str | None) -> bool:
    """Tell whether a file is that of a script, which may have been moved since a result was stored."""
    if stored is None or here is None:
        return stored is here
    if Path(stored).name != Path(here).name:
        return False
    return stored == here or not os.path.exists(stored) or os.path.samefile(stored, here)


def _sets_its_state(cls: type) -> bool:
    """Tell whether a class has a method of its own that restores instances: it may know former fields."""
    method = getattr(cls, "__setstate__", None)
    own = getattr(method, "__module__", None) == cls.__module__
    return own and not hasattr(cls, "__attrs_attrs__")


# ---- errors ----


def _described(file: str | None) -> str:
    return "a notebook, or another script without a file" if file is None else f"script {file}"


def _elsewhere(file: str | None, path: str) -> ScriptObjectError:
    files = [script_file(running_script()), *(each.file for each in received_scripts())]
    here = next(filter(None, files), "a process without a script")
    remedy = (
        "load it there"
        if file is None
        else f"run that script, or import it as a module first: `import {Path(file).stem}`"
    )
    return ScriptObjectError(
        f"it needs {path!r} of {_described(file)}, and this is {here}: {remedy}"
    )

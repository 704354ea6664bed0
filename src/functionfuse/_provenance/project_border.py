"""Border of the project: which modules are the user's own code, and which are of foreign distributions."""

from __future__ import annotations

import os
import sys
import sysconfig
from functools import lru_cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from functionfuse._provenance.code_names import SCRIPTS, function_name, name_parts
from functionfuse._provenance.wrappers import attributes_of
from functionfuse.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ProjectBorder",
    "code_root",
    "distribution_version",
    "home_roots",
    "is_of_package",
    "is_of_python",
    "package_folder",
    "portable_name",
    "source_file",
]

_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_OURS: Final = "functionfuse"
_STANDARD: Final = sys.stdlib_module_names | frozenset(sys.builtin_module_names)


class ProjectBorder:
    """Tells project code from foreign code.

    Project code is in one of the roots, or is of no installed distribution.
    An editable install is a distribution: its code counts where its folder is one of the roots.
    """

    def __init__(self, roots: Iterable[str]) -> None:
        self._roots = tuple(roots)
        self._known: dict[str, bool] = {}

    def has_module(self, name: str, file: str | None = None) -> bool:
        """Tell whether a module is project code; `file` is where its code is, if that is known."""
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._has(name, file or source_file(name))
        return known

    def _has(self, name: str, file: str | None) -> bool:
        top = name.partition(".")[0]
        if top in SCRIPTS:
            return True
        if top == _OURS:
            return False
        if file is None or file.startswith("<"):
            package = name.rpartition(".")[0]
            return self.has_module(package) if package else top not in _STANDARD
        path = os.path.realpath(file)
        roots = [root for root in self._roots if _within(path, root)]
        if _is_installed(path):  # perhaps in an environment in the project's folder
            return any(map(_is_installed, roots))
        return bool(roots) or _editable_root(path) is None


def is_of_python(module: str) -> bool:
    """Tell whether a module's name is one of the standard library."""
    return module.partition(".")[0] in _STANDARD


def portable_name(function: Any) -> str:
    """The name of a function or type in digests: without its module, unless it is of an installed package.

    So a result outlives its function's module, which is renamed, moved, or a notebook at first.
    """
    module, name = name_parts(function)
    keeps_module = is_of_python(module) or module.partition(".")[0] == _OURS
    return function_name(function) if keeps_module or is_of_package(module) else name


@lru_cache(maxsize=4096)
def is_of_package(module: str) -> bool:
    """Tell whether a module is of an installed package, which is neither Python's nor ours."""
    if is_of_python(module) or module.partition(".")[0] == _OURS:
        return False
    file = source_file(module)
    return file is not None and _is_installed(os.path.realpath(file))


def code_root(entry: str) -> str:
    """Return the folder or file of an entry of `code_roots`: a path, or the name of a package.

    Raises:
        OptionError: There is neither.
    """
    if os.path.exists(entry):
        return os.path.realpath(entry)
    found = package_folder(entry) if entry.replace(".", "").isidentifier() else None
    if found is None:
        message = (
            f"code_roots: {entry!r} is neither a folder or file nor a package that can be imported: "
            "name the folder that holds the code, or the package"
        )
        raise OptionError(message)
    return found


def home_roots(module: str, *, is_own: bool) -> tuple[str, ...]:
    """The folders of the project of a function's module and of the running script.

    Args:
        module: The module's name.
        is_own: It is project code although it is installed: it decorates its functions.
    """
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    places = [script if isinstance(script, str) else os.getcwd(), source_file(module) or ""]
    files = [os.path.realpath(place) for place in places if place]
    roots = [_editable_root(file) for file in files if not _is_installed(file)]
    if places[-1] and (is_own or not _is_installed(files[-1])):
        roots.append(package_folder(module))
    return tuple(sorted({root for root in roots if root is not None}))


def package_folder(name: str) -> str | None:
    """The folder of the outermost package of a module, or the file of a module without a package."""
    spec = _top_spec(name.partition(".")[0])
    folders = [*(getattr(spec, "submodule_search_locations", None) or ())]
    place = folders[0] if folders else getattr(spec, "origin", None)
    return os.path.realpath(place) if isinstance(place, str) and os.path.exists(place) else None


def source_file(name: str) -> str | None:
    """The file of a module, also of one that is not imported; nothing is imported for it."""
    module = sys.modules.get(name)
    if module is not None:
        attributes = attributes_of(module)
        file = attributes.get("__file__")
        if isinstance(file, str):
            return file
        origin = getattr(attributes.get("__spec__"), "origin", None)
        if isinstance(origin, str) and os.path.exists(origin):  # it is loaded by its first use
            return origin
        folders = [*(attributes.get("__path__") or ())]  # a package without `__init__.py`
        return str(folders[0]) if folders else None
    spec = _module_spec(name)
    return spec.origin if spec is not None and spec.has_location else None


def _module_spec(name: str) -> Any:
    package, _, _ = name.rpartition(".")
    if not package:
        return _top_spec(name)
    path = attributes_of(sys.modules.get(package)).get("__path__")
    if path is None:
        path = getattr(_module_spec(package), "submodule_search_locations", None)
    return None if path is None else PathFinder.find_spec(name, [*path])


def _top_spec(name: str) -> Any:
    try:
        return find_spec(name)
    except (ImportError, ValueError):  # a module without a spec
        return None


# ---- installed distributions ----


@lru_cache(maxsize=1024)
def distribution_version(top: str) -> tuple[str, str] | None:
    """The name and version of the distribution that has a top-level package; None for Python's own."""
    if top in _STANDARD or top == _OURS:
        return None
    import importlib.metadata  # imports a dozen modules

    try:
        found = importlib.metadata.distribution(top)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return _search_distribution(top)
    return found.metadata["Name"], found.version


def _search_distribution(top: str) -> tuple[str, str] | None:
    """Look for a package in the lists of installed files: its distribution has another name."""
    file = source_file(top)
    folder = _installation_folder(Path(file)) if file is not None else None
    if folder is None:
        return None
    wanted = f"{Path(file or '').relative_to(folder).as_posix()},".encode()
    for record in folder.glob("*.dist-info/RECORD"):
        data = b"\n" + record.read_bytes()
        if b"\n" + wanted in data:
            import importlib.metadata

            found = importlib.metadata.Distribution.at(record.parent)
            return found.metadata["Name"], found.version
    return None


def _installation_folder(file: Path) -> Path | None:
    return next((parent for parent in file.parents if parent.name in _INSTALLED), None)


@lru_cache(maxsize=4096)
def _is_installed(path: str) -> bool:
    """Whether a file is of Python or of an installed distribution."""
    return not _INSTALLED.isdisjoint(Path(path).parts) or any(
        _within(path, os.path.realpath(folder)) for folder in _python_folders()
    )


@lru_cache(maxsize=1)
def _python_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    names = "stdlib", "platstdlib", "purelib", "platlib"
    return tuple({paths[name] for name in names if name in paths})


def _editable_root(path: str) -> str | None:
    """The folder of the editable install that holds a file."""
    return next((root for root in _editable_roots() if _within(path, root)), None)


@lru_cache(maxsize=1)
def _editable_roots() -> tuple[str, ...]:
    return tuple({root for folder in sys.path for root in _editable_in(folder)})


def _editable_in(folder: str) -> list[str]:
    if not _INSTALLED.intersection(Path(folder).parts):
        return []
    import json

    roots = []
    for file in Path(folder).glob("*.dist-info/direct_url.json"):
        try:
            described = json.loads(file.read_bytes())
            if described.get("dir_info", {}).get("editable"):
                roots.append(os.path.realpath(_path_of(described["url"])))
        except (OSError, ValueError, KeyError, AttributeError):  # of another installer
            continue
    return roots


def _path_of(url: str) -> str:
    """The path of a `file:` URL."""
    from urllib.parse import unquote, urlsplit

    path = urlsplit(url).path
    if os.name != "nt":  # importing `url2pathname` imports the client of HTTP, for 25 ms
        return unquote(path)
    from urllib.request import url2pathname

    return url2pathname(path)


def _within(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)

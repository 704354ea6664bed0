"""Text of whole modules: of those that a function imports when it runs, and of modules that are passed as values."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse._provenance.normal_form import normalized, text_of
from functionfuse._provenance.project_border import source_file
from functionfuse._provenance.wrappers import attributes_of

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "GLOBALS_OF_MODULES",
    "MISSING",
    "absolute_name",
    "loaded_module",
    "module_attribute",
    "module_text",
    "package_of",
]

#: Globals of every module that say nothing about what a function does.
GLOBALS_OF_MODULES: Final = frozenset(
    {"__name__", "__doc__", "__spec__", "__loader__", "__package__", "__cached__", "__builtins__"}
)

MISSING: Final = object()


class ModuleText(NamedTuple):
    """The normalized text of a module's file, and the modules that it imports."""

    text: str
    imports: tuple[str, ...]


#: Modules that were digested by their files in this process, and stay so when a run has imported them.
_by_file: Final[set[str]] = set()
_texts: Final[dict[str, tuple[tuple[int, int], ModuleText]]] = {}


def loaded_module(name: str) -> ModuleType | None:
    """The module, if it is imported; None if its file has to represent it."""
    module = sys.modules.get(name)
    if name in _by_file or module is None or type(module).__name__ == "_LazyModule":
        _by_file.add(name)
        return None
    return module


def module_text(name: str) -> ModuleText | None:
    """The normalized text of a module's file and the modules that it imports; None without a file."""
    file = source_file(name)
    try:
        path = Path(file or "")
        state = path.stat()
        stamp = state.st_mtime_ns, state.st_size
        known = _texts.get(name)
        if known is None or known[0] != stamp:
            known = _texts[name] = stamp, _read(path, name)
        return known[1]
    except OSError:  # a package without `__init__.py`, or a module that was made by code
        return None


def _read(path: Path, name: str) -> ModuleText:
    data = path.read_bytes()
    try:
        tree = normalized(ast.parse(data))
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        return ModuleText(text_of(tree), _imported_modules(tree, package))
    except (
        SyntaxError,
        ValueError,
        RecursionError,
    ):  # an extension module, or a file that is being edited
        import xxhash

        return ModuleText(f"# a file with the digest {xxhash.xxh3_128_hexdigest(data)}", ())


def _imported_modules(tree: ast.AST, package: str) -> tuple[str, ...]:
    """The modules that a module imports anywhere; perhaps also names that are in modules."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = absolute_name(node.module or "", node.level, package)
            found.update((module, *(f"{module}.{alias.name}" for alias in node.names)))
    return tuple(sorted(found))


def absolute_name(module: str, level: int, package: str) -> str:
    """The name of a module of an import statement in a package."""
    parts = package.split(".")[: len(package.split(".")) - level + 1] if level else []
    return ".".join(part for part in (*parts, module) if part)


def module_attribute(module: ModuleType, name: str) -> Any:
    """An attribute of a module, or a submodule that is imported; `MISSING` without calling its `__getattr__`."""
    space = attributes_of(module)
    submodule = f"{space.get('__name__')}.{name}"
    if submodule in _by_file:
        return MISSING
    return space[name] if name in space else sys.modules.get(submodule, MISSING)


def package_of(space: dict[str, Any]) -> str:
    """The package of the module with these globals."""
    package = space.get("__package__")
    if isinstance(package, str):
        return package
    name = str(space.get("__name__", ""))
    return name if "__path__" in space else name.rpartition(".")[0]

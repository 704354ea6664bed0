"""Who may import whom, and that nothing heavy is imported before it is named."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import functionfuse

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(functionfuse.__file__).parent

#: What each module, or each module of a package, may import of ours; also for type checkers only.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "damage": {"errors"},
    "tables": set(),
    "hints": {"errors"},
    "garbage": set(),
    "signature": set(),
    "travel": {"errors"},
    "parcels": set(),
    "wire": {"units", "graph", "nodes", "parcels"},
    "stdio": set(),
    "worker": {"kernel", "units", "parcels", "wire", "travel", "worker"},
    "nodes": {"signature", "errors"},
    "capture": {"nodes", "errors"},
    "workflow": {"capture", "nodes", "signature"},
    "written": {"workflow", "nodes", "errors", "garbage"},
    "graph": {"workflow", "nodes", "signature", "errors"},
    "building": {"written", "graph", "nodes", "signature", "garbage"},
    "plan": {"graph", "nodes", "tables"},
    "serializers.base": {"errors"},
    "serializers": {"serializers", "errors"},
    "storage": {"storage", "serializers", "errors", "hints", ""},
    "units": {"graph", "building", "storage.base"},
    "notes": {"graph", "nodes"},
    "binding": {"units", "graph", "nodes", "notes"},
    "kernel": {"binding", "units", "graph", "nodes", "notes", "damage", "storage.base", "errors"},
    "engine": {"units"},
    "events": {"units", "plan"},
    "options": {"graph", "hints", "errors"},
    "job": {"plan", "graph", "options", "events", "storage.base"},
    "values": {"engine"},
    "recovery": {"job", "values", "plan", "units", "graph", "notes", "damage"},
    "runner": {
        *("job", "values", "plan", "kernel", "units", "binding", "notes", "events", "engine"),
        *("graph", "storage.base", "errors", "recovery", "damage"),
    },
    "at_once": {
        *("job", "kernel", "units", "binding", "notes", "engine", "building", "graph", "nodes"),
    },
    "fusing": {"graph", "observers.report", "storage.base"},
    "observers": {"observers", "units", "plan", "events", "tables"},
    "equality": set(),
    "watching": {"graph", "kernel", "nodes", "equality"},
    "comparison": {
        *("watching", "equality", "building", "graph", "nodes", "events", "tables", "errors"),
        "backends.base",
    },
    "mypy_plugin": set(),
    "": {"workflow", "comparison"},  # the package itself
}
#: The one module or package that imports a library, when it is named; some have several uses.
HOMES: dict[str, str | tuple[str, ...]] = {
    "prefect": "backends.addons.prefectback",
    "ray": ("backends.builtin.rayback", "storage.placed"),
    "dask": ("backends.builtin.daskback", "serializers.daskarray", "serializers.hdf"),
    "distributed": "backends.builtin.daskback",
    "kfp": "backends.addons.kfpback",
    "zarr": "serializers.zarrs",
    "xarray": "serializers.xarrays",
    "pandas": "serializers.arrow",
    "polars": "serializers.arrow",
    "pyarrow": "serializers.arrow",
    "torch": "serializers.torch",
    "safetensors": "serializers.torch",
    "s3fs": "storage.s3",
    "mypy": "mypy_plugin",
}
NOT_OURS_TO_CHECK = "testing"  # stands outside: it tests all of them


def modules() -> dict[str, ast.Module]:
    """The library's modules by name, without the package's own."""
    trees = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if not within(name, NOT_OURS_TO_CHECK):
            trees[name] = ast.parse(path.read_text(encoding="utf-8"))
    return trees


def within(name: str, package: str) -> bool:
    """Tell whether a module is another one, or in it."""
    return name == package or name.startswith(f"{package}.")


def imports(tree: ast.Module) -> Iterator[str]:
    """The modules that a module imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import hides who imports whom"
            module = node.module or ""
            # `from package import module` imports the module, not only the package
            yield from (
                f"{module}.{alias.name}"
                if (ROOT.parent / module.replace(".", "/") / f"{alias.name}.py").exists()
                else module
                for alias in node.names
            )


def own(name: str) -> str | None:
    """A module of ours without the package's name; None if it is not ours."""
    return name.partition(".")[2] if within(name, "functionfuse") else None


MODULES = modules()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_what_is_below_it(name: str) -> None:
    """Lower layers know nothing of higher ones; backends may use all, and nothing uses them."""
    layer = next((layer for layer in MAY_IMPORT if within(name, layer)), name.partition(".")[0])
    allowed = MAY_IMPORT.get(layer, {*MAY_IMPORT, "backends"} if layer == "backends" else None)
    assert allowed is not None, f"add {name!r} to MAY_IMPORT"
    ours = {module for module in map(own, imports(MODULES[name])) if module is not None}
    above = {module for module in ours if not any(within(module, below) for below in allowed)}
    assert set() == above


@pytest.mark.parametrize("library", HOMES)
def test_an_optional_library_is_imported_in_one_place(library: str) -> None:
    """Who does not use a backend does not need its library."""
    users = {
        name
        for name, tree in MODULES.items()
        if any(within(imported, library) for imported in imports(tree))
    }
    homes = HOMES[library]
    homes = (homes,) if isinstance(homes, str) else homes
    assert set() == {name for name in users if not any(within(name, home) for home in homes)}


def test_the_layers_are_those_of_the_package() -> None:
    """A layer of the table that is gone would allow nothing and forbid nothing."""
    assert set() == {layer for layer in MAY_IMPORT if not any(within(m, layer) for m in MODULES)}


@pytest.mark.parametrize(
    "imported",
    ["functionfuse", "functionfuse.storage", "functionfuse.backends.builtin.localback"],
)
def test_importing_the_library_imports_nothing_heavy(imported: str) -> None:
    """What a scientist's file imports is there at once: no engine, no array library, no tables."""
    heavy = [*HOMES, "numpy", "rich", "cloudpickle", "fsspec", "pandas"]
    code = f"import sys, {imported}; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert "" == done.stdout.strip()

"""Layers: which modules may import which, and that heavy libraries are imported late."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import functionfuse

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(functionfuse.__file__).parent

#: What each package, or module of the first level, may import of ours; also for type checkers only.
#: The first that fits a module holds for it.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "_common": {"_common", "errors"},
    "_context": {"_context", "_common"},
    "_graph": {"_graph", "_common", "errors"},
    "_provenance": {"_provenance", "_graph", "_common", "errors"},
    "workflow": {"_graph"},
    "serializers.base": {"errors"},
    "serializers": {"serializers", "errors"},
    "storage.base": {"storage.file_format.verification", "errors"},
    "storage.file_format": {"storage.file_format", "serializers.base", "_common", "errors"},
    "storage.backends": {
        *("storage.backends", "storage.file_format", "serializers.base", "_common", "errors"),
    },
    "storage.ray_actor": {"storage", "_common", "_transport.pickled_value", "errors"},
    "storage": {"storage", "serializers", "_common", "errors"},
    "comparison.equality": {"comparison"},  # the kernel explains with it what a node changed
    "_kernel": {
        *("_kernel", "_graph", "_context", "_common"),
        *("comparison.equality", "storage.base", "errors"),
    },
    "_transport": {"_transport", "_kernel", "_graph", "_context", "_common", "errors"},
    "plan": {"_graph", "_provenance", "_common"},
    "options": {"_graph", "_common", "errors"},
    "events": {"plan", "_kernel.units"},
    "engine": {"_kernel", "_transport.exceptions", "_common"},
    "_execution": {
        *("_execution", "_kernel", "_graph", "_provenance", "_context", "_common"),
        *("plan", "options", "events", "engine", "storage.base", "errors"),
    },
    "observers": {"observers", "events", "plan", "_kernel.units", "_common"},
    "comparison": {
        *("comparison", "_kernel", "_graph", "_provenance", "_common", "events", "errors"),
        "backends.base",
    },
    "mypy_plugin": set(),
    "": {"workflow", "comparison", "_common.version", "_graph.seeds"},  # the package itself
}
#: The one module or package that imports a library, when it is named; some have several uses.
HOMES: dict[str, str | tuple[str, ...]] = {
    "prefect": "backends.addons.prefectback",
    "ray": ("backends.builtin.rayback", "storage.ray_actor"),
    "dask": ("backends.builtin.daskback", "serializers.daskarray", "serializers.hdf"),
    "distributed": "backends.builtin.daskback",
    "kfp": "backends.addons.kfpback",
    "zarr": "serializers.zarr_store",
    "xarray": "serializers.xarrays",
    "pandas": "serializers.arrow",
    "polars": "serializers.arrow",
    "pyarrow": "serializers.arrow",
    "torch": "serializers.torch",
    "safetensors": "serializers.torch",
    "s3fs": "storage.backends.s3",
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
            assert not node.level, "a relative import hides its layer"
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
    """A backend's library is required for that backend only."""
    users = {
        name
        for name, tree in MODULES.items()
        if any(within(imported, library) for imported in imports(tree))
    }
    homes = HOMES[library]
    homes = (homes,) if isinstance(homes, str) else homes
    assert set() == {name for name in users if not any(within(name, home) for home in homes)}


def test_the_layers_are_those_of_the_package() -> None:
    """All layers of the table exist."""
    assert set() == {layer for layer in MAY_IMPORT if not any(within(m, layer) for m in MODULES)}


@pytest.mark.parametrize(
    "imported",
    ["functionfuse", "functionfuse.storage", "functionfuse.backends.builtin.localback"],
)
def test_importing_the_library_imports_nothing_heavy(imported: str) -> None:
    """The imports of a user's script load no engine, array library or tables."""
    heavy = [*HOMES, "numpy", "rich", "cloudpickle", "fsspec", "pandas"]
    code = f"import sys, {imported}; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert "" == done.stdout.strip()


def test_modules_draw_no_circle() -> None:
    """Modules can be read one after the other, each after all that it imports, also for type checkers only."""
    graph = {
        name: {module for module in map(own, imports(tree)) if module in MODULES and module != name}
        for name, tree in MODULES.items()
    }
    assert len(MODULES) == len([*TopologicalSorter(graph).static_order()])

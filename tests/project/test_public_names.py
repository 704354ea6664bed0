"""Import paths are a contract, and `__all__` says what a module gives."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import functionfuse
from functionfuse.errors import MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

PATHS = [
    ("functionfuse", "workflow"),
    ("functionfuse", "task"),
    ("functionfuse", "compare"),
    ("functionfuse", "__version__"),
    ("functionfuse.workflow", "workflow"),
    ("functionfuse.backends.builtin.localback", "LocalWorkflow"),
    ("functionfuse.backends.plugins", "InitializerPlugin"),
    ("functionfuse.backends.plugins", "RandomStatePlugin"),
    ("functionfuse.backends.plugins", "PluginCollection"),
    ("functionfuse.storage", "storage_factory"),
    ("functionfuse.serializers", "FILE_PROTOCOL"),
    ("functionfuse.serializers", "S3_PROTOCOL"),
    ("functionfuse.serializers", "generate_name"),
    ("functionfuse.serializers.daskarray", "DaskArraySerializer"),
    ("functionfuse.serializers.xarrays", "XarraySerializer"),
    ("functionfuse.serializers.arrow", "ArrowSerializer"),
    ("functionfuse.serializers.torch", "TorchSerializer"),
]

#: Modules whose names users import; what the other modules define is the library's own.
PUBLIC = (
    "functionfuse.comparison",
    "functionfuse.errors",
    "functionfuse.events",
    "functionfuse.plan",
    "functionfuse.options",
    "functionfuse.engine",
    "functionfuse.backends.base",
    "functionfuse.backends.builtin.localback",
    "functionfuse.backends.plugins",
    "functionfuse.backends.plugins.plugins",
    "functionfuse.storage.base",
    "functionfuse.storage.filesystem",
    "functionfuse.storage.kinds",
    "functionfuse.storage.ray_actor",
    "functionfuse.storage.factory",
    "functionfuse.observers.progress",
    "functionfuse.observers.report",
    "functionfuse.serializers.base",
    "functionfuse.serializers.arrow",
    "functionfuse.serializers.daskarray",
    "functionfuse.serializers.torch",
    "functionfuse.serializers.xarrays",
)
ROOT = Path(functionfuse.__file__).parent
#: Modules with code; without the packages that only hold others, and tests that ship.
MODULES = [
    module.name
    for module in pkgutil.walk_packages([str(ROOT)], "functionfuse.")
    if not module.ispkg and not module.name.startswith("functionfuse.testing")
]


def tree(module: str) -> ast.Module:
    """The source of a module, which need not be importable here: its library may be missing."""
    path = ROOT.parent / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def announced(module: str) -> list[str]:
    """The names in a module's `__all__`."""
    for node in tree(module).body:
        if isinstance(node, ast.Assign) and "__all__" == ast.unparse(node.targets[0]):
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []


def defined(module: str) -> set[str]:
    """The classes and functions that a module defines, and do not begin with an underscore."""
    definitions = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    names = {node.name for node in tree(module).body if isinstance(node, definitions)}
    return {name for name in names if not name.startswith("_")}


def with_its_library(module: str) -> ModuleType:
    """A module; where its library is not installed, skip on a laptop and fail on CI."""
    try:
        return importlib.import_module(module)
    except MissingExtraError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize(("module", "name"), PATHS)
def test_import_paths_are_kept(module: str, name: str) -> None:
    """Published import paths stay."""
    imported = with_its_library(module)
    assert hasattr(imported, name)
    assert name in imported.__all__


def test_the_package_attribute_is_the_decorator() -> None:
    """Importing the module of the same name does not hide the function."""
    module = importlib.import_module("functionfuse.workflow")
    assert functionfuse.workflow is module.workflow
    assert callable(functionfuse.workflow)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_gives(module: str) -> None:
    """`__all__` is there, without a name twice or one that is private."""
    names = announced(module)
    assert names
    assert len(names) == len(set(names))
    assert [] == [name for name in names if name.startswith("_")]


@pytest.mark.parametrize("module", PUBLIC)
def test_all_is_what_a_public_module_defines(module: str) -> None:
    """Each announced name is there, and each public class and function is announced."""
    imported = with_its_library(module)
    assert [] == [name for name in announced(module) if not hasattr(imported, name)]
    assert set() == defined(module) - set(announced(module))


def test_errors_have_one_root() -> None:
    """All errors and warnings of the library are caught by one class each."""
    errors = importlib.import_module("functionfuse.errors")
    classes = [getattr(errors, name) for name in errors.__all__]
    assert all(
        issubclass(error, (errors.FunctionFuseError, errors.FunctionFuseWarning))
        for error in classes
    )

"""Tests that ship: what every backend and every storage must do, and strategies that make random graphs.

They need the extra `testing`.
"""

import sys
from typing import TYPE_CHECKING, Any

#: Where everything is; imported when it is asked for. A worker that calls a node of the suite
#: imports the module of that node, and neither the others nor hypothesis and numpy with them.
_MODULES = {
    "Door": "storage_suite",
    "EngineTests": "engine_tests",
    "FolderTests": "storage_folder",
    "MinimalStorageTests": "storage_tests",
    "RemoteTests": "storage_tests",
    "StorageTests": "storage_tests",
    "assert_same_everywhere": "everywhere",
    "graphs": "strategies",
}
_WITH_ASSERTS = (
    "functionfuse.testing.engine_damage",
    "functionfuse.testing.engine_errors",
    "functionfuse.testing.engine_exceptions",
    "functionfuse.testing.engine_fuse",
    "functionfuse.testing.engine_observing",
    "functionfuse.testing.engine_options",
    "functionfuse.testing.engine_properties",
    "functionfuse.testing.engine_running",
    "functionfuse.testing.engine_state",
    "functionfuse.testing.engine_storage",
    "functionfuse.testing.engine_travel",
    "functionfuse.testing.engine_values",
    "functionfuse.testing.storage_damage",
    "functionfuse.testing.storage_dict",
    "functionfuse.testing.storage_failures",
    "functionfuse.testing.storage_folder",
    "functionfuse.testing.storage_foreign_files",
    "functionfuse.testing.storage_links",
    "functionfuse.testing.storage_processes",
    "functionfuse.testing.storage_remote",
    "functionfuse.testing.storage_runs",
    "functionfuse.testing.storage_secrets",
    "functionfuse.testing.storage_sidecars",
    "functionfuse.testing.storage_suite",
    "functionfuse.testing.storage_values",
)

if "pytest" in sys.modules:  # else nobody tests, and asserts are what they are
    sys.modules["pytest"].register_assert_rewrite(*_WITH_ASSERTS)

if TYPE_CHECKING:
    from functionfuse.testing.engine_tests import EngineTests
    from functionfuse.testing.everywhere import assert_same_everywhere
    from functionfuse.testing.storage_folder import FolderTests
    from functionfuse.testing.storage_suite import Door
    from functionfuse.testing.storage_tests import MinimalStorageTests, RemoteTests, StorageTests
    from functionfuse.testing.strategies import graphs
else:

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


__all__ = [
    "Door",
    "EngineTests",
    "FolderTests",
    "MinimalStorageTests",
    "RemoteTests",
    "StorageTests",
    "assert_same_everywhere",
    "graphs",
]

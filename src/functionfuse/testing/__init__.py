"""Conformance suites of backends and storages, and hypothesis strategies for random graphs.

They need the extra `testing`.
"""

import sys
from typing import TYPE_CHECKING, Any

#: Modules of the public names, imported on access: a worker that calls a node of the suite
#: imports the module of that node, without the others, hypothesis and numpy.
_MODULES = {
    "RawAccess": "storage.suite",
    "EngineTests": "engine.tests",
    "FolderTests": "storage.folder",
    "MinimalStorageTests": "storage.tests",
    "RemoteTests": "storage.tests",
    "StorageTests": "storage.tests",
    "assert_same_everywhere": "backend_equality",
    "graphs": "strategies",
}
_WITH_ASSERTS = (
    "functionfuse.testing.engine.damage",
    "functionfuse.testing.engine.errors",
    "functionfuse.testing.engine.exceptions",
    "functionfuse.testing.engine.fusion",
    "functionfuse.testing.engine.mutation",
    "functionfuse.testing.engine.observation",
    "functionfuse.testing.engine.options",
    "functionfuse.testing.engine.properties",
    "functionfuse.testing.engine.results",
    "functionfuse.testing.engine.robustness",
    "functionfuse.testing.engine.round_trips",
    "functionfuse.testing.engine.seeds",
    "functionfuse.testing.engine.state",
    "functionfuse.testing.engine.storage",
    "functionfuse.testing.engine.transport",
    "functionfuse.testing.engine.values",
    "functionfuse.testing.storage.damage",
    "functionfuse.testing.storage.mapping",
    "functionfuse.testing.storage.failures",
    "functionfuse.testing.storage.folder",
    "functionfuse.testing.storage.foreign_files",
    "functionfuse.testing.storage.links",
    "functionfuse.testing.storage.concurrency",
    "functionfuse.testing.storage.remote",
    "functionfuse.testing.storage.runs",
    "functionfuse.testing.storage.secrets",
    "functionfuse.testing.storage.sidecars",
    "functionfuse.testing.storage.suite",
    "functionfuse.testing.storage.values",
)

if "pytest" in sys.modules:  # asserts are rewritten in test runs only
    sys.modules["pytest"].register_assert_rewrite(*_WITH_ASSERTS)

if TYPE_CHECKING:
    from functionfuse.testing.backend_equality import assert_same_everywhere
    from functionfuse.testing.engine.tests import EngineTests
    from functionfuse.testing.storage.folder import FolderTests
    from functionfuse.testing.storage.suite import RawAccess
    from functionfuse.testing.storage.tests import MinimalStorageTests, RemoteTests, StorageTests
    from functionfuse.testing.strategies import graphs
else:

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


__all__ = [
    "EngineTests",
    "FolderTests",
    "MinimalStorageTests",
    "RawAccess",
    "RemoteTests",
    "StorageTests",
    "assert_same_everywhere",
    "graphs",
]

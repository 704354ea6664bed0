"""Tests that ship: what every backend and every storage must do, and strategies that make random graphs.

They need the extra `testing`.
"""

import pytest

pytest.register_assert_rewrite(
    "functionfuse.testing.engine_errors",
    "functionfuse.testing.engine_exceptions",
    "functionfuse.testing.engine_fuse",
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
    "functionfuse.testing.storage_processes",
    "functionfuse.testing.storage_remote",
    "functionfuse.testing.storage_runs",
    "functionfuse.testing.storage_secrets",
    "functionfuse.testing.storage_suite",
    "functionfuse.testing.storage_values",
)

from functionfuse.testing.engine_tests import EngineTests  # noqa: E402 - asserts are rewritten first
from functionfuse.testing.everywhere import assert_same_everywhere  # noqa: E402
from functionfuse.testing.storage_folder import FolderTests  # noqa: E402
from functionfuse.testing.storage_suite import Door  # noqa: E402
from functionfuse.testing.storage_tests import (  # noqa: E402
    MinimalStorageTests,
    RemoteTests,
    StorageTests,
)
from functionfuse.testing.strategies import graphs  # noqa: E402

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

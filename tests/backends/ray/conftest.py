"""Fixtures of the tests on Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functionfuse.storage import storage_factory
from functionfuse.testing.engine.suite import Journal, Latch

if TYPE_CHECKING:
    from pathlib import Path

    from functionfuse.storage.base import Storage


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """The file in which nodes record their calls."""
    return Journal(str(tmp_path / "journal"))


@pytest.fixture
def latch(tmp_path: Path) -> Latch:
    """Where nodes wait."""
    return Latch(str(tmp_path / "gate"))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty storage."""
    return storage_factory({"kind": "file", "options": {"path": str(tmp_path / "storage")}})

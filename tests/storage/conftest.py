"""Fixtures of the tests of storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A file that is not there, and will be when a payload is unpickled."""
    return tmp_path / "trace"

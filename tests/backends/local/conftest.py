"""Fixtures of the tests of LocalWorkflow."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from worker_nodes import folders_of, workers_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Check that the runs of a test leave no file in shared memory and no process."""
    yield
    assert (set(), []) == (folders_of(os.getpid()), workers_of(os.getpid()))

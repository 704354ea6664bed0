"""PrefectWorkflow releases a result after its last consumer."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("prefect")

from prefect_helpers import make

from functionfuse import workflow

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("server")

NODES = 200
SIZE = 20_000_000
#: The result of a node, its argument, and what the thread of the node before has still in its hands.
A_FEW = 5


class Blocks:
    """Counts the blocks that are alive."""

    def __init__(self) -> None:
        """Start with none."""
        self.alive = self.most = 0
        self._lock = threading.Lock()

    def new(self) -> bytearray:
        """Another one."""
        made = Block(SIZE)
        with self._lock:
            self.alive += 1
            self.most = max(self.most, self.alive)
        weakref.finalize(made, self._gone).atexit = False
        return made

    def _gone(self) -> None:
        self.alive -= 1


class Block(bytearray):
    """Memory that can be watched."""

    __slots__ = ("__weakref__",)


blocks = Blocks()


@pytest.fixture(autouse=True)
def only_references_count() -> Iterator[None]:
    """Values are released by reference counts: the garbage collector does not know how large they are."""
    global blocks  # noqa: PLW0603 - the nodes of one test
    blocks = Blocks()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@workflow
def first() -> bytearray:
    """Make a block."""
    return blocks.new()


@workflow
def following(block: bytearray) -> bytearray:
    """Make a block of the one before."""
    assert SIZE == len(block)
    return blocks.new()


@workflow
def size(*parts: bytearray) -> int:
    """Look at blocks."""
    return sum(map(len, parts))


def test_chain() -> None:
    """Of a chain of 200 nodes of 20 MB a few are alive at a time, and none when the run is over."""
    node = first()
    for _ in range(NODES - 1):
        node = following(node)
    assert SIZE == make(size(node), workflow_name="memory-chain").run()
    assert blocks.most <= A_FEW
    assert 0 == blocks.alive


def test_branches() -> None:
    """A value is released after the last of its consumers."""
    source = first()
    ends = [size(following(source), source) for _ in range(3)]
    assert [2 * SIZE] * 3 == make(*ends, workflow_name="memory-branches").run()
    assert blocks.most <= 4 + A_FEW
    assert 0 == blocks.alive

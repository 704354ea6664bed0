"""Values in the shared memory of worker processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from worker_nodes import (
    LARGE,
    MAPPED,
    copied,
    doubled_in_place,
    folders_of,
    in_processes,
    ones,
    same,
    total,
)

from functionfuse import workflow
from functionfuse.events import Event, NodeFinished
from functionfuse.testing.engine.suite import Journal

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize("size", [10, LARGE, MAPPED])
def test_arrays_can_be_changed(size: int) -> None:
    """A node may change the array that it takes; no other node and no target sees that."""
    array = ones(size)
    first = doubled_in_place(array)

    assert [2 * size, size, size] == in_processes(
        first, total(array, first), workflow(len)(array)
    ).run()
    given = in_processes(array).run()
    given += 1
    assert 2 * size == int(given.sum())


def test_values_of_all_sizes_arrive() -> None:
    """Bytes, strings, frozen arrays and many arrays in one value arrive unchanged."""
    frozen = np.arange(LARGE)
    frozen.flags.writeable = False
    value = {"bytes": b"x" * LARGE, "text": "é" * LARGE, "many": [np.ones(MAPPED)] * 2, "f": frozen}

    given = in_processes(same(same(value))).run()

    assert (value["bytes"], value["text"]) == (given["bytes"], given["text"])
    assert given["many"][0] is given["many"][1]
    assert (frozen == given["f"]).all()
    assert not given["f"].flags.writeable


def test_values_are_released_during_the_run() -> None:
    """The files of a long chain of large values are removed after their last consumer."""
    most = list[int]()

    def look(event: Event) -> None:
        if isinstance(event, NodeFinished):
            (folder,) = folders_of(os.getpid())
            most.append(len(list(folder.iterdir())))

    value: Any = ones(LARGE)
    for _ in range(20):
        value = copied(value)
    made = in_processes(total(value))
    made.add_observer(look)

    assert LARGE == made.run()
    assert 2 >= max(most)


def test_literals_are_pickled_once(tmp_path: Path) -> None:
    """A large argument that many nodes share is pickled once; each node has a copy of its own."""
    journal = Journal(str(tmp_path / "journal"))
    literal = Noting(journal, np.ones(MAPPED, np.uint8))

    assert [2 * MAPPED] * 10 == in_processes(*[changed(literal) for _ in range(10)]).run()
    assert ["pickled"] == journal.lines()


class Noting:
    """Writes when it is pickled."""

    def __init__(self, journal: Journal, array: Any) -> None:
        """Hold an array."""
        self.journal, self.array = journal, array

    def __reduce__(self) -> Any:
        """Write."""
        self.journal.write("pickled")
        return Noting, (self.journal, self.array)


@workflow
def changed(noting: Noting) -> int:
    """Change the argument."""
    noting.array += 1
    return int(noting.array.sum())


@workflow
def make_noting(journal: Journal) -> Noting:
    """Give something that writes when it is pickled."""
    return Noting(journal, np.ones(MAPPED, np.uint8))


def test_results_are_pickled_once(tmp_path: Path) -> None:
    """However many nodes take a result, it is pickled once; each node has a copy of its own."""
    journal = Journal(str(tmp_path / "journal"))
    result = make_noting(journal)

    assert [2 * MAPPED] * 5 == in_processes(*[changed(result) for _ in range(5)]).run()
    assert ["pickled"] == journal.lines()


def test_full_memory_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no file in memory can be made, temporary files are used instead."""
    from functionfuse.backends.builtin.pool import run_folders

    monkeypatch.setattr(run_folders, "_MEMORY", str(tmp_path / "none"))

    assert MAPPED == in_processes(total(ones(MAPPED))).run()

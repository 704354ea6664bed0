"""Concurrency tests of storages: threads, processes, forks, and processes that are killed during a save."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import StorageError
from functionfuse.testing.child_processes import Child, call_in_process, say
from functionfuse.testing.storage.suite import StorageSuite, number_of, value_of

if TYPE_CHECKING:
    from functionfuse.storage.base import Storage
    from functionfuse.testing.storage.suite import Make, RawAccess

__all__ = ["ProcessTests", "ThreadTests"]

THREADS: Final = 8
PROCESSES: Final = 4
SAVES: Final = 5
KILLED_AFTER: Final = 0.01  # seconds at most: several saves on any disk


def save_some(storage: Any, writer: int) -> int:
    """Save one result that all writers save, and one of this writer."""
    for number in range(SAVES):
        storage.save("w", "same", value_of(writer))
        storage.save("w", f"own {writer}", value_of(number))
    return writer


def save_for_ever(storage: Any) -> None:
    """Save results of changing size repeatedly; report when the first one is saved."""
    for number in itertools.count():
        storage.save("w", "node", value_of(number, 10_000 * (number % 10)))
        if number == 0:
            say("the first one is there")


def look(storage: Any) -> Any:
    """The results that another process sees."""
    return storage.list_tasks("w"), storage.read_task("w", "here"), storage.always_read


def use(storage: Any) -> list[str]:
    """Save a result, and list the results."""
    storage.save("w", "there", 2)
    names: list[str] = storage.list_tasks("w")
    return names


def fork_and_use(storage: Any) -> tuple[Any, list[str]]:
    """Use a storage, fork, and use it in both processes; the fork's result comes back in a file."""
    storage.save("w", "parent", 1)
    pid = os.fork()
    if pid == 0:
        try:
            storage.save("w", "child", (storage.read_task("w", "parent"), storage.list_tasks("w")))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    storage.save("w", "after", 1)
    return storage.read_task("w", "child"), storage.list_tasks("w")


def error_of_reading(storage: Any) -> BaseException:
    """The error of reading a missing result."""
    try:
        storage.read_task("w", "nothing")
    except StorageError as error:
        return error
    message = "there is something"
    raise AssertionError(message)


class ThreadTests(StorageSuite):
    """Several threads of one process."""

    def test_threads_write(self, storage: Storage) -> None:
        """The result of each writer is its last one, and the common result is a complete one."""
        with ThreadPoolExecutor(THREADS) as pool:
            assert list(range(THREADS)) == list(
                pool.map(save_some, [storage] * THREADS, range(THREADS))
            )
        _all_whole(storage, THREADS)

    def test_writers_leave_one_file_each(self, storage: Storage, raw_access: RawAccess) -> None:
        """Concurrent writers leave one file for each result, and no others."""
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(save_some, [storage] * THREADS, range(THREADS)))
        assert THREADS + 1 == len(raw_access.files())

    def test_readers_never_see_half(self, storage: Storage, make: Make) -> None:
        """Reads during writes return complete results, in a thread and through another storage."""
        storage.save("w", "same", value_of(0))
        other = make()
        with ThreadPoolExecutor(4) as pool:
            writers = [pool.submit(save_some, storage, number) for number in range(4)]
            while not all(writer.done() for writer in writers):
                for each in (storage, other):
                    assert number_of(each.read_task("w", "same")) in range(4)
                assert "same" in other.list_tasks("w")
                assert other.file_exists("w", "same")
        assert list(range(4)) == [writer.result() for writer in writers]
        _all_whole(storage, 4)

    def test_threads_remove(self, storage: Storage) -> None:
        """Removing a result that another thread removes or writes is not an error."""

        def save_and_remove(number: int) -> None:
            for _ in range(self.max_examples):
                storage.save("w", f"node {number}", number)
                storage.remove_task("w", pattern="*")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(save_and_remove, range(4)))
        assert [] == storage.list_tasks("w")


class ProcessTests(StorageSuite):
    """Several processes, which see the same results."""

    def test_a_copy_in_another_process(self, shared_storage: Any) -> None:
        """A pickled storage has the same results and options in another process."""
        shared_storage.always_read = True
        shared_storage.save("w", "here", 1)
        assert (["here"], 1, True) == call_in_process(look, shared_storage)
        assert ["here", "there"] == call_in_process(use, shared_storage)
        assert 2 == shared_storage.read_task("w", "there")

    def test_a_copy_of_a_copy(self, shared_storage: Any) -> None:
        """A storage can be pickled after it was used."""
        shared_storage.save("w", "here", 1)
        copy = pickle.loads(pickle.dumps(shared_storage))
        copy.list_tasks("w")
        assert (["here"], 1, False) == call_in_process(look, pickle.loads(pickle.dumps(copy)))

    def test_after_a_fork(self, shared_storage: Any) -> None:
        """A storage that is in use when a process forks works in both processes."""
        (read, listed), all_of_them = call_in_process(fork_and_use, shared_storage)
        assert (1, ["parent"]) == (read, listed)
        assert ["after", "child", "parent"] == all_of_them

    def test_errors_travel(self, shared_storage: Any) -> None:
        """An error in another process arrives with its type and message."""
        here, there = (
            error_of_reading(shared_storage),
            call_in_process(error_of_reading, shared_storage),
        )
        assert (type(here), str(here)) == (type(there), str(there))

    def test_processes_write(self, shared_storage: Any) -> None:
        """The result of each writer is its last one, and the common result is complete at any time."""
        shared_storage.save("w", "same", value_of(0))
        writers = [Child(save_some, shared_storage, number) for number in range(PROCESSES)]
        for _ in range(10):
            assert number_of(shared_storage.read_task("w", "same")) in range(PROCESSES)
        assert list(range(PROCESSES)) == [writer.result() for writer in writers]
        _all_whole(shared_storage, PROCESSES)

    def test_killed_saves(self, shared_storage: Any) -> None:
        """After a process is killed during a save, one complete result is stored and no leftovers are listed."""
        moments = random.Random(0)  # noqa: S311
        for _ in range(self.kills):
            child = Child(save_for_ever, shared_storage)
            child.receive()
            time.sleep(moments.random() * KILLED_AFTER)  # any moment of a save
            child.kill()
            assert ["node"] == shared_storage.list_tasks("w")
            number_of(shared_storage.read_task("w", "node"))
        shared_storage.save("w", "node", "after")
        assert "after" == shared_storage.read_task("w", "node")
        assert ["w"] == shared_storage.list_workflows()


def _all_whole(storage: Storage, writers: int) -> None:
    own = [f"own {number}" for number in range(writers)]
    assert sorted([*own, "same"]) == storage.list_tasks("w")
    assert number_of(storage.read_task("w", "same")) in range(writers)
    assert {SAVES - 1} == {number_of(storage.read_task("w", name)) for name in own}

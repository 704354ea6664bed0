"""Graphs whose results are kept in files: the first run, and resuming what is finished; joblib.Memory beside.

Making a file takes 20 to 700 microseconds, by the disk and the folder.
So beside a first run are as many plain files, and another one is in shared memory, where it takes next to nothing.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from local import MICRO
from measuring import OURS, Options, Row, Target, available, in_turns, main, timed
from shapes import chain

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Way = Callable[[Path, int], object]

FIRST: Final = 2_000
FINISHED: Final = 10_000
MEMORY: Final = "joblib.Memory"
FILES: Final = "plain files"
RESULT: Final = bytes(500)  # as long as the file of a small result
SHARED: Final = "/dev/shm"  # noqa: S108 - where Linux has files in memory


def ours(folder: Path, size: int) -> Any:
    """A chain with a storage."""
    made = LocalWorkflow(chain(workflow, size), workflow_name="bench")
    made.set_storage(storage_factory({"kind": "file", "options": {"path": str(folder)}}))
    return made.run()


def joblib_memory(folder: Path, size: int) -> Any:
    """The same calls, each of which is remembered."""
    from joblib import Memory

    return chain(Memory(folder, verbose=0).cache, size)


def plain_files(folder: Path, size: int) -> None:
    """As many files, each written beside its place and moved there."""
    for number in range(size):
        written = folder / f"{number}.part"
        written.write_bytes(RESULT)
        written.replace(folder / str(number))


def ways() -> dict[str, Way]:
    """What is compared, each with results."""
    found: dict[str, Way] = {OURS: ours}
    return {**found, MEMORY: joblib_memory} if available("joblib") else found


def in_new_folder(way: Way, within: str | None, size: int) -> Callable[[], float]:
    """Microseconds of a node, with nothing stored."""

    def measure() -> float:
        with tempfile.TemporaryDirectory(dir=within) as folder:
            return timed(lambda: way(Path(folder), size), MICRO / size)()

    return measure


def first_runs(options: Options, within: str | None, where: str = "") -> Row:
    """Nothing is stored."""
    size = options.size(FIRST)
    compared = {**ways(), FILES: plain_files}
    contestants = {name: in_new_folder(way, within, size) for name, way in compared.items()}
    taken = in_turns(contestants, options.repeats)
    return Row.of("files", f"first run of {size:,}{where}", "us/node", taken, Target(120))


def resumed(options: Options) -> Iterator[Row]:
    """Everything is stored."""
    size = options.size(FINISHED)
    with tempfile.TemporaryDirectory(dir=options.folder) as within:
        contestants = {}
        for name, way in ways().items():
            folder = Path(within, name)
            way(folder, size)
            contestants[name] = timed(lambda way=way, folder=folder: way(folder, size))  # type: ignore[misc]
        taken = in_turns(contestants, options.repeats)
        yield Row.of("files", f"resume of {size:,} that are stored", "s", taken, Target(0.3))
        with opened(within) as files:
            ours(Path(within, OURS), size)
        what = "results read by that resume"  # a header, then its value: of one file
        yield Row.of("files", what, "files", {OURS: [len(set(files))]}, Target(1))


@contextmanager
def opened(folder: str) -> Iterator[list[str]]:
    """The files of a folder that are opened in the block, also by their names in an opened folder."""
    files: list[str] = []
    watching = True

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if not watching or event != "open" or given[2] & os.O_DIRECTORY:
            return
        path = given[0]
        if isinstance(path, str) and (path.startswith(folder) or os.sep not in path):
            files.append(os.path.basename(path))

    sys.addaudithook(hook)  # it cannot be taken away
    yield files
    watching = False


def measure(options: Options) -> Iterator[Row]:
    """All rows."""
    yield first_runs(options, options.folder)
    if Path(SHARED).is_dir():
        yield first_runs(options, SHARED, ", in memory")
    yield from resumed(options)


if __name__ == "__main__":
    main(measure, __doc__)

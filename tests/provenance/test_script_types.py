"""Classes and functions of a script are its own in each run: for every pair of engines that store and load results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STUDY = Path(__file__).with_name("study_of_types.py")
LOCAL = ("serial", "threads", "processes")
LIMIT = 200  # seconds until a program that hangs fails a test
IMPORTED = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import study_of_types
if __name__ == "__main__":
    study_of_types.main()
"""


def run(
    engine: str,
    start: str,
    folders: Sequence[Path],
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = (str(STUDY),),
) -> list[str]:
    """Run the study on an engine with each storage, and return a line for each."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, *program, engine, start, *map(str, folders)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    assert 0 == done.returncode, done.stderr[-3_000:]
    return [line for line in done.stdout.splitlines() if line.startswith(f"{engine} ")]


def check_pairs(
    folder: Path, engines: Sequence[str], environment: Mapping[str, str] | None = None
) -> None:
    """Store with each engine in one process, and load all storages with each engine in another."""
    for engine in engines:
        stored = run(engine, "fork", [folder / engine], environment)
        assert [f"{engine} {folder / engine} [] [] True True"] == stored
    for engine in engines:
        folders = [folder / other for other in engines]
        expected = [f"{engine} {each} [] [] True True" for each in folders]
        assert expected == run(engine, "spawn", folders, environment)


def test_pairs_of_local_engines(tmp_path: Path) -> None:
    """Serial, threads and worker processes load what each of them stored."""
    check_pairs(tmp_path, LOCAL)


def test_pairs_with_clusters(tmp_path: Path, ray_cluster: None) -> None:
    """All pairs of the local engines, Dask and Ray."""
    pytest.importorskip("distributed")
    ray = pytest.importorskip("ray")
    address = ray.get_runtime_context().gcs_address
    check_pairs(tmp_path, [*LOCAL, "dask", "ray"], {"RAY_ADDRESS": address})


def test_pairs_with_prefect(tmp_path: Path, prefect_server: str) -> None:
    """Prefect's threads and processes, and the script's own process."""
    engines = ["serial", "prefect-threads", "prefect-processes"]
    check_pairs(tmp_path, engines, {"PREFECT_API_URL": prefect_server})


STATE = """
from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

class Counter:
    count = 0
    def double(self):
        return 2 * Counter.count

double = Counter.double

@workflow
def increase():
    Counter.count += 1
    return Counter(), Counter.count

for _ in range(2):
    counter, count = LocalWorkflow(increase(), workflow_name="w", workers=1).run()
    print(count, Counter.count, counter.double(), Counter.double is double)
    Counter.count = 10
"""


def test_state_of_a_class(tmp_path: Path) -> None:
    """What a node changes in a class stays in its process, and a later run has what the script has changed."""
    (tmp_path / "study.py").write_text(STATE)
    done = subprocess.run(
        [sys.executable, "study.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    assert ["1 0 0 True", "11 10 20 True"] == done.stdout.splitlines()


def test_script_and_module(tmp_path: Path) -> None:
    """What a script stored is read after an import of its file, and the reverse."""
    program = tmp_path / "other.py"
    program.write_text(IMPORTED)
    as_module = [str(program), str(STUDY.parent)]
    for engine in ("serial", "processes"):
        script, module = tmp_path / f"script-{engine}", tmp_path / f"module-{engine}"
        run(engine, "fork", [script])
        run(engine, "fork", [module], program=as_module)
        for loader in ("serial", "processes"):
            (loaded,) = run(loader, "fork", [script], program=as_module)
            assert f"{loader} {script} [] [] True True" == loaded
            (loaded,) = run(loader, "fork", [module])
            assert f"{loader} {module} [] [] True True" == loaded


ALLOWED = """
import enum, sys
from functionfuse.storage import storage_factory

class Color(enum.Enum):
    RED = 1

def opened(**options):
    return storage_factory({"kind": "file", "options": {"path": "results", **options}})

print("runs as", __name__)
if __name__ == "__main__":
    for allowed in ([Color], ["study.Color"], ["__main__.Color"]):
        print(opened(allowed_types=allowed).read_task("w", "color") is Color.RED)
"""


def test_allowed_types(tmp_path: Path) -> None:
    """A script reads what its module stored without a second run of its body, also with `allowed_types`."""
    (tmp_path / "study.py").write_text(ALLOWED)
    store = "import study; study.opened().save('w', 'color', study.Color.RED)"
    for program in (["-c", store], ["study.py"]):
        done = subprocess.run(  # noqa: S603
            [sys.executable, *program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        )
    assert ["runs as __main__", *["True"] * 3] == done.stdout.splitlines()


BYTES = """
import dataclasses, enum, typing
from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.storage import storage_factory

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Point:
    x: int
    color: Color

class Pair(typing.NamedTuple):
    x: int

@workflow
def make():
    return {Color.RED: [Point(1, Color.RED), Pair(1), helper], "x": Point}

def helper():
    return Color.RED

def digest(name, **options):
    storage = storage_factory({"kind": "file", "options": {"path": name}})
    made = LocalWorkflow(make().set_name("made"), workflow_name="w", **options)
    made.set_storage(storage)
    made.run()
    return storage.info("w", "made")["value"]

print(digest("serial") == digest("processes", workers=1))
"""


def test_one_digest_on_all_engines(tmp_path: Path) -> None:
    """A result has the same digest, whether the script's process or a worker stored it."""
    (tmp_path / "study.py").write_text(BYTES)
    done = subprocess.run(
        [sys.executable, "study.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    assert "True" == done.stdout.strip()

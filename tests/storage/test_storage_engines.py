"""Each kind of storage on engines, most of which run nodes elsewhere: kept, resumed from, read back."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from engine_helpers import ENGINES, OTHER_PROCESSES
from storage_servers import BUCKET

from functionfuse import workflow
from functionfuse.errors import StorageError
from functionfuse.storage import storage_factory
from functionfuse.testing.engine.suite import Journal

if TYPE_CHECKING:
    from pathlib import Path

ELSEWHERE = [*OTHER_PROCESSES, "prefect"]
on_engines = pytest.mark.parametrize("make_workflow", ELSEWHERE, indirect=True)


@workflow
def joined(journal: Journal, word: str, *before: str) -> str:
    """Write a word, and put it after others."""
    journal.write(word)
    return " ".join([*before, word])


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """The file in which nodes record their calls."""
    return Journal(str(tmp_path / "journal"))


def storage_of(kind: str, folder: Path, request: pytest.FixtureRequest) -> Any:
    """An empty storage of a kind."""
    match kind:
        case "file":
            options: dict[str, Any] = {"path": str(folder)}
        case "fsspec":
            options = {"url": f"file://{folder}"}
        case _:
            server = request.getfixturevalue("moto_server")
            options = {"path": f"{BUCKET}/{uuid.uuid4()}", "s3fs": server.options()}
    return storage_factory({"kind": kind, "options": options})


@on_engines
@pytest.mark.parametrize("kind", ["file", "S3", "fsspec"])
def test_resume(
    make_workflow: Any,
    kind: str,
    tmp_path: Path,
    journal: Journal,
    request: pytest.FixtureRequest,
) -> None:
    """A stored node is not executed again, loaded only if it is needed, and can be read by name."""
    storage = storage_of(kind, tmp_path / "kept", request)
    first = joined(journal, "first").set_name("first")
    second = joined(journal, "second", first).set_name("second")
    third = joined(journal, "third", second).set_name("third")
    for target, expected, computed, loaded in (
        (second, "first second", ["first", "second"], []),
        (third, "first second third", ["third"], ["second"]),
        (third, "first second third", [], ["third"]),
    ):
        made = make_workflow(target, workflow_name="resumed")
        made.set_storage(storage)

        assert expected == made.run()
        assert computed == made.report.names("computed")
        assert loaded == made.report.names("loaded")

    assert ["first", "second", "third"] == journal.lines()
    assert ["first", "second", "third"] == sorted(storage.list_tasks("resumed"))
    assert "first second" == storage.read_task("resumed", "second")


@pytest.mark.parametrize("make_workflow", OTHER_PROCESSES, indirect=True)
def test_memory_of_another_process(make_workflow: Any, journal: Journal) -> None:
    """Where nodes run in other processes, a storage in memory is refused, and nothing seems to be kept."""
    storage = storage_factory({"kind": "memory", "options": {"name": f"test-{uuid.uuid4()}"}})
    made = make_workflow(joined(journal, "word"), workflow_name="memory")
    made.set_storage(storage)

    with pytest.raises(StorageError, match=r"memory of another process; .*'file', 'S3'"):
        made.run()
    assert [] == storage.list_tasks("memory")


@pytest.mark.parametrize(
    "make_workflow", [name for name in ENGINES if name not in OTHER_PROCESSES], indirect=True
)
def test_memory_of_this_process(make_workflow: Any, journal: Journal) -> None:
    """Where nodes run in this process, a storage in memory is as good as any."""
    storage = storage_factory({"kind": "memory", "options": {"name": f"test-{uuid.uuid4()}"}})
    for _ in range(2):
        made = make_workflow(joined(journal, "word").set_name("word"), workflow_name="memory")
        made.set_storage(storage)
        assert "word" == made.run()

    assert ["word"] == journal.lines()
    assert "word" == storage.read_task("memory", "word")

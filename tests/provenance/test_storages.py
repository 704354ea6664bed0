"""Resuming on each kind of storage: edits are honoured, and what other versions stored is unknown."""

from __future__ import annotations

import hashlib
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from storage_servers import BUCKET

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.plan import Action
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from pathlib import Path

    from storage_servers import S3Server

ran: list[str] = []


@workflow
def scaled(factor: int) -> list[int]:
    """Numbers, of which the sign of the factor says nothing."""
    ran.append("scaled")
    return [abs(factor) * number for number in range(4)]


@workflow
def total(rows: list[int], *, weight: int = 1) -> int:
    """Their sum."""
    ran.append("total")
    return sum(rows) * weight


def study(storage: Any, factor: int = 2, **options: Any) -> LocalWorkflow[int]:
    """Two nodes, one of the other."""
    rows = scaled(factor).set_name("rows")
    made = LocalWorkflow(total(rows, **options).set_name("total"), workflow_name="study")
    made.set_storage(storage)
    return made


def run(storage: Any, *given: Any, **options: Any) -> tuple[int, list[str]]:
    """The value, and which functions ran for it."""
    ran.clear()
    return study(storage, *given, **options).run(), [*ran]


@pytest.fixture(params=["file", "signed", "memory", "s3", "signed s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty storage."""
    options: dict[str, Any] = {}
    if "signed" in request.param:
        monkeypatch.setenv("STUDY_KEY", "a secret of sixteen bytes or more")
        options["signing_key"] = "env:STUDY_KEY"
    if "s3" in request.param:
        server: S3Server = request.getfixturevalue("moto_server")
        options |= {"path": f"{BUCKET}/{tmp_path.name}", "s3fs": server.options()}
        return storage_factory({"kind": "S3", "options": options})
    if request.param == "memory":
        return storage_factory({"kind": "memory", "options": options})
    return storage_factory({"kind": "file", "options": {"path": str(tmp_path), **options}})


def test_edits_are_honoured(storage: Any) -> None:
    """A resumed run, an edited argument, one that changes no value, and results that are accepted."""
    assert (12, ["scaled", "total"]) == run(storage)
    assert (12, []) == run(storage)
    assert (36, ["total"]) == run(storage, weight=3)
    assert (36, ["scaled"]) == run(storage, -2, weight=3)  # the same rows: the total stays
    assert (36, []) == run(storage, -2, weight=3)
    assert ["total"] == study(storage, -2, weight=4).accept("total")
    assert (36, []) == run(storage, -2, weight=4)
    assert ["rows", "total"] == study(storage, -2).forget("rows")
    assert (12, ["scaled", "total"]) == run(storage, -2)


def test_results_without_a_fingerprint_are_unknown(storage: Any) -> None:
    """They are loaded, and the plan says so; until they are accepted, nothing is known of them."""
    storage.save("study", "total", 7)
    planned = study(storage).plan()["total"]
    assert (Action.LOAD, "unknown: stored before fingerprints") == (planned.action, planned.reason)
    assert (7, []) == run(storage)
    assert ["total"] == study(storage).accept("total")
    assert (7, []) == run(storage)
    assert (36, ["scaled", "total"]) == run(storage, weight=3)


def test_results_of_the_published_format_are_unknown(tmp_path: Path) -> None:
    """A pickle and its SHA-1."""
    stream = pickle.dumps(7)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "total").write_bytes(stream + hashlib.sha1(stream).digest())  # noqa: S324
    storage = storage_factory(tmp_path)
    assert "unknown: stored before fingerprints" == study(storage).plan()["total"].reason
    assert (7, []) == run(storage)
    assert ["total"] == study(storage).accept("total")
    assert (36, ["scaled", "total"]) == run(storage, weight=3)

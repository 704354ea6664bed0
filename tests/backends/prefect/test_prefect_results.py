"""Prefect's results, caches and transactions: the same as in a plain flow."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from prefect_cases import TRANSACTION_HOOKS, Case, Sides, double, failing, serial_numbers

prefect = pytest.importorskip("prefect")

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Caching(NamedTuple):
    """How a cached node goes: which runs execute it, and what the last one's state is."""

    options: dict[str, Any]
    executions: int
    last: str


def caching(kind: str, folder: Path) -> Caching:
    """Ways to have Prefect persist results; each call has its own key or folder."""
    from prefect.cache_policies import INPUTS

    place = folder / str(next(serial_numbers))
    kept = {"cache_key_fn": lambda context, parameters: f"{place.name} {parameters['value']}"}
    return {
        "key": Caching(kept, 1, "Cached"),
        "policy": Caching({"cache_policy": INPUTS.configure(key_storage=place)}, 1, "Cached"),
        "expired": Caching({**kept, "cache_expiration": timedelta()}, 2, "Completed"),
        "refreshed": Caching({**kept, "refresh_cache": True}, 2, "Completed"),
        "not persisted": Caching({**kept, "persist_result": False}, 2, "Completed"),
        "storage key": Caching({"result_storage_key": f"{folder.name}-{place.name}"}, 1, "Cached"),
    }[kind]


def kept_in(file: Path) -> str:
    """The result in a file of Prefect, which writes those of flows without anything around them."""
    content = json.loads(file.read_text())
    return str(content["result"] if isinstance(content, dict) else content)


class TestResults:
    """Prefect persists the same for a node as for a plain task."""

    @pytest.mark.parametrize(
        "kind",
        [
            "key",
            "policy",
            "expired",
            "refreshed",
            "not persisted",
            "storage key",
        ],
    )
    def test_caching(self, sides: Sides, tmp_path: Path, kind: str) -> None:
        """As many of two runs execute the node as execute a plain task; the other loads the persisted result."""
        expected = caching(kind, tmp_path)

        def case(said: list[Any]) -> Case:
            return Case(failing(said, 0), caching(kind, tmp_path).options, times=2)

        outcome = sides.compare(case)
        assert [20] * 2 == outcome.results
        assert ["called"] * expected.executions == outcome.said
        assert expected.last == outcome.runs["node"][0].states[-1]

    @pytest.mark.parametrize("serializer", ["json", "pickle"])
    def test_file(self, sides: Sides, tmp_path: Path, serializer: str) -> None:
        """With result_storage_key the file has the path and content of a plain task's."""
        from prefect.filesystems import LocalFileSystem

        storage = LocalFileSystem(basepath=str(tmp_path / "block"))
        storage.save("options-results", overwrite=True)
        files: list[Path] = []

        def case(_: list[Any]) -> Case:
            key = f"kept-{next(serial_numbers)}/of-{{parameters[value]}}"
            files.append(tmp_path / "block" / key.format(parameters={"value": 20}))
            options = {
                "persist_result": True,
                "result_storage": storage,
                "result_storage_key": key,
                "result_serializer": serializer,
            }
            return Case(lambda value: {"doubled": [value, value]}, options)

        assert [{"doubled": [20, 20]}] == sides.compare(case).results
        hand, ours = (json.loads(file.read_text()) for file in files)
        for record in (hand, ours):
            record["metadata"].pop("storage_key")
            record["metadata"].pop("storage_block_id", None)
        assert hand == ours

    def test_flow_result(self, sides: Sides, tmp_path: Path) -> None:
        """persist_result, result_storage and result_serializer of a flow hold for its nodes and its own result."""
        from prefect.filesystems import LocalFileSystem

        folders: list[Path] = []

        def case(_: list[Any]) -> Case:
            name = f"options-flow-{next(serial_numbers)}"
            folders.append(tmp_path / name)
            storage = LocalFileSystem(basepath=str(folders[-1]))
            storage.save(name, overwrite=True)
            options = {
                "persist_result": True,
                "result_storage": storage,
                "result_serializer": "json",
            }
            return Case(double, flow=options)

        assert [40] == sides.compare(case).results
        hand, ours = (sorted(map(kept_in, folder.iterdir())) for folder in folders)
        assert ["20", "40", "40"] == hand
        assert hand == ours

    @pytest.mark.parametrize("asked", ["setting", "tasks", "block", "server"])
    def test_settings(self, sides: Sides, tmp_path: Path, asked: str) -> None:
        """Settings and the server's own default storage persist results, as in a plain flow."""
        from prefect import get_client
        from prefect import settings as known
        from prefect.filesystems import LocalFileSystem

        folders: list[Path] = []

        def case(_: list[Any]) -> Case:
            folders.append(tmp_path / f"options-default-{next(serial_numbers)}")
            return Case(double, around=kept)

        def kept(run: Callable[[], Any]) -> Any:
            folder = folders[-1]
            block = LocalFileSystem(basepath=str(folder))
            identity: Any = block.save(folder.name, overwrite=True)
            chosen: dict[Any, Any] = {
                known.PREFECT_LOCAL_STORAGE_PATH: str(folder),
                known.PREFECT_RESULTS_DEFAULT_SERIALIZER: "json",
            }
            if asked == "setting":
                chosen[known.PREFECT_RESULTS_PERSIST_BY_DEFAULT] = True
            elif asked == "tasks":
                chosen[known.PREFECT_TASKS_DEFAULT_PERSIST_RESULT] = True
            elif asked == "block":
                chosen[known.PREFECT_DEFAULT_RESULT_STORAGE_BLOCK] = (
                    f"local-file-system/{folder.name}"
                )
            with known.temporary_settings(chosen), get_client(sync_client=True) as client:
                if asked == "server":
                    client.update_server_default_result_storage(identity)
                try:
                    return run()
                finally:
                    client.clear_server_default_result_storage()

        assert [40] == sides.compare(case).results
        hand, ours = (sorted(map(kept_in, folder.iterdir())) for folder in folders)
        assert "20" in hand
        assert hand == ours


class TestTransactions:
    """Transactions around a run, and within nodes."""

    @pytest.mark.parametrize("fails", [False, True])
    def test_around_a_run(self, sides: Sides, fails: bool) -> None:  # noqa: FBT001
        """Nodes belong to the transaction around the run: they see its values, and are committed or rolled back with it."""
        from prefect.transactions import get_transaction, transaction

        def case(said: list[Any]) -> Case:
            def touch(value: int) -> Any:
                own = get_transaction()
                assert own is not None
                own.set("made", value)
                return own.get("around")

            hooks = {
                key: [lambda txn, key=key: said.append((key, txn.get("made")))]
                for key in TRANSACTION_HOOKS
            }

            def around(run: Callable[[], Any]) -> Any:
                with transaction() as txn:
                    txn.set("around", 5)
                    result = run()
                    said.append("ran")
                    if fails:
                        raise KeyError(1)
                return result

            outer = f"options-around-{next(serial_numbers)}"
            # Prefect gives what is rolled back to the flow run in which that happens: to none outside of any
            return Case(
                touch,
                hooks,
                {"name": inner},
                around=prefect.flow(name=outer)(around),
                reported_by=outer if fails else None,
                task_runs=3 if fails else 2,
            )

        inner = f"options-inner-{next(serial_numbers)}"
        outcome = sides.compare(case)
        assert [(KeyError, "1") if fails else 5] == outcome.results
        assert ["ran", ("on_rollback" if fails else "on_commit", 20)] == outcome.said
        last = "RolledBack" if fails else "Completed"
        assert {"seed": last, "node": last} == {
            name: runs[0].states[-1] for name, runs in outcome.runs.items() if inner not in name
        }

    def test_hooks_without_a_transaction(self, sides: Sides) -> None:
        """Each node is a transaction of its own, which is committed when it is done."""

        def case(said: list[Any]) -> Case:
            return Case(double, {"on_commit": [lambda _: said.append("committed")]})

        assert ["committed"] == sides.compare(case).said

    def test_in_a_node(self, sides: Sides) -> None:
        """A transaction in a node is rolled back with it."""
        from prefect.transactions import transaction

        def case(said: list[Any]) -> Case:
            def fails(value: int) -> int:
                with transaction() as txn:
                    txn.stage(value, on_rollback_hooks=[lambda _: said.append("rolled back")])
                    message = "no"
                    raise RuntimeError(message)

            return Case(fails)

        outcome = sides.compare(case)
        assert ["rolled back"] == outcome.said
        assert [(RuntimeError, "no")] == outcome.results

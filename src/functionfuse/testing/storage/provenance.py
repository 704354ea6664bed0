"""Provenance tests of storages: headers of many results, accepted fingerprints, and texts of code."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest

from functionfuse.errors import (
    CorruptResult,
    IgnoredProvenanceWarning,
    ResultNotFound,
    UntrustedResult,
)
from functionfuse.storage.hidden_files import encode_file
from functionfuse.testing.storage.damage import DAMAGE, flipped
from functionfuse.testing.storage.suite import HOSTILE, StorageSuite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functionfuse.storage.base import Storage
    from functionfuse.testing.storage.suite import Make, RawAccess

__all__ = ["ProvenanceTests"]

DIGEST: Final = "0123456789abcdef0123456789abcdef"
OLD: Final = {"derivation": "1" * 32, "literals": {"C": "10"}, "seed": None}
NEW: Final = {"derivation": "2" * 32, "literals": {"C": "\ud800 é"}, "parts": [["f", DIGEST]]}
#: Contents of stamps that no storage writes.
FOREIGN: Final = [
    *("", "[]", "null", "1", "{}", "[" * 100_000, '{"result": "", "accepted": 1}', "\ud800"),
    '{"result": 1, "accepted": 1, "fingerprint": {}}',
    '{"result": "", "accepted": "1", "fingerprint": {}}',
    f'{{"result": "", "accepted": {10**400}, "fingerprint": {{}}}}',
    '{"result": "", "accepted": NaN, "fingerprint": {}}',
    '{"result": "", "accepted": Infinity, "fingerprint": {}}',
    '{"result": "", "accepted": 1, "fingerprint": []}',
]


@contextlib.contextmanager
def ignored(*words: str) -> Iterator[None]:
    """Context in which the storage warns once that it ignores a file, in some words."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    found = [each for each in caught if each.category is IgnoredProvenanceWarning]
    assert 1 == len(found), caught
    assert all(word in str(found[0].message) for word in words), found[0].message


def save(storage: Storage, *names: str) -> None:
    """Save results of workflow `w` with a fingerprint."""
    for name in names:
        storage.save("w", name, name, metadata={"fingerprint": OLD})


def fingerprint(storage: Storage, name: str = "node") -> Any:
    """The fingerprint of a result of workflow `w`; `info` and `info_many` agree."""
    header = storage.info("w", name)
    assert {name: header} == storage.info_many("w", [name])
    assert {name: header} == storage.info_many("w", [name, "nothing"])  # by a listing of stamps
    assert ("accepted" in header) == (header["fingerprint"] != OLD)
    return header["fingerprint"]


class HeadersTests(StorageSuite):
    """Headers of several results."""

    def test_headers_of_many_results(self, storage: Storage) -> None:
        """`info_many` returns what `info` returns, for the requested names that are stored."""
        for workflow in ("w", "../w"):
            for name in (*HOSTILE, "other"):
                storage.save(workflow, name, name, metadata={"text": "x" * len(name)})
            found = storage.info_many(workflow, iter([*HOSTILE, "nothing"]))
            assert {name: storage.info(workflow, name) for name in HOSTILE} == found
        assert ({}, {}) == (storage.info_many("w", []), storage.info_many("nothing", ["node"]))

    def test_long_headers(self, storage: Storage) -> None:
        """A header of any length is read whole."""
        lengths = [10, 3_500, 4_000, 4_096, 20_000, 300_000]
        for length in lengths:
            storage.save("w", str(length), 1, metadata={"text": "x" * length})
        found = storage.info_many("w", map(str, lengths))
        assert lengths == [len(found[str(length)]["text"]) for length in lengths]

    @pytest.mark.parametrize("way", ["cut in the header", "changed header"])
    def test_damaged_headers_are_absent(
        self, storage: Storage, raw_access: RawAccess, way: str
    ) -> None:
        """A damaged or renamed result does not hide the headers of others, and is not stamped."""
        save(storage, "a", "node", "renamed", "z")
        raw_access.write("w", "renamed", raw_access.read("w", "a"))
        raw_access.write("w", "node", DAMAGE[way](raw_access.read("w", "node")))
        names = ["a", "node", "renamed", "z"]
        assert ["a", "z"] == sorted(storage.info_many("w", names))
        with pytest.raises((CorruptResult, UntrustedResult)):
            storage.info("w", "node")
        assert ["a", "z"] == storage.stamp("w", dict.fromkeys(names, NEW))

    def test_removing_returns_names(self, storage: Storage) -> None:
        """`remove_task` returns the names of the removed results, sorted."""
        save(storage, "b", "a", "c", "other")
        assert ["c"] == storage.remove_task("w", "c")
        assert ["a", "b"] == storage.remove_task("w", pattern="?")
        assert [] == storage.remove_task("w", pattern="?")
        with pytest.raises(ResultNotFound):
            storage.remove_task("w", "c")
        assert ["other"] == storage.list_tasks("w")


class StampTests(StorageSuite):
    """Accepted fingerprints."""

    def test_an_accepted_fingerprint(self, make: Make) -> None:
        """It replaces the one of the result, in all storages, and the result is unchanged."""
        storage = make()
        save(storage, "node", "other")
        before = storage.info("w", "node")
        assert ["node"] == storage.stamp("w", {"node": NEW})
        for each in (storage, make(), pickle.loads(pickle.dumps(storage))):
            header = each.info("w", "node")
            assert (NEW, OLD) == (fingerprint(each), fingerprint(each, "other"))
            assert header["accepted"] >= before["created"]
            assert {**before, "fingerprint": NEW} == {
                field: value for field, value in header.items() if field != "accepted"
            }
            assert "node" == each.read_task("w", "node")

    def test_the_latest_fingerprint_counts(self, storage: Storage) -> None:
        """A result is stamped any number of times, with fingerprints of any length."""
        save(storage, "node")
        for length in (1, 5_000, 100_000, 2):
            given = {"derivation": "x" * length}
            storage.stamp("w", {"node": given})
            assert given == fingerprint(storage)

    def test_a_later_result_is_not_accepted(self, storage: Storage) -> None:
        """A stamp belongs to one result: not to a later one under its name, even of the same value."""
        save(storage, "node", "removed")
        storage.stamp("w", {"node": NEW, "removed": NEW})
        storage.remove_task("w", "removed")
        save(storage, "node", "removed")
        assert (OLD, OLD) == (fingerprint(storage), fingerprint(storage, "removed"))
        storage.stamp("w", {"node": NEW})
        storage.remove_workflow("w")
        save(storage, "node")
        assert OLD == fingerprint(storage)

    def test_what_is_not_there_is_not_stamped(self, storage: Storage) -> None:
        """`stamp` names the results with a stamp: not missing ones, nor those replaced since their header was read."""
        save(storage, "a", "b", "c")
        headers = storage.info_many("w", ["a", "b"])
        save(storage, "b")
        given = dict.fromkeys(["a", "b", "c", "nothing"], NEW)
        assert ["a"] == storage.stamp("w", given, headers=headers)
        assert [NEW, OLD, OLD] == [fingerprint(storage, name) for name in "abc"]
        again = storage.info_many("w", ["a", "b"])
        assert ["a", "b"] == storage.stamp("w", given, headers=again)
        assert [] == storage.stamp("nothing", given)
        assert [] == storage.stamp("w", {})

    def test_no_stamp_is_left(self, storage: Storage, raw_access: RawAccess) -> None:
        """Stamps are removed with their results, and texts of code with their workflow."""
        save(storage, "a", "b", "c")
        storage.stamp("w", dict.fromkeys("abc", NEW))
        storage.save_sources("w", {DIGEST: "text"})
        assert 3 == len(stamps(raw_access))
        storage.remove_task("w", "a")
        storage.remove_task("w", pattern="b")
        assert ["c"] == stamps(raw_access)
        storage.remove_workflow("w")
        assert {} == raw_access.files()

    @pytest.mark.parametrize("way", DAMAGE)
    def test_a_damaged_stamp_is_ignored(
        self, storage: Storage, raw_access: RawAccess, way: str
    ) -> None:
        """One warning for a call names it, the fingerprint of the result counts, and it can be accepted again."""
        save(storage, "node", "other")
        storage.stamp("w", {"node": NEW, "other": NEW})
        place = "w/.stamps", "node"
        raw_access.write(*place, DAMAGE[way](raw_access.read(*place)))
        with ignored("1 accepted", "node: ", "accept these results again"):
            assert OLD == storage.info("w", "node")["fingerprint"]
        with ignored("1 accepted", "node: "):
            found = storage.info_many("w", ["node", "other"])
        assert [OLD, NEW] == [found[name]["fingerprint"] for name in ("node", "other")]
        storage.stamp("w", {"node": NEW})
        assert NEW == fingerprint(storage)

    def test_each_byte_of_a_stamp_counts(self, storage: Storage, raw_access: RawAccess) -> None:
        """A change of any byte is detected, without a key except in the signature."""
        save(storage, "node")
        storage.stamp("w", {"node": NEW})
        data = raw_access.read("w/.stamps", "node")
        zeros = (
            range(*(data.index(word) for word in (b" 0000", b"\n{"))) if b" 0000" in data else ()
        )
        for position in self.chosen(range(len(data))):
            if position not in zeros:
                raw_access.write("w/.stamps", "node", flipped(data, position, 1))
                with ignored("node: "):
                    assert OLD == storage.info("w", "node")["fingerprint"]

    def test_a_stamp_of_another_result_is_ignored(
        self, storage: Storage, raw_access: RawAccess
    ) -> None:
        """A stamp that was copied or renamed accepts nothing."""
        save(storage, "a", "b")
        storage.stamp("w", {"a": NEW})
        raw_access.write("w/.stamps", "b", raw_access.read("w/.stamps", "a"))
        with ignored("b: "):
            assert OLD == storage.info("w", "b")["fingerprint"]

    @pytest.mark.parametrize("content", FOREIGN, ids=range(len(FOREIGN)))
    def test_a_foreign_stamp_is_ignored(
        self, storage: Storage, raw_access: RawAccess, content: str
    ) -> None:
        """A file with a valid checksum may have any content."""
        save(storage, "node")
        storage.stamp("w", {"node": NEW})
        data = encode_file("stamp", "w", "node", content.encode(errors="surrogatepass"), None)
        raw_access.write("w/.stamps", "node", data)
        with ignored("node: "):
            assert OLD == storage.info("w", "node")["fingerprint"]

    def test_a_result_without_header_is_stamped(
        self, storage: Storage, raw_access: RawAccess
    ) -> None:
        """A result of the earlier published version is accepted, unless results must be signed; a later one is not."""
        save(storage, "node", "other")
        for number in range(2):
            stream = pickle.dumps([number])
            data = stream + hashlib.sha1(stream, usedforsecurity=False).digest()
            raw_access.write("w", "node", data)
            if not storage.info_many("w", ["node"]):
                with pytest.raises(UntrustedResult):
                    storage.info("w", "node")
                assert [] == storage.stamp("w", {"node": NEW})
                return
            assert "accepted" not in storage.info("w", "node")
            storage.stamp("w", {"node": NEW})
            assert NEW == storage.info("w", "node")["fingerprint"]
            assert [number] == storage.read_task("w", "node")

    def test_stamping_at_the_same_time(self, storage: Storage) -> None:
        """Threads that save, stamp and read see whole stamps, and never one of another result."""

        def write(number: int) -> None:
            for _ in range(10):
                given = {"derivation": str(number)}
                storage.save("w", "node", number, metadata={"fingerprint": given, "number": number})
                headers = storage.info_many("w", ["node"])
                made = headers["node"]["number"]
                storage.stamp("w", {"node": {"derivation": f"{made} accepted"}}, headers=headers)

        def read() -> None:
            for _ in range(30):
                for header in storage.info_many("w", ["node"]).values():
                    accepted = " accepted" if "accepted" in header else ""
                    assert f"{header['number']}{accepted}" == header["fingerprint"]["derivation"]

        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(write, 1), pool.submit(write, 2), *(pool.submit(read),) * 2]
            for call in calls:
                call.result()

    def test_results_of_any_name_are_stamped(self, storage: Storage) -> None:
        """Stamps belong to names, and are neither results nor workflows."""
        for name in HOSTILE:
            storage.save("w", name, name)
        given = {name: {"derivation": repr(name)} for name in HOSTILE}
        assert sorted(HOSTILE) == storage.stamp("w", given)
        found = storage.info_many("w", HOSTILE)
        assert given == {name: header["fingerprint"] for name, header in found.items()}
        assert sorted(HOSTILE) == storage.list_tasks("w")
        assert ["w"] == storage.list_workflows()
        assert sorted(HOSTILE) == storage.remove_task("w", pattern="*")
        assert [] == storage.list_workflows()


class SourceTests(StorageSuite):
    """Texts of code, by digest."""

    def test_texts_of_code(self, make: Make) -> None:
        """They are read by their digests, in all storages, and are neither results nor workflows."""
        storage = make()
        texts = {f"{number:032x}": text for number, text in enumerate(["", "def f(): ...\n" * 900])}
        texts[DIGEST] = "s = '\ud800 é\r\n'"
        storage.save_sources("w", texts)
        storage.save_sources("v", {})
        for each in (storage, make()):
            assert texts == {digest: each.read_source("w", digest) for digest in texts}
            assert (None, None) == (each.read_source("w", "f" * 32), each.read_source("v", DIGEST))
            assert ([], []) == (each.list_tasks("w"), each.list_workflows())
        storage.remove_workflow("w")
        assert storage.read_source("w", DIGEST) is None

    def test_a_text_is_written_once(self, storage: Storage, raw_access: RawAccess) -> None:
        """Only texts that are missing are written: each has the digest as its name."""
        storage.save_sources("w", {DIGEST: "text"})
        before = raw_access.files()
        storage.save_sources("w", {DIGEST: "another", "e" * 32: "new"})
        assert before.items() <= raw_access.files().items()
        assert 2 == len(raw_access.files())
        assert ("text", "new") == tuple(
            storage.read_source("w", each) for each in (DIGEST, "e" * 32)
        )

    def test_any_digest(self, storage: Storage) -> None:
        """A digest of a forged header leads to no other file."""
        storage.save("w", "node", 1)
        for name in (*HOSTILE, "../node", "../.stamps/node", "../../w/node"):
            assert storage.read_source("w", name) is None
        storage.save_sources("w", {name: repr(name) for name in HOSTILE})
        assert all(repr(name) == storage.read_source("w", name) for name in HOSTILE)
        assert (["node"], 1) == (storage.list_tasks("w"), storage.read_task("w", "node"))

    @pytest.mark.parametrize("way", DAMAGE)
    def test_a_damaged_text_is_ignored(
        self, storage: Storage, raw_access: RawAccess, way: str
    ) -> None:
        """It is None with a warning, and written again by the next call that has it."""
        storage.save_sources("w", {DIGEST: "text"})
        raw_access.write("w/.sources", DIGEST, DAMAGE[way](raw_access.read("w/.sources", DIGEST)))
        with ignored(DIGEST):
            assert storage.read_source("w", DIGEST) is None
        storage.save_sources("w", {DIGEST: "text"})
        assert "text" == storage.read_source("w", DIGEST)

    def test_a_renamed_text_is_ignored(self, storage: Storage, raw_access: RawAccess) -> None:
        """A text under the digest of another one is not returned."""
        storage.save_sources("w", {DIGEST: "text", "e" * 32: "other"})
        raw_access.write("w/.sources", DIGEST, raw_access.read("w/.sources", "e" * 32))
        with ignored(DIGEST):
            assert storage.read_source("w", DIGEST) is None


class ProvenanceTests(HeadersTests, StampTests, SourceTests):
    """What a storage keeps about the origin of results."""


def stamps(raw_access: RawAccess) -> list[str]:
    """The files of stamps of workflow `w`."""
    found = (path.partition("/w/.stamps/")[2] for path in raw_access.files())
    return sorted(name for name in found if name)

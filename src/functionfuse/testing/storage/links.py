"""Link tests of storages: nothing outside the folder is read, written or deleted through symbolic links."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest

from functionfuse.errors import ResultNotFound, StorageError
from functionfuse.testing.storage.sidecars import Numbered, NumberedSerializer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["LinkTests"]

LONG_AGO: Final = time.time() - 100 * 24 * 3600
SIDECAR: Final = "01234567-89ab-cdef-0123-456789abcdef"  # the form of the names of sidecar folders
#: Links that another user of the folder can create, and their targets below a foreign folder.
LINKS: Final = {
    "workflow": ("w", ""),
    "objects": ("w/.objects", ""),
    "objects of a result": ("w/.objects/node", ""),
    "objects of another result": ("w/.objects/x", ""),
    "sidecar folder": (f"w/.objects/node/{SIDECAR}", ""),
    "entry of a sidecar folder": (f"w/.objects/node/{SIDECAR}/link", ""),
    "candidates": ("w/.objects/.candidates", ""),
    "published": ("w/bigdata", ""),
    "stamps": ("w/.stamps", ""),
    "stamp": ("w/.stamps/node", "thesis"),
    "sources": ("w/.sources", ""),
    "source": ("w/.sources/thesis", "thesis"),
    "temporary file of a stamp": ("w/.stamps/.tmp-1-1-0123abcd", "thesis"),
    "result": ("w/node", "thesis"),
    "temporary file": ("w/.tmp-1-1-0123abcd", "thesis"),
    "removed workflow": (".removed-0123456789abcdef", ""),
}


def attempt(call: Callable[[], Any]) -> None:
    """Call an operation; an error is allowed."""
    try:
        call()
    except StorageError:
        return


def contents(folder: Path) -> dict[str, bytes | None]:
    """The contents of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


class LinkTests:
    """Links below the folder of a storage."""

    #: Called as `make_in(folder, **options)`.
    make_in: ClassVar[Callable[..., Any]]

    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        """A foreign folder with old files that look like those of a storage."""
        home = tmp_path / "home"
        inner = home / SIDECAR
        for folder in (home, inner, home / "node" / SIDECAR, home / ".objects" / "node" / SIDECAR):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "thesis").write_text("precious")
        (home / ".tmp-1-1-0123abcd").write_text("precious")
        (home / f"r{0:012x}-{SIDECAR}-node").write_text("precious")
        for path in (home, *home.rglob("*")):
            os.utime(path, (LONG_AGO, LONG_AGO))
        return home

    @pytest.mark.parametrize(("link", "target"), LINKS.values(), ids=LINKS)
    def test_links_are_not_followed(
        self, tmp_path: Path, home: Path, link: str, target: str
    ) -> None:
        """No operation changes the target of a link, and no link is a result."""
        place = tmp_path / "storage" / link
        place.parent.mkdir(parents=True)
        place.symlink_to(home / target)
        os.utime(place.parent, (LONG_AGO, LONG_AGO))
        before = contents(home)
        storage = self.make_in(tmp_path / "storage", grace=0)
        storage.register_persistent_serializers(NumberedSerializer)
        assert [] == storage.list_tasks("w")
        for _ in range(2):
            for call in (
                lambda: storage.new_workflow("w"),
                lambda: storage.read_task("w", "node"),
                lambda: storage.save("w", "node", Numbered(1)),
                lambda: storage.save("w", "node", Numbered(2)),
                lambda: storage.save("w", "node", 3),
                lambda: storage.info_many("w", ["node", "thesis"]),
                lambda: storage.stamp("w", {"node": {}, "thesis": {}}),
                lambda: storage.save_sources("w", {"thesis": "text", "node": "text"}),
                lambda: storage.read_source("w", "thesis"),
                lambda: storage.new_workflow("w"),
                lambda: storage.remove_task("w", pattern="*"),
                lambda: storage.save("w", "thesis", 4),
                lambda: storage.remove_workflow("w"),
            ):
                attempt(call)
                assert before == contents(home)

    def test_a_linked_result_is_no_result(self, tmp_path: Path) -> None:
        """A link in place of a result is not listed, and reading reports it; saving replaces the link, not its target."""
        elsewhere = self.make_in(tmp_path / "elsewhere")
        elsewhere.save("w", "node", "elsewhere")
        storage = self.make_in(tmp_path / "storage")
        storage.new_workflow("w")
        link = tmp_path / "storage" / "w" / "node"
        link.symlink_to(tmp_path / "elsewhere" / "w" / "node")
        assert ([], False) == (storage.list_tasks("w"), storage.file_exists("w", "node"))
        for method in (storage.read_task, storage.info, storage.remove_task):
            with pytest.raises(ResultNotFound, match=r"w/node .*a symbolic link"):
                method("w", "node")
        storage.save("w", "node", "here")
        assert ("here", "elsewhere") == (
            storage.read_task("w", "node"),
            elsewhere.read_task("w", "node"),
        )
        assert not link.is_symlink()

    @pytest.mark.parametrize("link", [".stamps", ".stamps/node", ".sources", ".sources/0"])
    def test_linked_provenance_is_not_used(self, tmp_path: Path, link: str) -> None:
        """Stamps and texts of code are not read through links, and saved in their place where these are files."""
        storage = self.make_in(tmp_path / "storage")
        storage.save("w", "node", 1, metadata={"fingerprint": {"derivation": "1"}})
        storage.stamp("w", {"node": {"derivation": "2"}})
        storage.save_sources("w", {"0": "text"})
        place = tmp_path / "storage" / "w" / link
        place.rename(tmp_path / "elsewhere")
        place.symlink_to(tmp_path / "elsewhere")
        is_stamp = link.startswith(".stamps")
        for headers in ({"node": storage.info("w", "node")}, storage.info_many("w", ["node", "x"])):
            assert ("1" if is_stamp else "2") == headers["node"]["fingerprint"]["derivation"]
        assert (None if not is_stamp else "text") == storage.read_source("w", "0")
        attempt(lambda: storage.stamp("w", {"node": {"derivation": "3"}}))
        attempt(lambda: storage.save_sources("w", {"0": "another"}))
        assert place.is_symlink() == ("/" not in link)
        storage.remove_task("w", "node")
        storage.remove_workflow("w")
        assert (tmp_path / "elsewhere").exists()

    def test_a_linked_workflow_is_no_workflow(self, tmp_path: Path) -> None:
        """A link in place of a workflow is not listed, nothing in it is read or removed, and a run raises at its start."""
        elsewhere = self.make_in(tmp_path / "elsewhere")
        elsewhere.save("w", "node", 1)
        storage = self.make_in(tmp_path / "storage")
        (tmp_path / "storage").mkdir(exist_ok=True)
        (tmp_path / "storage" / "w").symlink_to(tmp_path / "elsewhere" / "w")
        assert ([], []) == (storage.list_workflows(), storage.list_tasks("w"))
        with pytest.raises(ResultNotFound, match="a symbolic link"):
            storage.read_task("w", "node")
        with pytest.raises(StorageError, match="symbolic link"):
            storage.new_workflow("w")
        with pytest.raises(StorageError, match="symbolic link"):
            storage.save("w", "node", 2)
        storage.remove_workflow("w")
        assert 1 == elsewhere.read_task("w", "node")

    def test_the_folder_of_a_storage_may_be_a_link(self, tmp_path: Path) -> None:
        """The folder of the storage itself may be a link: all operations work."""
        (tmp_path / "disk").mkdir()
        (tmp_path / "storage").symlink_to(tmp_path / "disk")
        storage = self.make_in(tmp_path / "storage")
        storage.register_persistent_serializers(NumberedSerializer)
        storage.new_workflow("w")
        storage.save("w", "node", Numbered(1))
        assert 1 == storage.read_task("w", "node").number
        assert ["node"] == storage.list_tasks("w")
        storage.remove_task("w", "node")
        storage.remove_workflow("w")
        assert ({}, True) == (contents(tmp_path / "disk"), (tmp_path / "storage").is_symlink())

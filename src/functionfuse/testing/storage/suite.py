"""Base of the storage suite: fixtures that create a storage and access its files directly."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import numpy as np
import pytest
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "HOSTILE",
    "Connection",
    "Make",
    "RawAccess",
    "Requests",
    "StorageSuite",
    "long_names",
    "names",
    "number_of",
    "value_of",
]

#: Names that a file system, a URL, a listing or a shell would take for something else.
HOSTILE: Final = [
    *("", "/", "/etc/passwd", "..", ".", "../../up", "a/../b", "a//b", "trailing/", "//"),
    *(".hidden", ".tmp-1-1-abcd", ".objects", ".damaged-x"),
    *("%", "%2e", "%~", "a%~b", "100 %", "a+b", "a b", "a&b=c", "a?b#c", "s3://bucket/key"),
    *("back\\slash", "with space ", "tab\tand\nline", "\r\n", "\x00", "\x7f", "\x85", "\ufffe"),
    *(
        "\ud800",
        "a\udfffb",
        "\ud83d\ude00",
        "\ud83d\ude00" * 75,
        "😀" * 75,
        "x" * 300,
        "x" * 301,
        "X" * 300,
        "n" * 1000,
    ),
    *("." * 300, "/" * 300, "é", "e\u0301", "ß", "\u017f", "ⓐ", "Ⓐ", "\u2160", "\u2170"),
    *("\u0345", "a\u0301\u0323", "a\u0323\u0301"),
    *("Name", "name", "NAME", "con", "node*", "[n]ode", "n?de", "{a,b}", "~", "$HOME", "<x>&'\""),
]
_pieces = st.text(st.sampled_from("aA./%\\~é*[")) | st.text(max_size=20)
_surrogates = st.characters(categories=["Cs"])
#: Any names; and such as no file system takes as they are.
names: Final = (
    st.sampled_from(HOSTILE)
    | _pieces
    | st.builds("{0}{1}{2}".format, _pieces, _surrogates, _pieces)
)
long_names: Final = st.builds("{0}{1}".format, names, st.integers(190, 260).map("n".__mul__))

#: Creates storages that share their results; takes the common options.
Make = Callable[..., Any]
#: A context manager; after the block, its list has the requests of the block.
Requests = Callable[[], AbstractContextManager[list[str]]]


class Connection(Protocol):
    """The connection between a storage and its server."""

    def break_after(self, nbytes: int) -> None:
        """Break the connection after some more bytes."""

    def mend(self) -> None:
        """Restore the connection."""


@dataclass(frozen=True)
class RawAccess:
    """Direct access to the files of a storage: `root/workflow/node`.

    Tests that use it have ordinary names of workflows and nodes, which are not encoded.
    """

    filesystem: Any  # of fsspec, not the instance of the storage
    root: str

    def path(self, workflow: str, node: str) -> str:
        """The path of a result."""
        return f"{self.root}/{workflow}/{node}"

    def read(self, workflow: str, node: str) -> bytes:
        """The bytes of a result."""
        data: bytes = self.filesystem.cat_file(self.path(workflow, node))
        return data

    def write(self, workflow: str, node: str, data: bytes) -> None:
        """Replace the bytes of a result."""
        self.filesystem.pipe_file(self.path(workflow, node), data)

    def remove(self, workflow: str, node: str) -> None:
        """Remove the file of a result."""
        self.filesystem.rm_file(self.path(workflow, node))

    def files(self) -> dict[str, bytes]:
        """All files, including sidecar files and leftovers."""
        return {path: self.filesystem.cat_file(path) for path in self.filesystem.find(self.root)}


class StorageSuite:
    """One part of the storage suite; see `functionfuse.testing.StorageTests`."""

    #: Other processes see the same results.
    shared: ClassVar[bool] = True
    #: How many examples each property test tries, of how many steps.
    max_examples: ClassVar[int] = 40
    steps: ClassVar[int] = 20
    #: How often a process is killed during a save.
    kills: ClassVar[int] = 200
    #: How many ways to damage a small result are tried; 0 is all.
    damages: ClassVar[int] = 0

    @pytest.fixture
    def make(self) -> Make:
        """Called as `make(**options)`: storages that share their results, which are none at first."""
        raise NotImplementedError

    @pytest.fixture
    def storage(self, make: Make) -> Any:
        """The storage under test."""
        return make()

    @pytest.fixture
    def shared_storage(self, storage: Any) -> Any:
        """The storage, for tests that use it in other processes."""
        if not self.shared:
            pytest.skip("other processes do not see these results")
        return storage

    @pytest.fixture
    def raw_access(self) -> RawAccess:
        """Direct access to the files of the storage."""
        pytest.skip("the files of this storage cannot be accessed directly")

    @pytest.fixture
    def connection(self) -> Connection:
        """The connection that tests break."""
        raise NotImplementedError

    @pytest.fixture
    def requests(self) -> Requests:
        """The requests to the server."""
        raise NotImplementedError

    @pytest.fixture
    def secrets(self) -> Sequence[str]:
        """The secrets of the storage."""
        raise NotImplementedError

    def chosen(self, ways: Sequence[Any]) -> Sequence[Any]:
        """All ways to damage a result, or a sample that is the same in each run."""
        if not self.damages or len(ways) <= self.damages:
            return ways
        return random.Random(0).sample(ways, self.damages)  # noqa: S311


def value_of(number: int, size: int = 20_000) -> dict[str, Any]:
    """A value whose parts all have the number, so that incomplete values are detected."""
    return {"first": number, "array": np.full(size, number), "last": [number] * 10}


def number_of(value: Any) -> int:
    """The number of a complete value."""
    found = {value["first"], *value["array"].tolist(), *value["last"]}
    assert 1 == len(found), f"parts of several values: {found}"
    return int(found.pop())

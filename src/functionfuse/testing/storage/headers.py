"""Header tests of storages: renamed results and forged headers."""

from __future__ import annotations

import contextlib
import json
import random
import struct
import warnings
from typing import TYPE_CHECKING, Any, Final

import pytest
from xxhash import xxh3_128_digest

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import CorruptResult, FunctionFuseError, UntrustedResult
from functionfuse.storage.backends.file_names import file_name
from functionfuse.storage.base import Results
from functionfuse.testing.storage.suite import HOSTILE, StorageSuite

if TYPE_CHECKING:
    from collections.abc import Callable

    from functionfuse.storage.base import Storage
    from functionfuse.testing.storage.suite import RawAccess

__all__ = ["HeaderTests", "forged", "header_of"]

_PREFIX: Final = struct.Struct("<8sII16s32s")
#: A name that is cut for the file system: only the header has all of it.
LONG: Final = "n" * 300
TEXTS: Final = [
    *("", "a", "..", "../..", "\0", "\ud800", "/", "x" * 5000, "w", "node", "é", "\n", LONG),
    *("'", "(", "(" * 500, "-" * 100_000 + "1", "1" + "+1" * 30_000, "['a']", "('b',)", "{}"),
    *(
        "lambda: 0",
        "__import__('os')",
        "1e999",
        "b'x'",
        "[" * 90 + "]" * 90,
        "('..',)",
        "('a\0b',)",
    ),
]
NUMBERS: Final = [0, 1, -1, 64, 2**31, 2**63, -(2**70), 10**400, 0.5, float("nan"), float("inf")]
KEYS: Final = ["folder", "serializers", "pictures", "parts", "node", "workflow", "seconds", ""]


class Pictures:
    """Serializer of complex numbers into files."""

    serializer_class = complex
    name = "pictures"

    @classmethod
    def pickle(cls, obj: complex, protocols: Any) -> Any:
        """Write a number."""
        with protocols["folder protocol"].open("picture", "wb") as file:
            file.write(str(obj).encode())
        return cls.name, ("picture",)

    @classmethod
    def unpickle(cls, pid: Any, protocols: Any) -> complex:
        """Read a number."""
        with protocols["folder protocol"].open(pid[0], "rb") as file:
            return complex(file.read().decode())

    @classmethod
    def remove(cls, pid: Any, protocols: Any) -> None:
        """Remove a number."""
        protocols["folder protocol"].remove(pid[0])


@workflow
def one() -> int:
    """A node."""
    return 1


def header_of(data: bytes) -> dict[str, Any]:
    """The header of a result file."""
    length = _PREFIX.unpack_from(data)[2]
    header: dict[str, Any] = json.loads(data[_PREFIX.size : _PREFIX.size + length])
    return header


def forged(data: bytes, header: bytes) -> bytes:
    """A result file with a forged header and the correct digest, which needs no secret."""
    magic, version, length, _, signature = _PREFIX.unpack_from(data)
    start = struct.pack("<8sII", magic, version, len(header))
    digest = xxh3_128_digest(start + signature + header)
    return b"".join((start, digest, signature, header, data[_PREFIX.size + length :]))


class Forger:
    """Generates headers of random JSON, the same in each run."""

    def __init__(self, header: dict[str, Any], seed: int) -> None:
        """Start from a valid header."""
        self._right = header
        self._random = random.Random(seed)  # noqa: S311

    def header(self) -> bytes:
        """A header that is nearly valid, or other JSON."""
        right, chance = self._right, self._random.random()
        if chance < 0.02:
            return b"[" * 100_000
        header: Any = {**right, self._random.choice(list(right)): self._value()}
        if chance < 0.4:
            header = {**right, "objects": self._objects()}
        elif chance < 0.6:
            header = {name: value for name, value in right.items() if self._random.random() < 0.8}
        elif chance < 0.7:
            header = self._value()
        text = json.dumps(header, ensure_ascii=False).encode(errors="surrogatepass")
        return text if chance < 0.95 else text[: self._random.randrange(len(text) + 1)]

    def _objects(self) -> Any:
        right = self._right["objects"]
        return self._random.choice(
            [
                self._value(),
                {**right, "folder": self._value()},
                {**right, "serializers": self._value()},
                {**right, "serializers": {"pictures": self._value()}},
                {**right, "serializers": {"pictures": [self._value(), self._value()]}},
            ]
        )

    def _value(self, depth: int = 0) -> Any:
        choose = self._random.choice
        makers: list[Callable[[], Any]] = [
            lambda: choose([None, True, False]),
            lambda: choose(NUMBERS),
            lambda: choose(TEXTS),
            lambda: choose(TEXTS),
            lambda: json.loads("[" * 900 + "]" * 900),
            lambda: self._right[choose(list(self._right))],
        ]
        if depth < 4:
            several = range(self._random.randrange(4))
            makers += [
                lambda: [self._value(depth + 1) for _ in several],
                lambda: {choose(KEYS): self._value(depth + 1) for _ in several},
            ]
        return choose(makers)()


class HeaderTests(StorageSuite):
    """Headers are compared with the requested names, and may have any content."""

    #: How many headers are forged.
    forgeries = 60

    @pytest.mark.parametrize("there", [("w", "other"), ("v", "node"), ("v", "other")])
    def test_a_result_under_another_name_is_refused(
        self, storage: Storage, raw_access: RawAccess, there: tuple[str, str]
    ) -> None:
        """A file that was renamed or copied is neither read nor described under its new name."""
        storage.save("w", "node", "value")
        storage.save(*there, "overwritten")
        raw_access.write(*there, raw_access.read("w", "node"))
        for method in (storage.read_task, storage.info):
            with pytest.raises((CorruptResult, UntrustedResult), match=r"renamed|belongs to"):
                method(*there)
        assert "value" == storage.read_task("w", "node")
        storage.save(*there, "again")
        assert "again" == storage.read_task(*there)

    def test_results_that_were_swapped_are_not_used(
        self, storage: Storage, raw_access: RawAccess
    ) -> None:
        """A run computes renamed results again, or raises UntrustedResult."""
        node = one().set_name("node")
        storage.save("w", "node", 2)
        storage.save("w", "other", 3)
        mine, other = raw_access.read("w", "node"), raw_access.read("w", "other")
        raw_access.write("w", "node", other)
        raw_access.write("w", "other", mine)
        made = LocalWorkflow(node, workflow_name="w")
        made.set_storage(storage)
        with contextlib.suppress(UntrustedResult), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert 1 == made.run()

    @pytest.mark.parametrize("place", ["node", "workflow"])
    def test_a_long_name_is_listed_under_its_own_file_alone(
        self, storage: Storage, raw_access: RawAccess, place: str
    ) -> None:
        """A name in the header of a shortened file name counts only if it encodes to the file name."""
        other = "m" * 300
        there = {"node": ("w", other), "workflow": (other, "node")}[place]
        here = {"node": ("w", LONG), "workflow": (LONG, "node")}[place]
        storage.save(*here, 1)
        storage.save(*there, 2)
        data = raw_access.read(file_name(here[0]), file_name(here[1]))
        raw_access.write(file_name(there[0]), file_name(there[1]), data)
        names = storage.list_tasks("w") if place == "node" else storage.list_workflows()
        assert [LONG] == names

    def test_a_header_has_the_names_as_they_are(self, storage: Storage) -> None:
        """Names with halves of surrogate pairs, alone and in invalid pairs, are stored and listed."""
        for name in HOSTILE:
            storage.save(name, name, name)
            info = storage.info(name, name)
            assert (name, name) == (info["workflow"], info["node"])
            assert name == storage.read_task(name, name)

    def test_a_result_keeps_its_names(self, storage: Storage) -> None:
        """Metadata cannot change the names of a result."""
        storage.save("w", "node", 1, metadata={"workflow": "v", "node": "other", "seed": 3})
        info = storage.info("w", "node")
        assert ("w", "node", 3) == (info["workflow"], info["node"], info["seed"])
        assert 1 == storage.read_task("w", "node")

    def test_forged_headers(self, storage: Storage, raw_access: RawAccess) -> None:
        """Any header, with any digest, raises errors of the library, and the result can be replaced."""
        storage.register_persistent_serializers(Pictures)
        storage.save("w", "node", [1j, "text"])
        storage.save(LONG, "node", 1)
        whole = raw_access.read("w", "node")
        forger = Forger(header_of(whole), seed=14)
        paths = [("w", "node"), ("w", file_name(LONG)), (file_name(LONG), "node")]
        for number in range(self.forgeries):
            storage.save("w", "node", [1j, "text"])
            data = forged(whole, forger.header())
            for path in paths:
                raw_access.write(*path, data)
            _use(storage)
            if number % 2:
                with contextlib.suppress(FunctionFuseError):
                    storage.remove_task("w", "node")

    @pytest.mark.parametrize("seconds", ["a text", [1], None, {}])
    def test_a_forged_duration_is_not_believed(
        self, storage: Storage, raw_access: RawAccess, seconds: object
    ) -> None:
        """The seconds in a header may be of any type."""
        storage.save("w", "node", 1, metadata={"seconds": 0.5})
        assert 0.5 == Results(storage, "w").seconds("node")
        whole = raw_access.read("w", "node")
        header = {**header_of(whole), "seconds": seconds}
        raw_access.write("w", "node", forged(whole, json.dumps(header).encode()))
        assert Results(storage, "w").seconds("node") is None


def _use(storage: Storage) -> None:
    """Call all operations on a result."""
    made = LocalWorkflow(one().set_name("node"), workflow_name="w")
    made.set_storage(storage)
    calls: list[Callable[[], Any]] = [
        lambda: storage.read_task("w", "node"),
        lambda: storage.info("w", "node"),
        lambda: storage.file_exists("w", "node"),
        lambda: storage.list_tasks("w"),
        storage.list_workflows,
        lambda: str(made.plan()),
        lambda: storage.new_workflow("w"),
    ]
    for call in calls:
        with contextlib.suppress(FunctionFuseError):
            call()

"""How result files are read: what is checked is what is used, in any locale, from any process."""

from __future__ import annotations

import mmap
import os
import pickle
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from functionfuse.errors import ExposedKeyWarning
from functionfuse.storage import storage_factory
from functionfuse.storage.file_format.file_format import unframe
from functionfuse.storage.file_format.frame import frame
from functionfuse.storage.kinds import FileStorage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LARGE = np.ones(3_000_000)


@pytest.fixture
def key(tmp_path: Path) -> str:
    """The source of a signing key."""
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(os.urandom(32))
    return f"file:{path}"


def overwrite(path: Path) -> None:
    """Write zeros into an existing file, as no storage does."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(bytes(size))


# ---- mapped files ----


@pytest.mark.parametrize("verify", ["lazy", "always", "never"])
def test_with_a_key_a_value_does_not_depend_on_its_file_any_more(
    tmp_path: Path, key: str, verify: Any
) -> None:
    """A writer of the file without the key cannot change what was verified."""
    storage = FileStorage(tmp_path / "storage", signing_key=key, verify=verify)
    storage.save("w", "large", LARGE)
    value = storage.read_task("w", "large")
    overwrite(tmp_path / "storage" / "w" / "large")
    assert LARGE.sum() == value.sum()


@pytest.mark.parametrize("verify", ["lazy", "always", "never"])
def test_without_maps_a_value_does_not_depend_on_its_file_any_more(
    tmp_path: Path, verify: Any
) -> None:
    """With `map=False` a file may be truncated or written to after it was read, also elsewhere."""
    options = {"path": tmp_path / "storage", "map": False, "verify": verify}
    made = storage_factory({"kind": "file", "options": options})
    for storage in (made, pickle.loads(pickle.dumps(made))):
        storage.save("w", "large", LARGE)
        value = storage.read_task("w", "large")
        overwrite(tmp_path / "storage" / "w" / "large")
        os.truncate(tmp_path / "storage" / "w" / "large", 4096)
        assert LARGE.sum() == value.sum()
        storage.wait_verified()


def test_the_stream_and_header_that_were_checked_are_used(tmp_path: Path) -> None:
    """A mapped file that is written to after its verification changes neither what is unpickled nor the header."""
    path = tmp_path / "result"
    metadata = {"workflow": "w", "node": "node", "objects": "right"}
    path.write_bytes(frame({"text": "right", "array": LARGE}, metadata).joined())
    headers = []

    def forge(*_: object) -> None:
        """Write what has the same length, between the check and the unpickling."""
        data = path.read_bytes()
        start = data.index(b"\x80\x05")
        with path.open("r+b") as file:
            file.write(data[:start].replace(b"right", b"wrong"))
            file.write(data[start:].replace(b"right", b"wrong", 1))

    def loader(header: Mapping[str, Any] | None) -> Any:
        headers.append(header)
        return pytest.fail

    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    value = unframe(data, "w", "node", loader=loader, defer=forge)
    assert b"right" not in path.read_bytes()
    assert "right" == value["text"]
    assert ["right"] == [header and header["objects"] for header in headers]


# ---- keys ----


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o666])
def test_a_key_that_others_can_use_is_warned_of_once(tmp_path: Path, mode: int) -> None:
    """The warning names the file and the command that helps."""
    path = tmp_path / "a key"
    path.write_bytes(os.urandom(32))
    path.chmod(mode)
    with pytest.warns(ExposedKeyWarning, match=rf"mode {mode:04o}.*chmod 600 '{path}'"):
        storage = FileStorage(tmp_path / "storage", signing_key=f"file:{path}")
    storage.save("w", "node", 1)
    assert 1 == pickle.loads(pickle.dumps(storage)).read_task("w", "node")


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_of_its_owner_alone_is_not_warned_of(tmp_path: Path, mode: int) -> None:
    """A key file that only its owner can read causes no warning."""
    path = tmp_path / "key"
    path.write_bytes(os.urandom(32))
    path.chmod(mode)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FileStorage(tmp_path / "storage", signing_key=f"file:{path}")


# ---- locales ----

LOCALES = {
    "C": {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
    "UTF-8": {"PYTHONUTF8": "1"},
}
IN_A_LOCALE = r"""
import sys
from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import ResultNotFound
from functionfuse.storage import storage_factory

class Pictures:
    serializer_class = complex
    name = "pictures"

    @classmethod
    def pickle(cls, obj, protocols):
        with protocols["folder protocol"].open("gr\xfcn", "wb") as file:
            file.write(str(obj).encode())
        return cls.name, ("gr\xfcn",)

    @classmethod
    def unpickle(cls, pid, protocols):
        with protocols["folder protocol"].open(*pid, "rb") as file:
            return complex(file.read().decode())

    @classmethod
    def remove(cls, pid, protocols):
        protocols["folder protocol"].remove(*pid)

def storage():
    made = storage_factory(sys.argv[1] + "/r\xe9sultats")
    made.register_persistent_serializers(Pictures)
    return made

@workflow
def one():
    return [1j, "\u2160"]

def run(storage, **options):
    made = LocalWorkflow(one().set_name("\xe9t\xe9"), workflow_name="\xfc", **options)
    made.set_storage(storage)
    return made.run(), made.report.summary()

names = ["\xe9t\xe9", "\xdf" * 150, "\U0001f600", "\ud800"]
if sys.argv[2] == "write":
    assert "1 computed" in run(storage(), workers=1)[1]
    for name in names[1:]:
        storage().save("\xfc", name, [2j, name])
assert run(storage())[0] == [1j, "\u2160"]
assert "1 loaded" in run(storage())[1]
assert sorted(names) == storage().list_tasks("\xfc")
assert ["\xfc"] == storage().list_workflows()
assert [[2j, name] for name in names[1:]] == [storage().read_task("\xfc", name) for name in names[1:]]
try:
    storage().read_task("\xfc", "\xf6")
except ResultNotFound as error:
    assert "\xfc/\xf6" in str(error)
if sys.argv[2] == "remove":
    storage().new_workflow("\xfc")
    for name in names:
        storage().remove_task("\xfc", name)
    assert [] == storage().list_tasks("\xfc")
"""


@pytest.mark.parametrize("writer", LOCALES)
def test_names_are_the_same_in_every_locale(tmp_path: Path, writer: str) -> None:
    """Names that the locale cannot encode are written, listed, read and removed; another locale sees them."""
    (reader,) = LOCALES.keys() - {writer}
    for locale, what in ((writer, "write"), (reader, "read"), (writer, "remove")):
        environment = {**os.environ, **LOCALES[locale]}
        command = [sys.executable, "-c", IN_A_LOCALE, str(tmp_path), what]
        subprocess.run(command, env=environment, check=True)  # noqa: S603
    (folder,) = (tmp_path / "résultats").iterdir()
    assert "ü" == folder.name


# ---- children of a script ----

SCRIPT = """
import sys
from functionfuse.storage import storage_factory

class Point:
    def __init__(self, x):
        self.x = x

def double(number):
    return 2 * number

def save(folder, name):
    storage_factory(folder).save("w", name, {"point": Point(3), "call": double})
    storage_factory(folder).save("w", name + " by value", lambda: Point(double(2)))

def check(folder, name):
    found = storage_factory(folder).read_task("w", name)
    assert type(found["point"]) is Point and found["point"].x == 3
    assert found["call"] is double
    assert storage_factory(folder).read_task("w", name + " by value")().x == 4

def in_child(context, function, *arguments):
    process = context.Process(target=function, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0

if __name__ == "__main__":
    folder = sys.argv[1]
    names = ["parent", "spawn", "forkserver"]
    if sys.argv[2] == "write":
        import multiprocessing  # which makes __mp_main__ another name of the script

        save(folder, "parent")
        for method in names[1:]:
            in_child(multiprocessing.get_context(method), save, folder, method)
        for name in names:
            for method in names[1:]:
                in_child(multiprocessing.get_context(method), check, folder, name)
    for name in names:
        check(folder, name)
    print("read", "__mp_main__" in sys.modules)
"""


def test_objects_of_a_script_are_read_by_its_children_and_by_the_next_run(tmp_path: Path) -> None:
    """A class of the script is the same class, whether the script saved it or a child that it spawned."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    for what, said in (("write", b"read True\n"), ("read", b"read False\n")):
        command = [sys.executable, str(script), str(tmp_path / "storage"), what]
        assert said == subprocess.run(command, check=True, capture_output=True).stdout  # noqa: S603

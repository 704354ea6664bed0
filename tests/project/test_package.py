"""The wheel is complete, and works with its requirements alone."""

from __future__ import annotations

import subprocess
import zipfile
from email import message_from_bytes
from typing import TYPE_CHECKING

import functionfuse

if TYPE_CHECKING:
    from pathlib import Path

FOLDERS = {"functionfuse", f"functionfuse-{functionfuse.__version__}.dist-info"}
USE = """
import functionfuse, sys
from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.storage import storage_factory
double = workflow(lambda number: 2 * number)
flow = LocalWorkflow(double(double(1)).set_name("four"), workflow_name="w")
flow.set_storage(storage_factory({"kind": "file", "options": {"path": sys.argv[1]}}))
print(functionfuse.__file__, flow.run(), flow.run(), flow.report, sep="\\n")
"""


def test_the_wheel_holds_the_library_and_nothing_else(wheel: Path) -> None:
    """The wheel has the license and `py.typed`; no tests of the library, no pages."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "functionfuse/py.typed" in names
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    assert FOLDERS == {name.partition("/")[0] for name in names}


def test_the_wheel_describes_itself(wheel: Path) -> None:
    """The metadata has authors, license and Python versions; no address."""
    with zipfile.ZipFile(wheel) as archive:
        (file,) = (name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(file))
    assert "The FunctionFuse developers" == metadata["Author"]
    assert "Apache-2.0" == metadata["License-Expression"]
    assert ">=3.11" == metadata["Requires-Python"]
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert not metadata.get_all("Project-URL")


def test_the_wheel_works_alone(installed_wheel: Path, tmp_path: Path) -> None:
    """With the core dependencies alone, a graph runs and its results are stored."""
    command = [str(installed_wheel), "-I", "-W", "error", "-c", USE, str(tmp_path / "results")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert "" == done.stderr
    file, first, second, *report = done.stdout.splitlines()
    assert file.startswith(str(installed_wheel.parent.parent))
    assert ("4", "4") == (first, second)
    assert any("four" in line for line in report)

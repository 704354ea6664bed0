"""Programs that are started without some of the standard streams, as by `python script.py 2>&-`."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

STREAMS = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"]
LOCAL = "from functionfuse.backends.builtin.localback import LocalWorkflow as Workflow"
DASK = "from functionfuse.backends.builtin.daskback import DaskWorkflow as Workflow"
#: Nodes write to all streams, past Python as well; a value goes through a file.
SCRIPT = """
import os, sys, subprocess
import numpy
from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

@workflow
def total(array):
    print("printed", flush=True)
    print("printed", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-c", "import os; os.write(2, b'child')"])
    os.write(2, b"written")
    return int(array.sum()), len(os.read(0, 1))

@workflow
def noisy():
    os.write(1, b"written")
    return 7

if __name__ == "__main__":
    opened = open("opened", "w+")
    array = workflow(numpy.ones)(100_000)
    result = LocalWorkflow(total(array), noisy(), workflow_name="w", workers=2).run()
    with open("result", "w") as file:
        file.write(repr(result))
"""


def run_script(script: str, folder: Path, closed: str) -> subprocess.CompletedProcess[str]:
    """Run a script without some streams; the others are read."""
    (folder / "script.py").write_text(script)
    return subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", f'exec "$0" script.py {closed}', sys.executable],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("closed", STREAMS)
def test_workers(tmp_path: Path, closed: str) -> None:
    """Workers run without a stream; what nodes write to it goes nowhere, least of all into a file or a socket."""
    done = run_script(SCRIPT, tmp_path, closed)

    assert 0 == done.returncode, done.stderr
    assert "[(100000, 0), 7]" == (tmp_path / "result").read_text()
    assert "" == (tmp_path / "opened").read_text()
    if "2>&-" not in closed:
        assert "written" in done.stderr
    if ">&-" not in closed.replace("2>&-", ""):
        assert "written" in done.stdout


#: Nodes print, and a bar is drawn.
PRINTING = """
import sys
from functionfuse import workflow
from functionfuse.observers.progress import ProgressBar
IMPORT

@workflow
def speak(word):
    print(word, flush=True)
    print(word, file=sys.stderr, flush=True)
    return word

if __name__ == "__main__":
    made = Workflow(speak(speak("word")), workflow_name="w", OPTIONS)
    made.add_observer(ProgressBar())
    result = made.run()
    with open("result", "w") as file:
        file.write(result)
"""


@pytest.mark.parametrize("closed", STREAMS)
@pytest.mark.parametrize("options", ["", "workers=2, kind='threads'", "workers=2"])
def test_printing(tmp_path: Path, options: str, closed: str) -> None:
    """Nodes may print to streams that are closed, and so may observers."""
    script = PRINTING.replace("IMPORT", LOCAL).replace("OPTIONS", options)

    done = run_script(script, tmp_path, closed)

    assert (0, "word") == (done.returncode, (tmp_path / "result").read_text()), done.stderr


@pytest.mark.parametrize("closed", STREAMS[2:])  # a cluster takes seconds to start
def test_dask(tmp_path: Path, closed: str) -> None:
    """A Dask cluster that a run starts works without a stream as well."""
    pytest.importorskip("distributed")
    script = PRINTING.replace("IMPORT", DASK).replace("OPTIONS", "cluster_kwargs={'n_workers': 1}")

    done = run_script(script, tmp_path, closed)

    assert (0, "word") == (done.returncode, (tmp_path / "result").read_text()), done.stderr

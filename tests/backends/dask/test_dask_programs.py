"""Programs that run graphs on a Dask cluster of their own: interruption, a missing main guard, topics that stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("distributed")

from distributed import Client, LocalCluster
from engine_helpers import QUIET
from process_helpers import until

from functionfuse import workflow
from functionfuse.backends.builtin.daskback import DaskWorkflow

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 60  # seconds until a program that hangs fails a test
SHORT = 10  # lines on the terminal
SCRIPT = """
import time
from functionfuse import workflow
from functionfuse.backends.builtin.daskback import DaskWorkflow
from distributed import Client, LocalCluster

@workflow
def first():
    return 1

@workflow
def second(x):
    print("running", flush=True)
    FINISHES

def main():
    made = DaskWorkflow(second(first().set_name("first")), workflow_name="w", CLUSTER)
    made.set_storage("results")
    made.run()
"""
OF_THE_RUN = "cluster_kwargs={'n_workers': 2}"
OF_THE_USER = f"client=Client(LocalCluster(n_workers=2, **{QUIET!r}))"
GUARD = """
if __name__ == "__main__":
    main()
"""


def started(script: str, folder: Path) -> subprocess.Popen[str]:
    """A program that runs a script in a folder, in a session of its own."""
    (folder / "script.py").write_text(script.replace("CLUSTER", OF_THE_RUN))
    return subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("number", "finishes", "cluster"),
    [
        (signal.SIGINT, "open('gate').read()", OF_THE_RUN),
        (signal.SIGINT, "open('gate').read()", OF_THE_USER),
        (signal.SIGTERM, "time.sleep(600)", OF_THE_RUN),
    ],
)
def test_interrupt(tmp_path: Path, number: signal.Signals, finishes: str, cluster: str) -> None:
    """Ctrl-C or SIGTERM ends the run and the workers of its cluster, with few lines; a node that ends is stored."""
    os.mkfifo(tmp_path / "gate")
    script = SCRIPT.replace("FINISHES", finishes).replace("CLUSTER", cluster)
    with started(script + GUARD, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        if number == signal.SIGINT:  # from a terminal, to all processes
            os.killpg(process.pid, number)
            (tmp_path / "gate").write_text("")
        else:
            process.send_signal(number)
        # until all processes that write there have ended
        _, errors = process.communicate(timeout=LIMIT)

    assert {signal.SIGINT: -signal.SIGINT, signal.SIGTERM: 143}[number] == process.returncode
    assert SHORT > len(errors.splitlines()), errors
    folder = tmp_path / "results" / "w"
    # without texts of code
    stored = {path.name for path in folder.iterdir() if path.name[0] != "."}
    assert {"first", *(["second_0000"] if number == signal.SIGINT else [])} == stored


def test_missing_main_guard(tmp_path: Path) -> None:
    """A script that calls `run()` at its top level is refused before it starts workers, with its line."""
    with started(SCRIPT.replace("FINISHES", "pass") + "main()\n", tmp_path) as process:
        _, errors = process.communicate(timeout=LIMIT)

    line = len((SCRIPT + "main()").splitlines())
    assert 1 == errors.count("Error: "), errors
    assert f"at the top level of {tmp_path / 'script.py'}, line {line}: each worker" in errors
    assert errors.strip().endswith("put the call under `if __name__ == '__main__':`")


def topics(client: Client) -> set[str]:
    """The names of topics of ours that a scheduler keeps."""
    return {name for name in client.get_events() if name.startswith("functionfuse")}


def test_topics() -> None:
    """Failed runs leave no more names of topics with the scheduler than one has, and runs with an address none."""

    @workflow
    def fail(number: int) -> None:
        raise ValueError(number)

    with (
        LocalCluster(n_workers=1, **QUIET) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        known = list[set[str]]()
        by_client, by_address = {"client": client}, {"address": cluster.scheduler_address}
        for way in (by_client, by_client, by_address):
            for _ in range(2):
                made = DaskWorkflow(fail(1), fail(2), workflow_name="w", **way)
                with pytest.raises(ValueError, match=r"[12]"):
                    made.run()
            known.append(topics(client))

        assert known[0] == known[1]
        until(lambda: known[0] == topics(client))

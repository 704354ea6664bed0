"""PrefectWorkflow on Prefect's own ephemeral server, in a process of its own: what is printed and what is kept."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("prefect")

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
from functionfuse import workflow
from functionfuse.backends.addons.prefectback import PrefectWorkflow

@workflow
def add(a, b):
    return a + b

@workflow
def total(numbers):
    return sum(numbers)

@workflow
def divide(a, b):
    return a / b

wide = total([add(index, 1) for index in range(200)]).set_name("total")
print(PrefectWorkflow(wide, workflow_name="wide").run())
try:
    PrefectWorkflow(divide(add(1, 1), 0).set_name("broken"), workflow_name="broken").run()
except ZeroDivisionError as error:
    print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A script that ran without a server, and the folder in which Prefect keeps everything."""
    home = tmp_path_factory.mktemp("temporary")
    script = home / "script.py"
    script.write_text(SCRIPT)
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(home), "PREFECT_LOGGING_LEVEL": "WARNING"}
    environment.pop("PREFECT_SERVER_ANALYTICS_ENABLED", None)
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return home, done


Finished = tuple["Path", "subprocess.CompletedProcess[str]"]


def test_results(finished: Finished) -> None:
    """Both runs end as they should, and so does the process."""
    _, done = finished
    assert (0, "20100\nZeroDivisionError\n") == (done.returncode, done.stdout)


def test_output_is_clean(finished: Finished) -> None:
    """Nothing is complained about but the user's own error, which Prefect logs for task and flow."""
    _, done = finished
    complaints = [
        line for line in done.stderr.splitlines() if "| WARNING" in line or "| ERROR" in line
    ]
    assert 3 == len(complaints), done.stderr
    assert all("ZeroDivisionError" in line for line in complaints)
    exceptions = [line for line in done.stderr.splitlines() if line.startswith("Traceback")]
    assert 2 == len(exceptions), done.stderr


def test_every_task_run_is_in_the_history(finished: Finished) -> None:
    """All 203 task runs are in Prefect's database with their end, which no server has lost."""
    home, _ = finished
    with sqlite3.connect(home / "prefect.db") as database:
        states = dict(
            database.execute(
                "select state_name, count(*) from task_run group by state_name"
            ).fetchall()
        )
    assert {"Completed": 202, "Failed": 1} == states

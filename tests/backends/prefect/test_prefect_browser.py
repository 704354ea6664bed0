"""A run in Prefect's UI, by a real browser on a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

pytest.importorskip("prefect")

from prefect_helpers import EDGES, edges_targets, flow_run, make, task_runs

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

CHROMIUM: Final = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="there is no chromium"
)
PAIRS: Final = {
    (source, name) for name, inputs in EDGES.items() for source in set().union(*inputs.values())
}


def look(url: str, folder: Path) -> str:
    """The content of a page once it is drawn; a picture of it is in the folder."""
    assert CHROMIUM, "CI needs chromium"
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=1280,1000",
        "--virtual-time-budget=15000",
        f"--screenshot={folder / 'page.png'}",
        "--dump-dom",
    ]
    done = subprocess.run(  # noqa: S603
        [CHROMIUM, *options, url], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def words(dom: str) -> str:
    """The text of a page."""
    visible = re.sub(r"<(style|script).*?</\1>", "", dom, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", visible))


def test_run(server: SyncPrefectClient, prefect_server: str, tmp_path: Path) -> None:
    """The flow run's page names the nodes, and draws a graph that has them and what they depend on."""
    make(*edges_targets(), workflow_name="seen").run()
    runs = task_runs(server, "seen", len(EDGES))
    run = flow_run(server, "seen")
    address = f"{prefect_server.removesuffix('/api')}/v2/runs/flow-run/{run.id}?tab=TaskRuns"
    dom = look(address, tmp_path)
    text = words(dom)
    assert f"{len(EDGES)} Task runs ({len(EDGES)} Completed)" in text
    assert all(f" {name} Completed" in text for name in EDGES)
    assert "<canvas" in dom
    # what is on the canvas has no words: the page draws what the server says here
    drawn = server.request("GET", "/flow_runs/{id}/graph-v2", path_params={"id": run.id}).json()
    names = {str(task_run.id): name for name, task_run in runs.items()}
    assert PAIRS == {
        (names[parent["id"]], names[node["id"]])
        for _, node in drawn["nodes"]
        for parent in node["parents"]
    }


def test_page(server: SyncPrefectClient, prefect_server: str, tmp_path: Path) -> None:
    """The artifact's page draws the graph with all nodes and edges, and shows the table."""
    from prefect.client.schemas import filters

    seen = make(*edges_targets(), workflow_name="seen-page")
    seen.run()
    run = filters.ArtifactFilterFlowRunId(any_=[flow_run(server, "seen-page").id])
    (artifact,) = server.read_artifacts(artifact_filter=filters.ArtifactFilter(flow_run_id=run))
    address = f"{prefect_server.removesuffix('/api')}/v2/artifacts/artifact/{artifact.id}"
    dom = look(address, tmp_path)
    assert seen.report is not None
    assert seen.report.summary().replace("'", "&#39;") in dom or seen.report.summary() in dom
    numbers = {step.name: step.number for step in seen.graph}
    drawn = {tuple(map(int, pair)) for pair in re.findall(r'id="L_n(\d+)_n(\d+)_\d+"', dom)}
    assert {(numbers[source], numbers[name]) for source, name in PAIRS} == drawn
    assert all(
        f" {name} {step.function} computed" in words(dom) for name, step in seen.graph.nodes.items()
    )

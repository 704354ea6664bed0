"""The page that each run has on a real Prefect server: read through the API, and by a Markdown parser."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("prefect")

from markdown_it import MarkdownIt
from prefect_helpers import add, flow_run, make

from functionfuse import workflow
from functionfuse.backends.addons.prefectback import PrefectWorkflow
from functionfuse.backends.addons.prefectback.artifact import (
    background_publishing,
    publish_in_background,
)
from functionfuse.events import RunFinished
from functionfuse.storage import storage_factory
from functionfuse.storage.kinds import FileStorage

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import Artifact

    from functionfuse.events import Event

HEADER = ["node", "function", "status", "seconds", "stored bytes", "why"]


def test_node_that_outlives_its_run() -> None:
    """A page that is sent when its run is over is sent all the same."""
    said: list[str] = []
    with background_publishing():
        within = copy_context()
    within.run(publish_in_background, said.append, "page")
    assert ["page"] == said


@workflow
def divide(a: int, b: int) -> float:
    """Divide."""
    return a / b


@workflow
def fail(words: str) -> None:
    """Say something."""
    raise RuntimeError(words)


def artifacts(server: SyncPrefectClient, name: str, kind: str = "markdown") -> list[Artifact]:
    """The pages of the last run of a flow, or its artifacts of another kind."""
    from prefect.client.schemas import filters

    wanted = filters.ArtifactFilter(
        flow_run_id=filters.ArtifactFilterFlowRunId(any_=[flow_run(server, name).id]),
        type=filters.ArtifactFilterType(any_=[kind]),
    )
    return server.read_artifacts(artifact_filter=wanted)


def page(server: SyncPrefectClient, name: str) -> str:
    """The page of the last run of a flow; there is one."""
    (artifact,) = artifacts(server, name)
    assert isinstance(artifact.data, str)
    return artifact.data


def shown(markdown: str, kind: str = "inline") -> list[str]:
    """The text of a page: its paragraphs and cells, or its blocks of another kind."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    return [
        "".join(child.content for child in token.children) if token.children else token.content
        for token in tokens
        if token.type == kind
    ]


def table(markdown: str) -> dict[str, list[str]]:
    """The cells of each row of the table, by the first."""
    texts = shown(markdown)
    start = texts.index("node")
    cells = texts[start:]
    assert HEADER == cells[: len(HEADER)]
    rows = [cells[at : at + len(HEADER)] for at in range(len(HEADER), len(cells), len(HEADER))]
    return {name: rest for name, *rest in rows if rest}


class TestPage:
    """The text of a page."""

    def test_run_with_storage(self, server: SyncPrefectClient, tmp_path: Path) -> None:
        """There is one page for each flow run: with a picture, where results lie, and what became of each node."""
        last = add(add(1, 2).set_name("first"), 3).set_name("last")
        for _ in range(2):
            stored = make(last, workflow_name="page-stored")
            stored.set_storage(storage_factory({"kind": "file", "options": {"path": tmp_path}}))
            stored.run()
            text = page(server, "page-stored")
            assert f"Results are in FileStorage('{tmp_path}')." in shown(text)
            (fence,) = shown(text, "fence")
            assert fence.startswith("flowchart TD\n")
            assert "n0 --> n1" in fence
            rows = table(text)
            assert {"first", "last"} == rows.keys()
        assert "loaded" == rows["last"][1]
        assert "skipped" == rows["first"][1]
        assert all(rows[name][-1] for name in rows)  # the plan's reasons

    def test_seconds_and_sizes(self, server: SyncPrefectClient, tmp_path: Path) -> None:
        """A node that ran shows how long it took and how large its stored result is."""
        sized = make(add(1, 2).set_name("sum"), workflow_name="page-sizes")
        sized.set_storage(storage_factory({"kind": "file", "options": {"path": tmp_path}}))
        sized.run()
        assert sized.report is not None
        function, status, seconds, nbytes, _ = table(page(server, "page-sizes"))["sum"]
        record = sized.report["sum"]
        assert ("add", "computed") == (function, status)
        assert f"{record.seconds:.3f}" == seconds
        assert str(record.nbytes) == nbytes

    def test_without_storage(self, server: SyncPrefectClient) -> None:
        """A run without storage says so, and its description is the report's summary."""
        plain = make(add(1, 2), workflow_name="page-plain")
        plain.run()
        assert "Results are not stored." in shown(page(server, "page-plain"))
        assert plain.report is not None
        (artifact,) = artifacts(server, "page-plain")
        assert [plain.report.summary()] == shown(artifact.description or "")

    def test_failure_is_on_top(self, server: SyncPrefectClient) -> None:
        """The page of a failed run begins with the node, the error and its notes; the node is the first row."""
        bad = divide(add(1, 2).set_name("good"), 0).set_name("bad_node")
        failing = make(add(bad, 1).set_name("after"), workflow_name="page-failing")
        with pytest.raises(ZeroDivisionError):
            failing.run()
        text = page(server, "page-failing")
        assert "Failed: bad_node" == shown(text)[0]
        error, picture = shown(text, "fence")
        assert error.startswith("ZeroDivisionError: division by zero\nin node 'bad_node' (divide ")
        assert "class n1 failed" in picture
        rows = table(text)
        assert ["bad_node", "good", "after"] == list(rows)
        assert ["failed", "computed", "not started"] == [rows[name][1] for name in rows]
        assert "it depends on 'bad_node', which failed" == rows["after"][-1]

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("a|b`c", "a|b`c"),
            ("`code`", "`code`"),
            ("**bold** _it_", "**bold** _it_"),
            ("<b>&amp;</b>", "<b>&amp;</b>"),
            ("[x](y) ![z](w)", "[x](y) ![z](w)"),
            ("back\\slash\\|", "back\\slash\\|"),
            ("bell\a", "bell\\x07"),
            ("new\nline", "new\\nline"),
            ("$x$ ~~y~~ #1", "$x$ ~~y~~ #1"),
            ("übung 雪", "übung 雪"),
        ],
    )
    def test_names(self, server: SyncPrefectClient, name: str, expected: str) -> None:
        """A name is shown literally, what cannot be printed as in a Python string."""
        named = make(fail("no").set_name(name), workflow_name="page-names")
        with pytest.raises(RuntimeError):
            named.run()
        text = page(server, "page-names")
        assert f"Failed: {expected}" == shown(text)[0]
        assert [expected] == list(table(text))

    def test_message_with_fences(self, server: SyncPrefectClient) -> None:
        """A message of several lines with backticks does not end its block; a very long one is cut."""
        words = "first\n```\n# second\n````\n"
        long = make(fail(words + "x" * 10_000).set_name("talks"), workflow_name="page-long")
        with pytest.raises(RuntimeError):
            long.run()
        error, _ = shown(page(server, "page-long"), "fence")
        assert error.startswith(f"RuntimeError: {words}xxx")
        assert len(error) < 3_000

    def test_large_graph(self, server: SyncPrefectClient) -> None:
        """A graph that is too large for a picture says so, and has its table all the same."""
        nodes = [add(index, 1).set_name(f"n{index}") for index in range(201)]
        large = make(*nodes, workflow_name="page-large")
        large.run()
        text = page(server, "page-large")
        assert "The graph has 201 nodes, too many for a picture." in shown(text)
        assert not shown(text, "fence")
        assert 201 == len(table(text))

    def test_retried_run(self, server: SyncPrefectClient, tmp_path: Path) -> None:
        """A flow run that was tried twice has one page, that of the last time."""

        @workflow
        def fails_once() -> int:
            """Fail at the first call."""
            flag = tmp_path / "called"
            if not flag.exists():
                flag.touch()
                message = "not yet"
                raise RuntimeError(message)
            return 1

        retried = make(fails_once().set_name("once"), workflow_name="page-retried")
        retried.set_prefect_flow_options({"retries": 1})
        assert 1 == retried.run()
        assert "computed" == table(page(server, "page-retried"))["once"][1]

    def test_no_page_no_harm(
        self, server: SyncPrefectClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A page that cannot be written is logged and fails nothing."""
        odd, storage = make(add(1, 2), workflow_name="page-odd"), Unspeakable(tmp_path)
        odd.set_storage(storage)
        odd.add_observer(storage.look_at)
        assert 3 == odd.run()
        assert not artifacts(server, "page-odd")
        assert "the artifact of workflow 'page-odd' could not be written" in caplog.text


class TestProgress:
    """A bar on request."""

    def test_unasked(self, server: SyncPrefectClient) -> None:
        """Without the option, there is none."""
        make(add(1, 2), workflow_name="progress-unasked").run()
        assert not artifacts(server, "progress-unasked", "progress")

    def test_asked(self, server: SyncPrefectClient, tmp_path: Path) -> None:
        """One for each run, which ends with all nodes, those that were read included."""
        nodes = [add(number, 1).set_name(f"n{number}") for number in range(5)]
        made = PrefectWorkflow(*nodes, workflow_name="progress", progress=True)
        made.set_storage(storage_factory({"kind": "file", "options": {"path": tmp_path}}))
        for _ in range(2):
            made.run()
            (bar,) = artifacts(server, "progress", "progress")
            assert (100.0, "5 of 5 nodes") == (bar.data, bar.description)

    def test_failure(self, server: SyncPrefectClient) -> None:
        """After a failure it stays where the run ended."""
        bad = divide(add(1, 1), 0)
        made = PrefectWorkflow(add(add(bad, 1), 1), workflow_name="progress-half", progress=True)
        with pytest.raises(ZeroDivisionError):
            made.run()
        (bar,) = artifacts(server, "progress-half", "progress")
        assert (50.0, "2 of 4 nodes") == (bar.data, bar.description)


class Unspeakable(FileStorage):
    """A storage whose representation fails after the run."""

    over = False

    def look_at(self, event: Event) -> None:
        """Fail if the run is over."""
        self.over = self.over or isinstance(event, RunFinished)

    def __repr__(self) -> str:
        if self.over:
            raise NotImplementedError
        return super().__repr__()

"""Markdown artifact of a flow run: the graph, and the status of each node with its reason."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
)
from prefect.context import FlowRunContext

from functionfuse.backends.addons.prefectback.server import RunCancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from uuid import UUID

    from prefect.client.schemas.objects import FlowRun

    from functionfuse._graph.graph import Graph
    from functionfuse.observers.report import Report
    from functionfuse.storage.base import Results

__all__ = [
    "background_publishing",
    "markdown_table",
    "publish",
    "publish_in_background",
    "upsert_artifact",
]

_logger = logging.getLogger(__name__)
_MAX_DRAWN: Final = 200  # nodes; a larger graph is illegible, and takes a browser minutes to draw
_MAX_ROWS: Final = 2_000
_MAX_LENGTH: Final = 2_000  # characters of an error's message
_HEADER: Final = ("node", "function", "status", "seconds", "stored bytes", "why")
#: The Mermaid styles of some statuses.
_STYLES: Final = {
    "failed": "stroke:#d32f2f,stroke-width:3px",
    "loaded": "stroke-dasharray:4",
    "cached": "stroke-dasharray:4",
    "skipped": "stroke-dasharray:1 4",
    "not started": "stroke-dasharray:1 4",
}


@contextmanager
def background_publishing() -> Iterator[None]:
    """Publish the artifacts of a run in a thread, and wait for the thread at the end of the run."""
    with ThreadPoolExecutor(1, "functionfuse-artifacts") as executor:
        token = _executor.set(executor)
        try:
            yield
        finally:
            _executor.reset(token)


_executor: Final[ContextVar[ThreadPoolExecutor | None]] = ContextVar(
    "functionfuse_artifacts", default=None
)


def publish_in_background(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function that publishes an artifact, in the thread of the current run; without a run, immediately."""
    executor = _executor.get()
    try:
        if executor is not None:
            executor.submit(copy_context().run, function, *arguments)
            return
    except RuntimeError:  # the run is over, and this node runs on: the executor is shut down
        pass
    function(*arguments)


def publish(
    graph: Graph, report: Report, results: Results | None, error: BaseException | None
) -> None:
    """Publish the artifact of the current flow run; an error is logged and never fails the run.

    Args:
        graph: The graph that ran.
        report: Its report.
        results: The storage; None if results are not stored.
        error: The exception of the run, if it failed.
    """
    try:
        page = "\n\n".join(_page(graph, report, results, error))
        upsert_artifact("markdown", page, _literal(report.summary()))
    except Exception:
        _logger.exception("the artifact of workflow %r could not be written", report.workflow)


def upsert_artifact(kind: str, data: Any, description: str) -> UUID | None:
    """Create an artifact of the current flow run, or update the one of its kind from an earlier attempt.

    Returns:
        The artifact's id on the server; None outside flow runs.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None:
        return None
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=_of(run, kind)) if run.run_count > 1 else []
        earlier = [artifact.id for artifact in found if artifact.task_run_id is None]
        if earlier:  # without those of its task runs
            client.update_artifact(earlier[0], ArtifactUpdate(data=data, description=description))
            return earlier[0]
        new = ArtifactCreate(type=kind, flow_run_id=run.id, data=data, description=description)
        return client.create_artifact(new).id


def _of(run: FlowRun, kind: str) -> ArtifactFilter:
    return ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]),
        type=ArtifactFilterType(any_=[kind]),
    )


def _page(
    graph: Graph, report: Report, results: Results | None, error: BaseException | None
) -> Iterator[str]:
    if isinstance(error, RunCancelled):
        yield "## Cancelled"
    elif error is not None:
        yield from _failure(report, error)
    yield _literal(report.summary())
    if results is None:
        yield "Results are not stored."
    else:
        yield f"Results are in {_literal(repr(results))}."
    if len(graph) <= _MAX_DRAWN:
        yield f"```mermaid\n{_drawing(graph, report)}\n```"
    else:
        yield f"The graph has {len(graph)} nodes, too many for a picture."
    yield markdown_table(_HEADER, _rows(graph, report))
    if len(graph) > _MAX_ROWS:
        yield f"and {len(graph) - _MAX_ROWS} more."


def _failure(report: Report, error: BaseException) -> Iterator[str]:
    failed = report.names("failed")
    yield f"## Failed{': ' if failed else ''}{', '.join(map(_literal, failed[:3]))}"
    notes = getattr(error, "__notes__", ())
    yield _fence("\n".join([f"{type(error).__name__}: {error}", *notes])[:_MAX_LENGTH])


def _drawing(graph: Graph, report: Report) -> str:
    """The graph as a Mermaid diagram, its nodes styled by status."""
    styled: dict[str, list[int]] = defaultdict(list)
    for node in graph:
        styled[report.status(node.name)].append(node.number)
    lines = [graph.mermaid()]
    for status in sorted(styled.keys() & _STYLES.keys()):
        kind = status.replace(" ", "_")
        lines.append(f"    classDef {kind} {_STYLES[status]}")
        lines.append(f"    class {','.join(f'n{number}' for number in styled[status])} {kind}")
    return "\n".join(lines)


def _rows(graph: Graph, report: Report) -> Iterator[Sequence[str]]:
    failed = report.names("failed")
    first = set(failed)
    others = [node.name for node in graph if node.name not in first]
    for name in [*failed, *others][:_MAX_ROWS]:
        record = report.records.get(name)
        seconds = f"{record.seconds:.3f}" if record else ""
        nbytes = "" if record is None or record.nbytes is None else str(record.nbytes)
        function, why = graph.nodes[name].function, report.why(name)
        yield name, function, report.status(name), seconds, nbytes, why


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells are escaped."""
    return "\n".join(map(_row, [header, ["---"] * len(header), *rows]))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_literal, cells))} |"


_MARKUP: Final = re.compile(r"([\\`*_\[\]<>|#~&!$])")


def _literal(text: str) -> str:
    """Text escaped for Markdown, on one line."""
    return _MARKUP.sub(r"\\\1", _printable(text))


def _fence(text: str) -> str:
    """A fenced block: its fence has more backticks than any of its lines."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}text", *map(_printable, text.splitlines()), fence])


def _printable(text: str) -> str:
    """Text with unprintable characters escaped, since a server may refuse them."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )

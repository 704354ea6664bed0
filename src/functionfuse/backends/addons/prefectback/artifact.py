"""The page that a flow run gets in Prefect's UI: the graph, what became of each node, and why."""

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
_MOST_DRAWN: Final = 200  # nodes; a larger picture shows nothing, and takes a browser minutes
_MOST_ROWS: Final = 2_000
_LONGEST: Final = 2_000  # characters of an error's message
_HEADER: Final = ("node", "function", "status", "seconds", "stored bytes", "why")
#: How the nodes of some statuses are drawn.
_STYLES: Final = {
    "failed": "stroke:#d32f2f,stroke-width:3px",
    "loaded": "stroke-dasharray:4",
    "cached": "stroke-dasharray:4",
    "skipped": "stroke-dasharray:1 4",
    "not started": "stroke-dasharray:1 4",
}


@contextmanager
def background_publishing() -> Iterator[None]:
    """Send the pages of a run while it goes on, and wait for them at the end."""
    with ThreadPoolExecutor(1, "functionfuse-pages") as executor:
        token = _sender.set(executor)
        try:
            yield
        finally:
            _sender.reset(token)


_sender: Final[ContextVar[ThreadPoolExecutor | None]] = ContextVar(
    "functionfuse_pages", default=None
)


def publish_in_background(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function that sends a page: beside the run where there is one to wait for it, else now."""
    executor = _sender.get()
    try:
        if executor is not None:
            executor.submit(copy_context().run, function, *arguments)
            return
    except RuntimeError:  # a node that outlives its run, which was given up
        pass
    function(*arguments)


def publish(
    graph: Graph, report: Report, results: Results | None, error: BaseException | None
) -> None:
    """Write the page of the flow run that this is called in; it can never fail the run.

    Args:
        graph: The graph that ran.
        report: What became of it.
        results: The storage.
        error: What the run raised.
    """
    try:
        page = "\n\n".join(_page(graph, report, results, error))
        upsert_artifact("markdown", page, _literal(report.summary()))
    except Exception:
        _logger.exception("the page of workflow %r could not be written", report.workflow)


def upsert_artifact(kind: str, data: Any, description: str) -> UUID | None:
    """Give the current flow run an artifact, or new contents to the one of its kind that it got in an earlier try.

    Returns:
        The artifact's identity on the server; None outside flow runs.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None:
        return None
    with get_client(sync_client=True) as client:
        there = client.read_artifacts(artifact_filter=_of(run, kind)) if run.run_count > 1 else []
        earlier = [artifact.id for artifact in there if artifact.task_run_id is None]
        if earlier:  # tasks have their own
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
    if len(graph) <= _MOST_DRAWN:
        yield f"```mermaid\n{_drawing(graph, report)}\n```"
    else:
        yield f"The graph has {len(graph)} nodes, too many for a picture."
    yield markdown_table(_HEADER, _rows(graph, report))
    if len(graph) > _MOST_ROWS:
        yield f"and {len(graph) - _MOST_ROWS} more."


def _failure(report: Report, error: BaseException) -> Iterator[str]:
    failed = report.names("failed")
    yield f"## Failed{': ' if failed else ''}{', '.join(map(_literal, failed[:3]))}"
    notes = getattr(error, "__notes__", ())
    yield _fenced("\n".join([f"{type(error).__name__}: {error}", *notes])[:_LONGEST])


def _drawing(graph: Graph, report: Report) -> str:
    """The graph in Mermaid's language, with the nodes of each status in their style."""
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
    for name in [*failed, *others][:_MOST_ROWS]:
        record = report.records.get(name)
        seconds = f"{record.seconds:.3f}" if record else ""
        nbytes = "" if record is None or record.nbytes is None else str(record.nbytes)
        function, why = graph.nodes[name].function, report.why(name)
        yield name, function, report.status(name), seconds, nbytes, why


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of text under a header, shown as they are."""
    return "\n".join(map(_row, [header, ["---"] * len(header), *rows]))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_literal, cells))} |"


_MARKUP: Final = re.compile(r"([\\`*_\[\]<>|#~&!$])")


def _literal(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKUP.sub(r"\\\1", _printable(text))


def _fenced(text: str) -> str:
    """Lines as they are, between more backticks than any of them has."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}text", *map(_printable, text.splitlines()), fence])


def _printable(text: str) -> str:
    """Text in which what cannot be printed is as in a Python string: no server has to take it."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )

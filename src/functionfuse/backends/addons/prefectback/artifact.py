"""The page that a flow run gets in Prefect's UI: the graph, what became of each node, and why."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from prefect.artifacts import create_markdown_artifact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functionfuse.graph import Graph
    from functionfuse.observers.report import Report
    from functionfuse.storage.base import Results

__all__ = ["publish"]

_logger = logging.getLogger(__name__)
_MOST_DRAWN: Final = 200  # nodes; a larger picture shows nothing, and takes a browser minutes
_MOST_ROWS: Final = 2_000
_HEADER: Final = ("node", "function", "status", "seconds", "stored bytes", "why")


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
        create_markdown_artifact(
            markdown="\n\n".join(_page(graph, report, results, error)),
            description=report.summary(),
            _sync=True,  # type: ignore[call-arg]
        )
    except Exception:
        _logger.exception("the page of workflow %r could not be written", report.workflow)


def _page(
    graph: Graph, report: Report, results: Results | None, error: BaseException | None
) -> Iterator[str]:
    if error is not None:
        yield f"**{_cell(type(error).__name__)}: {_cell(str(error))}**"
        yield "\n".join(f"* {_cell(note)}" for note in getattr(error, "__notes__", ()))
    yield report.summary()
    yield f"Results are in {_cell(repr(results))}." if results else "Results are not stored."
    if len(graph) <= _MOST_DRAWN:
        yield f"```mermaid\n{graph.mermaid()}\n```"
    else:
        yield f"The graph has {len(graph)} nodes, too many for a picture."
    yield "\n".join(_table(graph, report))


def _table(graph: Graph, report: Report) -> Iterator[str]:
    yield _row(_HEADER)
    yield _row(["---"] * len(_HEADER))
    failed = report.names("failed")
    others = [step.name for step in graph if step.name not in set(failed)]
    for name in [*failed, *others][:_MOST_ROWS]:
        record = report.records.get(name)
        seconds = f"{record.seconds:.3f}" if record else ""
        nbytes = "" if record is None or record.nbytes is None else str(record.nbytes)
        function, why = graph.steps[name].function, report.plan[name].reason
        yield _row([name, function, report.status(name), seconds, nbytes, why])
    if len(graph) > _MOST_ROWS:
        yield f"\nand {len(graph) - _MOST_ROWS} more."


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """Text that Markdown shows literally, on one line."""
    return "".join(
        f"\\{char}" if char in "\\`*_[]<>|#~" else char for char in " ".join(text.split())
    )

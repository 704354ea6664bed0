"""Task groups: several nodes in one task run, each with its line in the log and in the artifact."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from functionfuse._kernel.kernel import FAILED_SUBUNIT, execute
from functionfuse.backends.addons.prefectback._compat import call_sync
from functionfuse.backends.addons.prefectback.artifact import markdown_table, publish_in_background

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functionfuse._kernel.units import Outcome, Record, Unit

__all__ = ["run_group", "task_group"]

_logger = logging.getLogger(__name__)
#: Nodes in one log message: the server stores each message as an object.
_LINES: Final = 500


def task_group(inputs: list[Any]) -> None:
    """Run several nodes one after the other."""


def run_group(unit: Unit, inputs: list[Any]) -> Outcome:
    """Run the nodes of a group in the current task run; log and publish the status of each."""
    # Prefect may retry the group: instances from other nodes must not change
    unit = unit._replace(
        subunits=tuple(part._replace(exclusive_instance=False) for part in unit.subunits)
    )
    try:
        outcome = execute(unit, inputs)
    except Exception as error:
        failed, records = getattr(error, FAILED_SUBUNIT, ("", ()))
        _log_records(unit, records, failed)
        raise
    _log_records(unit, outcome.record.subrecords, "")
    return outcome


def _log_records(unit: Unit, records: Sequence[Record], failed: str) -> None:
    logger = get_run_logger()
    lines = [
        f"Node {name!r} {status} in {seconds:.3f} s" for name, status, _, seconds, *_ in records
    ]
    for start in range(0, len(lines), _LINES):
        logger.info("%s", "\n".join(lines[start : start + _LINES]))
    if failed:
        logger.error("Node %r failed", failed)
    publish_in_background(_publish, unit, records, failed)


def _publish(unit: Unit, records: Sequence[Record], failed: str) -> None:
    """Publish the artifact of the current task run; an error is logged and never fails it."""
    done = {record.name: (record.status, f"{record.seconds:.3f}") for record in records}
    done[failed] = ("failed", "")
    nodes = [part.node for part in unit.subunits]
    rows = [(node.name, node.function, *done.get(node.name, ("not started", ""))) for node in nodes]
    try:
        page = markdown_table(("node", "function", "status", "seconds"), rows)
        call_sync(create_markdown_artifact, page)
    except Exception:
        _logger.exception("the artifact of %r could not be written", unit.node.name)

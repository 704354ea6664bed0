"""Progress artifact: an observer that shows the share of finished nodes as a bar in Prefect's UI."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from functionfuse.backends.addons.prefectback.artifact import upsert_artifact
from functionfuse.events import NodeFailed, NodeFinished, NodeKept, RunFinished, RunStarted
from functionfuse.plan import Action

if TYPE_CHECKING:
    from uuid import UUID

    from functionfuse.events import Event

__all__ = ["Progress"]

_INTERVAL: Final = 1.0  # seconds between updates: each is a request


class Progress:
    """Updates the progress artifact of a flow run from the events of the run."""

    def __init__(self) -> None:  # noqa: D107
        self._artifact: UUID | None = None
        self._nodes = self._done = 0
        self._next = 0.0

    def __call__(self, event: Event) -> None:
        """Update the artifact, at most once a second."""
        match event:
            case RunStarted(plan=plan):
                self._nodes = len(plan) - len(plan.names(Action.SKIP))
                self._artifact = upsert_artifact("progress", 0.0, f"{self._nodes} nodes")
            case NodeKept():
                self._nodes -= 1
            case NodeFinished() | NodeFailed():
                self._done += 1
                if time.monotonic() >= self._next:
                    self._update()
            case RunFinished():
                self._update()

    def _update(self) -> None:
        self._next = time.monotonic() + _INTERVAL
        if self._artifact is None:
            return
        nodes = max(self._nodes, self._done)  # more nodes may run than were planned
        percent = 100.0 * self._done / nodes if nodes else 100.0
        text = f"{self._done} of {nodes} nodes"
        with get_client(sync_client=True) as client:
            client.update_artifact(self._artifact, ArtifactUpdate(data=percent, description=text))

"""What workers tell a client of the runs that are on."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

__all__ = ["EventSubscriber", "subscriber_of"]


class EventSubscriber:
    """Takes what comes for a client, and gives each run what is for it."""

    def __init__(self, client: Client) -> None:  # noqa: D107
        self.topic = f"functionfuse-{client.id}"
        self._runs: dict[str, Callable[[str, bytes], object]] = {}
        self._lock = Lock()

    def open(self, client: Client, run: str, receive: Callable[[str, bytes], object]) -> None:
        """Let a run have what is for it: the keys of tasks and their records."""
        with self._lock:
            if not self._runs:
                client.subscribe_topic(self.topic, self._receive)
            self._runs[run] = receive

    def close(self, client: Client, run: str) -> None:
        """Have nothing more for a run."""
        with self._lock:
            del self._runs[run]
            if not self._runs and client.status == "running":
                client.unsubscribe_topic(self.topic)

    def _receive(self, event: tuple[float, tuple[str, str, bytes]]) -> None:
        _, (run, key, record) = event
        receive = self._runs.get(run)
        if receive is not None:
            receive(key, record)


_subscribers: Final[WeakKeyDictionary[Client, EventSubscriber]] = WeakKeyDictionary()


def subscriber_of(client: Client) -> EventSubscriber:
    """The one of a client: it hears of a topic in one place only."""
    return _subscribers.setdefault(client, EventSubscriber(client))

"""What workers tell a client of the runs that are on."""

from __future__ import annotations

from threading import Event, Lock
from typing import TYPE_CHECKING, Final
from uuid import uuid4
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

__all__ = ["EventSubscriber", "subscriber_of", "topic_of"]

_SYNC_INTERVAL: Final = 0.005  # seconds between two questions whether the scheduler has heard


class EventSubscriber:
    """Takes what comes for a client, and gives each run what is for it."""

    def __init__(self, client: Client) -> None:  # noqa: D107
        self.topic = topic_of(client)
        self._runs: dict[str, Callable[[str, bytes], object]] = {}
        self._lock = Lock()
        self._syncing = Lock()

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

    def sync(self, client: Client) -> None:
        """Wait until the scheduler knows of all that the client has submitted and released.

        The client sends that in its own time, but in its order: a subscription comes behind.
        The topic has one name, since scheduler and client keep the names of all topics.
        """
        topic, token, heard = f"{self.topic}-sync", uuid4().hex, Event()

        def receive(event: tuple[float, str]) -> None:
            if event[1] == token:  # and not of an earlier call
                heard.set()

        with self._syncing:
            client.subscribe_topic(topic, receive)
            while client.status == "running" and not heard.is_set():
                client.log_event(topic, token)
                heard.wait(_SYNC_INTERVAL)
            client.unsubscribe_topic(topic)

    def _receive(self, event: tuple[float, tuple[str, str, bytes]]) -> None:
        _, (run, key, record) = event
        receive = self._runs.get(run)
        if receive is not None:
            receive(key, record)


def topic_of(client: Client) -> str:
    """The topic under which workers send events to a client."""
    return f"functionfuse-{client.id}"


_subscribers: Final[WeakKeyDictionary[Client, EventSubscriber]] = WeakKeyDictionary()


def subscriber_of(client: Client) -> EventSubscriber:
    """The one of a client: it hears of a topic in one place only."""
    return _subscribers.setdefault(client, EventSubscriber(client))

"""Event subscriber: receives the events of workers for the runs of a client."""

from __future__ import annotations

from threading import Event, Lock
from typing import TYPE_CHECKING, Final
from uuid import uuid4
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

__all__ = ["EventSubscriber", "subscriber_of", "topic_of"]

_SYNC_INTERVAL: Final = 0.005  # seconds between two messages to the scheduler


class EventSubscriber:
    """Receives the events for a client, and passes each to its run."""

    def __init__(self, client: Client) -> None:  # noqa: D107
        self.topic = topic_of(client)
        self._runs: dict[str, Callable[[str, bytes], object]] = {}
        self._lock = Lock()
        self._syncing = Lock()

    def open(self, client: Client, run: str, receive: Callable[[str, bytes], object]) -> None:
        """Pass the events of a run to a function: keys of tasks, and their records."""
        with self._lock:
            if not self._runs:
                client.subscribe_topic(self.topic, self._receive)
            self._runs[run] = receive

    def close(self, client: Client, run: str) -> None:
        """Stop passing events of a run."""
        with self._lock:
            del self._runs[run]
            if not self._runs and client.status == "running":
                client.unsubscribe_topic(self.topic)

    def sync(self, client: Client) -> None:
        """Wait until the scheduler has received all tasks that the client has submitted and released.

        The client sends messages later, but in their order: a new subscription comes after the tasks.
        All calls use one topic, since scheduler and client keep the names of all topics.
        """
        topic, token, heard = f"{self.topic}-sync", uuid4().hex, Event()

        def receive(event: tuple[float, str]) -> None:
            if event[1] == token:  # not from an earlier call
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
    """The subscriber of a client, which is the only one: a client has one handler for each topic."""
    return _subscribers.setdefault(client, EventSubscriber(client))

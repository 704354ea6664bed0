"""Forwarding of log records and warnings: collected around nodes in a worker, delivered to the caller's handlers.

As with a `logging.handlers.QueueHandler`, messages are merged and exceptions are formatted where they were logged.
"""

from __future__ import annotations

import pickle
import warnings
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Sequence

__all__ = [
    "MESSAGES",
    "Forwarded",
    "forward_record",
    "forward_warning",
    "send_messages",
    "take_messages",
]

#: The attribute of an exception with the messages of its node.
MESSAGES: Final = "__functionfuse_messages__"
_ATOMS: Final = frozenset({int, float, bool, str, type(None)})

_collected: Final[deque[bytes]] = deque()  # by any thread of this process
_receivers: Final[list[Callable[[bytes], object]]] = [_collected.append]


def send_messages(send: Callable[[bytes], object]) -> None:
    """Send each message immediately with a function, which any thread may call, instead of collecting it."""
    _receivers[:] = [send]


def take_messages() -> Sequence[bytes]:
    """The messages that were collected since the last call."""
    messages: list[bytes] = []
    with suppress(IndexError):
        while True:
            messages.append(_collected.popleft())
    return messages


# ---- in a worker ----


def forward_record(record: logging.LogRecord, fields: dict[str, Any]) -> None:
    """Collect a log record.

    Args:
        record: The record.
        fields: Its attributes, which this function changes.
    """
    if not (type(record.args) is tuple and _ATOMS.issuperset(map(type, record.args))):
        fields["msg"], fields["args"] = record.getMessage(), None
    if record.exc_info and not record.exc_text:
        import logging  # imported late, for programs that log nothing

        fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
    fields["exc_info"] = None
    _send(("record", fields), lambda: ("record", _picklable(fields)))


def forward_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *, filtered: bool
) -> None:
    """Collect a warning.

    Args:
        message: The warning.
        category: Its class.
        filename: The file in which it was issued.
        lineno: The line there.
        filtered: The caller's filters decided that it is shown, not those of a node.
    """
    fields = (message, category, filename, lineno, filtered)
    text = str(message), UserWarning, filename, lineno, filtered
    _send(("warning", fields), lambda: ("warning", text))


def _send(message: Any, simplified: Callable[[], Any]) -> None:
    from functionfuse._common.pickler import dumps

    try:
        data = dumps(message)
    except Exception:  # noqa: BLE001 - of the user's classes
        data = dumps(simplified())
    for receive in _receivers:
        receive(data)


def _picklable(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a record; fields that cannot be pickled become texts."""
    from functionfuse._common.pickler import dumps

    kept = {}
    for name, value in fields.items():
        try:
            dumps(value)
            kept[name] = value
        except Exception:  # noqa: BLE001 - of the user's classes
            kept[name] = repr(value)
    return kept


# ---- in the coordinator process ----


class Forwarded:
    """Messages of one run: passes them to the handlers of this process."""

    def __init__(self) -> None:
        self._shown: set[tuple[str, type[Warning], int]] = set()

    def deliver(self, messages: Sequence[bytes]) -> None:
        """Log records, and show warnings that no other worker has shown."""
        for message in messages:
            try:
                kind, fields = pickle.loads(message)
                if kind == "record":
                    _log(fields)
                else:
                    self._show(*fields)
            except Exception:
                import logging

                logging.getLogger(__name__).exception("a message of a worker cannot be delivered")

    def _show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        filtered: bool,  # noqa: FBT001 - a field
    ) -> None:
        place = str(message), category, lineno
        if filtered and not _is_repeated(str(message), category, lineno):
            if place in self._shown:
                return
            self._shown.add(place)
        warnings.showwarning(message, category, filename, lineno)


def _log(fields: dict[str, Any]) -> None:
    import logging

    record = logging.makeLogRecord(fields)
    record.levelname = logging.getLevelName(record.levelno)
    logging.getLogger(record.name).handle(record)


def _is_repeated(text: str, category: type[Warning], lineno: int) -> bool:
    """Tell whether a warning that is shown is shown each time that it is issued."""
    for action, message, kind, _, line in warnings.filters:
        applies = issubclass(category, kind) and line in {0, lineno}
        if applies and (message is None or message.match(text)) and action != "ignore":
            return action in {"always", "all", "error"}
    return False

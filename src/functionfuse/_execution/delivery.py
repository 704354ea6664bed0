"""Delivery of the messages of finished units: log records and warnings of workers go to the caller's handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functionfuse._context.forwarding import MESSAGES, Forwarded
from functionfuse._kernel.kernel import FAILED_SUBUNIT

if TYPE_CHECKING:
    from functionfuse._kernel.units import Record

__all__ = ["MessageDelivery"]


class MessageDelivery:
    """Delivers the messages of one run."""

    def __init__(self) -> None:
        self._forwarded = Forwarded()

    def of_record(self, record: Record) -> Record:
        """Deliver the messages of a unit that is done; return its record without them."""
        if record.subrecords:
            return record._replace(subrecords=tuple(map(self.of_record, record.subrecords)))
        if not record.messages:
            return record
        self._forwarded.deliver(record.messages)
        return record._replace(messages=())

    def of_error(self, error: BaseException) -> None:
        """Deliver the messages of a unit that failed."""
        failed = error.__dict__.get(FAILED_SUBUNIT)
        if failed is not None:
            name, records = failed
            error.__dict__[FAILED_SUBUNIT] = name, tuple(map(self.of_record, records))
        self._forwarded.deliver(error.__dict__.pop(MESSAGES, ()))

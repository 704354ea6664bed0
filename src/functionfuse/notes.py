"""What is written on exceptions that users raise: which node they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from functionfuse.graph import Step

__all__ = ["add_note", "annotate"]


def annotate(error: BaseException, step: Step, workflow: str) -> None:
    """Say on an exception which node it comes from, once."""
    note = f"in node {step.name!r} ({step.function} at {step.place}) of workflow {workflow!r}"
    if note not in getattr(error, "__notes__", ()):
        add_note(error, note)


def add_note(error: BaseException, note: str) -> None:
    """Write a note on an exception, also on one whose attributes cannot be set: a frozen dataclass."""
    error.__dict__.setdefault("__notes__", []).append(note)

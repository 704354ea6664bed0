"""Find a damaged stored result among the causes of an exception, and mark the exception with it.

A lazily read value shows its damage in the node that computes it: inside the user's function,
often wrapped by a library or by the function itself.
Pickled exceptions lose their causes and keep their attributes: the mark is an attribute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from functionfuse.errors import CorruptResult

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Damage", "has_damage", "mark_damage", "take_damage"]

#: The attribute of an exception that names the damaged result.
_MARK: Final = "__functionfuse_damage__"


class Damage(NamedTuple):
    """A stored result that cannot be read in full."""

    node: str
    problem: str


def mark_damage(error: BaseException, workflow: str) -> None:
    """Mark an exception with the first damaged result of a workflow among its causes."""
    for cause in _causes(error):
        if isinstance(cause, CorruptResult) and cause.workflow == workflow and cause.node:
            error.__dict__[_MARK] = cause.node, cause.problem
            return


def has_damage(error: BaseException) -> bool:
    """Tell whether an exception is marked."""
    return _MARK in error.__dict__


def take_damage(error: BaseException, workflow: str) -> Damage | None:
    """Take the mark off an exception; an exception without one is searched first."""
    if not has_damage(error):
        mark_damage(error, workflow)
    mark = error.__dict__.pop(_MARK, None)
    return None if mark is None else Damage(*mark)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, its causes, and the exceptions that these contain."""
    found, waiting = {id(error)}, [error]
    while waiting:
        current = waiting.pop(0)
        yield current
        others = [current.__cause__, current.__context__, *current.args, *vars(current).values()]
        if isinstance(current, BaseExceptionGroup):
            others += current.exceptions
        for other in others:
            if isinstance(other, BaseException) and id(other) not in found:
                found.add(id(other))
                waiting.append(other)

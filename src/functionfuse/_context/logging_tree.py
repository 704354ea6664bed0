"""Logger levels and handlers of one process, mirrored in another: each handler becomes one that forwards records."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse._context.forwarding import forward_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["LoggingTree", "logging_tree"]

_MARK: Final = "_functionfuse_forwarded"  # a record passes the handlers of several loggers


class _LoggerState(NamedTuple):
    name: str  # "": the root logger
    level: int
    propagate: bool
    disabled: bool
    has_handlers: bool


class LoggingTree(NamedTuple):
    """The configuration of the loggers that differ from new ones."""

    disabled_level: int  # of `logging.disable`
    loggers: Sequence[_LoggerState]

    def apply(self) -> Callable[[], object]:
        """Forward the records of nodes that these handlers and levels are for; return the function that ends it."""
        self._mirror()
        _forwarding_in[:] = [os.getpid()]
        return _forwarding_in.clear

    def _mirror(self) -> None:
        """Configure the loggers of this process in the same way, but those of the engine, which has handlers there."""
        if _mirrored != [self]:
            _undo()
            _mirrored[:] = [self]
            logging.disable(self.disabled_level)
            for state in self.loggers:
                _configure(state)
            _before.append((logging, "lastResort", logging.lastResort))
            logging.lastResort = _Forwarder(logging.WARNING, [logging.lastResort])


def logging_tree() -> LoggingTree:
    """The configuration of the loggers of this process."""
    root = logging.getLogger()
    loggers = {"": root, **dict(root.manager.loggerDict.items())}
    states = [
        _LoggerState(name, each.level, each.propagate, each.disabled, bool(each.handlers))
        for name, each in loggers.items()
        if isinstance(each, logging.Logger)
    ]
    ordinary = _LoggerState("", logging.NOTSET, True, False, False)  # noqa: FBT003 - a state
    changed = [each for each in states if not each.name or each._replace(name="") != ordinary]
    return LoggingTree(root.manager.disable, changed)


def _configure(state: _LoggerState) -> None:
    logger = logging.getLogger(state.name or None)
    if state.name and logger.handlers:  # the engine's
        return
    _before.extend(
        (logger, name, getattr(logger, name)) for name in ("level", "propagate", "disabled")
    )
    _before.append((logger, "handlers", logger.handlers))
    if logger.level != state.level:
        logger.setLevel(state.level)  # clears what loggers know of levels
    logger.propagate, logger.disabled = state.propagate, state.disabled
    logger.handlers = [_Forwarder(logging.NOTSET, logger.handlers)] if state.has_handlers else []


#: The tree that is mirrored, and the attributes before.
_mirrored: Final[list[LoggingTree]] = []
_before: Final[list[tuple[Any, str, Any]]] = []


def _undo() -> None:
    while _before:
        owner, name, value = _before.pop()
        if name == "level":
            owner.setLevel(value)
        else:
            setattr(owner, name, value)


class _Forwarder(logging.Handler):
    """Forwards records while nodes run; the handlers before it take those of the engine between nodes."""

    def __init__(self, level: int, before: Sequence[logging.Handler | None]) -> None:
        super().__init__(level)
        self._others = [each for each in before if each is not None]

    def emit(self, record: logging.LogRecord) -> None:
        if not _forwarding_in:
            self._emit_here(self._others, record)
            return
        if _MARK in record.__dict__:
            return
        fields = record.__dict__.copy()
        record.__dict__[_MARK] = True
        if _forwarding_in != [os.getpid()]:  # a process that a node forked
            self._emit_here([logging.StreamHandler(sys.stderr)], record)
            return
        try:
            forward_record(record, fields)
        except Exception:  # noqa: BLE001 - arguments that do not fit the message: as every handler does
            self.handleError(record)

    @staticmethod
    def _emit_here(handlers: Sequence[logging.Handler], record: logging.LogRecord) -> None:
        for handler in handlers:
            if record.levelno >= handler.level:
                handler.handle(record)


_forwarding_in: Final[list[int]] = []  # the process in which nodes run now

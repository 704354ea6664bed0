"""Evaluation loop of the pickle opcode interpreter."""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Any, Final

from functionfuse.storage.file_format.pickle_opcodes import HANDLERS

if TYPE_CHECKING:
    from functionfuse.storage.file_format.pickle_interpreter import PickleInterpreter

__all__ = ["interpret"]

_STOP: Final = pickle.STOP[0]


def interpret(machine: PickleInterpreter) -> Any:
    """Interpret the stream of an interpreter.

    Raises:
        UnpicklingError: The stream is malformed.
        UntrustedResult: The stream uses opcodes or names that are refused.
    """
    data, handlers = machine.data, HANDLERS
    try:
        while True:
            opcode = data[machine.position]
            machine.position += 1
            if opcode == _STOP:
                break
            handlers[opcode](machine)
    except (IndexError, struct.error) as error:
        message = f"the stream ends too early, or the stack is empty: byte {machine.position}"
        raise pickle.UnpicklingError(message) from error
    if machine.outer_stacks or len(machine.stack) != 1:
        message = "the stream does not produce exactly one value"
        raise pickle.UnpicklingError(message)
    return machine.finish(machine.stack[0])

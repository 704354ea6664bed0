"""Pickle opcode handlers: operations on the stack, the memo and the stream of an interpreter.

The table has the opcodes that Python 3 writes in protocols 2 to 5; all others are refused.
"""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import UntrustedResult
from functionfuse.storage.file_format.pickle_interpreter import Symbol

if TYPE_CHECKING:
    from collections.abc import Callable

    from functionfuse.storage.file_format.pickle_interpreter import PickleInterpreter

    _Handler = Callable[[PickleInterpreter], object]

__all__ = ["HANDLERS"]

_MAX_PROTOCOL: Final = 5
_double: Final = struct.Struct(">d").unpack_from
_signed: Final = struct.Struct("<i").unpack_from
_unsigned: Final = struct.Struct("<H").unpack_from


_MISSING: Final = Symbol()


def _unhandled(machine: PickleInterpreter) -> None:
    """Refuse opcodes of older protocols, and extension codes of copyreg, which bypass the check of names."""
    opcode = machine.data[machine.position - 1 : machine.position]
    if opcode in _REFUSED:
        message = f"it uses the opcode {opcode!r}, which FunctionFuse does not write"
        raise UntrustedResult(message)
    message = f"{opcode!r} is not an opcode of pickle"
    raise pickle.UnpicklingError(message)


# ---- numbers and texts ----


def _protocol(machine: PickleInterpreter) -> None:
    protocol = machine.number(1)
    if protocol > _MAX_PROTOCOL:
        message = f"unknown pickle protocol {protocol}"
        raise pickle.UnpicklingError(message)


def _frame(machine: PickleInterpreter) -> None:
    length = machine.number(8)
    if length > len(machine.data) - machine.position:
        message = "a frame is longer than the stream"
        raise pickle.UnpicklingError(message)


def _byte(machine: PickleInterpreter) -> None:
    machine.stack.append(machine.data[machine.position])
    machine.position += 1


def _two_bytes(machine: PickleInterpreter) -> None:
    machine.stack.append(_unsigned(machine.data, machine.position)[0])
    machine.position += 2


def _four_bytes(machine: PickleInterpreter) -> None:
    machine.stack.append(_signed(machine.data, machine.position)[0])
    machine.position += 4


def _float(machine: PickleInterpreter) -> None:
    machine.stack.append(_double(machine.data, machine.position)[0])
    machine.position += 8


def _short_unicode(machine: PickleInterpreter) -> None:
    length = machine.data[machine.position]
    machine.position += 1
    machine.stack.append(_text(machine.take(length)))


def _next_buffer(machine: PickleInterpreter) -> None:
    try:
        machine.stack.append(next(machine.buffers))
    except StopIteration:
        message = "it needs more buffers than there are"
        raise pickle.UnpicklingError(message) from None


def _readonly_buffer(machine: PickleInterpreter) -> None:
    buffer = machine.stack[-1]
    if type(buffer) is not memoryview:
        message = "only a buffer can be made read-only"
        raise pickle.UnpicklingError(message)
    machine.stack[-1] = buffer.toreadonly()


# ---- containers ----


def _tuple1(machine: PickleInterpreter) -> None:
    machine.stack[-1] = (machine.stack[-1],)


def _tuple2(machine: PickleInterpreter) -> None:
    last = machine.stack.pop()
    machine.stack[-1] = (machine.stack[-1], last)


def _tuple3(machine: PickleInterpreter) -> None:
    last, middle = machine.stack.pop(), machine.stack.pop()
    machine.stack[-1] = (machine.stack[-1], middle, last)


def _tuple(machine: PickleInterpreter) -> None:
    items = machine.pop_mark()
    machine.stack.append(tuple(items))


def _frozenset(machine: PickleInterpreter) -> None:
    items = machine.pop_mark()
    machine.budget.spend_on_keys(items)
    machine.stack.append(frozenset(items))


def _append(machine: PickleInterpreter) -> None:
    item = machine.stack.pop()
    target = machine.stack[-1]
    if type(target) is list and id(target) not in machine.foreign:
        target.append(item)
    else:
        machine.extend(target, [item])


def _appends(machine: PickleInterpreter) -> None:
    items = machine.pop_mark()
    target = machine.stack[-1]
    if type(target) is list and id(target) not in machine.foreign:
        target.extend(items)
    else:
        machine.extend(target, items)


def _setitem(machine: PickleInterpreter) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _update(machine, [key, value])


def _setitems(machine: PickleInterpreter) -> None:
    _update(machine, machine.pop_mark())


def _update(machine: PickleInterpreter, items: list[Any]) -> None:
    target, keys, values = machine.stack[-1], items[::2], items[1::2]
    if len(keys) != len(values):
        message = "a key has no value"
        raise pickle.UnpicklingError(message)
    if type(target) is dict and id(target) not in machine.foreign:
        machine.budget.spend_on_keys(keys)
        target.update(zip(keys, values, strict=True))
    else:
        machine.update(target, keys, values)


def _additems(machine: PickleInterpreter) -> None:
    items = machine.pop_mark()
    target = machine.stack[-1]
    if type(target) is set and id(target) not in machine.foreign:
        machine.budget.spend_on_keys(items)
        target.update(items)
    else:
        machine.add(target, items)


# ---- stack and memo ----


def _mark(machine: PickleInterpreter) -> None:
    machine.outer_stacks.append(machine.stack)
    machine.stack = []


def _pop(machine: PickleInterpreter) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()


def _dup(machine: PickleInterpreter) -> None:
    _push_again(machine, machine.stack[-1])


def _memoize(machine: PickleInterpreter) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _get1(machine: PickleInterpreter) -> None:
    number = machine.data[machine.position]
    machine.position += 1
    value = machine.memo.get(number, _MISSING)
    machine.stack.append(_recall(machine, value) if isinstance(value, Symbol) else value)


def _get4(machine: PickleInterpreter) -> None:
    _push_again(machine, machine.memo.get(machine.number(4), _MISSING))


def _push_again(machine: PickleInterpreter, value: Any) -> None:
    machine.stack.append(_recall(machine, value) if isinstance(value, Symbol) else value)


def _recall(machine: PickleInterpreter, symbol: Symbol) -> Any:
    if symbol is _MISSING:
        message = "a value is not in the memo"
        raise pickle.UnpicklingError(message)
    return machine.recall(symbol)


# ---- names and objects ----


def _global(machine: PickleInterpreter) -> None:
    module = machine.line()
    machine.stack.append(machine.find(module, machine.line()))


def _stack_global(machine: PickleInterpreter) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if type(name) is not str or type(module) is not str:
        message = "a name is not a text"
        raise pickle.UnpicklingError(message)
    machine.stack.append(machine.find(module, name))


def _reduce(machine: PickleInterpreter) -> None:
    arguments = _pop_arguments(machine)
    machine.stack.append(machine.call(machine.stack.pop(), arguments))


def _newobj(machine: PickleInterpreter) -> None:
    arguments = _pop_arguments(machine)
    machine.stack.append(machine.make(machine.stack.pop(), arguments, {}))


def _newobj_ex(machine: PickleInterpreter) -> None:
    keywords = machine.stack.pop()
    if type(keywords) is not dict or {*map(type, keywords)} - {str}:
        message = "keyword arguments are not a dict of names"
        raise pickle.UnpicklingError(message)
    arguments = _pop_arguments(machine)
    machine.stack.append(machine.make(machine.stack.pop(), arguments, keywords))


def _pop_arguments(machine: PickleInterpreter) -> tuple[Any, ...]:
    arguments = machine.stack.pop()
    if type(arguments) is not tuple:
        message = "arguments are not a tuple"
        raise pickle.UnpicklingError(message)
    return arguments


def _build(machine: PickleInterpreter) -> None:
    state = machine.stack.pop()
    machine.stack.append(machine.build(machine.stack.pop(), state))


def _binpersid(machine: PickleInterpreter) -> None:
    value = machine.persistent_load(machine.stack.pop())
    machine.foreign[id(value)] = value
    machine.stack.append(value)


def _pop_mark(machine: PickleInterpreter) -> None:
    machine.pop_mark()


# ---- the table ----


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _integer(raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True)


def _constant(value: Any) -> _Handler:
    """Push an immutable value."""
    return lambda machine: machine.stack.append(value)


def _new(kind: type) -> _Handler:
    """Push a new container."""
    return lambda machine: machine.stack.append(kind())


def _length_prefixed(size: int, convert: Callable[[bytes], Any]) -> _Handler:
    """Push a value converted from bytes, after a length of `size` bytes."""

    def push(machine: PickleInterpreter) -> None:
        raw = machine.take(machine.number(size))
        machine.stack.append(convert(raw))

    return push


def _put(size: int) -> _Handler:
    """Store the last value in the memo under a number of `size` bytes."""

    def put(machine: PickleInterpreter) -> None:
        machine.memo[machine.number(size)] = machine.stack[-1]

    return put


_OPCODES: Final[dict[bytes, _Handler]] = {
    pickle.PROTO: _protocol,
    pickle.FRAME: _frame,
    pickle.NONE: _constant(None),
    pickle.NEWTRUE: _constant(value=True),
    pickle.NEWFALSE: _constant(value=False),
    pickle.BININT1: _byte,
    pickle.BININT2: _two_bytes,
    pickle.BININT: _four_bytes,
    pickle.LONG1: _length_prefixed(1, _integer),
    pickle.LONG4: _length_prefixed(4, _integer),
    pickle.BINFLOAT: _float,
    pickle.SHORT_BINUNICODE: _short_unicode,
    pickle.BINUNICODE: _length_prefixed(4, _text),
    pickle.BINUNICODE8: _length_prefixed(8, _text),
    pickle.SHORT_BINBYTES: _length_prefixed(1, bytes),
    pickle.BINBYTES: _length_prefixed(4, bytes),
    pickle.BINBYTES8: _length_prefixed(8, bytes),
    pickle.BYTEARRAY8: _length_prefixed(8, bytearray),
    pickle.NEXT_BUFFER: _next_buffer,
    pickle.READONLY_BUFFER: _readonly_buffer,
    pickle.EMPTY_TUPLE: _constant(()),
    pickle.EMPTY_LIST: _new(list),
    pickle.EMPTY_DICT: _new(dict),
    pickle.EMPTY_SET: _new(set),
    pickle.TUPLE1: _tuple1,
    pickle.TUPLE2: _tuple2,
    pickle.TUPLE3: _tuple3,
    pickle.TUPLE: _tuple,
    pickle.FROZENSET: _frozenset,
    pickle.APPEND: _append,
    pickle.APPENDS: _appends,
    pickle.SETITEM: _setitem,
    pickle.SETITEMS: _setitems,
    pickle.ADDITEMS: _additems,
    pickle.MARK: _mark,
    pickle.POP: _pop,
    pickle.POP_MARK: _pop_mark,
    pickle.DUP: _dup,
    pickle.MEMOIZE: _memoize,
    pickle.BINPUT: _put(1),
    pickle.LONG_BINPUT: _put(4),
    pickle.BINGET: _get1,
    pickle.LONG_BINGET: _get4,
    pickle.GLOBAL: _global,
    pickle.STACK_GLOBAL: _stack_global,
    pickle.REDUCE: _reduce,
    pickle.NEWOBJ: _newobj,
    pickle.NEWOBJ_EX: _newobj_ex,
    pickle.BUILD: _build,
    pickle.BINPERSID: _binpersid,
}
_REFUSED: Final = frozenset(
    {
        *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID, pickle.INST, pickle.OBJ),
        *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.UNICODE),
        *(pickle.INT, pickle.LONG, pickle.FLOAT, pickle.LIST, pickle.DICT, pickle.PUT, pickle.GET),
    }
)
HANDLERS: Final = tuple(_OPCODES.get(bytes([opcode]), _unhandled) for opcode in range(256))

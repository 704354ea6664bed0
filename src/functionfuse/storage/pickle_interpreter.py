"""Pickle opcode interpreter: builds plain data itself and leaves names, calls and states to a subclass.

It reads what Python 3 writes in protocols 0 to 5.
It imports nothing, calls nothing, and allocates no more than there are bytes to fill it with.
It does not recurse, so a stream may be nested as deeply as it likes.
"""

from __future__ import annotations

import pickle
import struct
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import UntrustedResult
from functionfuse.storage.restricted_limits import Budget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["PickleInterpreter", "Symbol"]

_MAX_PROTOCOL: Final = 5
_STOP: Final = pickle.STOP[0]
_double: Final = struct.Struct(">d").unpack_from
_signed: Final = struct.Struct("<i").unpack_from
_unsigned: Final = struct.Struct("<H").unpack_from


class Symbol:
    """Something that stands in for a value on the stack and never becomes part of the result."""

    __slots__ = ()


class PickleInterpreter(ABC):
    """Interprets one stream; a subclass decides what names mean and what may be called with what."""

    def __init__(self, stream: bytes | memoryview, buffers: Sequence[memoryview] = ()) -> None:
        """Prepare to interpret a stream.

        Args:
            stream: The pickle stream; it is copied, so that nobody changes it in between.
            buffers: Its out-of-band buffers.
        """
        self._data = bytes(stream)
        self._position = 0
        self._stack: list[Any] = []
        self._outer_stacks: list[list[Any]] = []  # one for each mark
        self._memo: dict[int, Any] = {}
        self._buffers = iter(buffers)
        #: By identity, what was there before the stream: found by name, or stored elsewhere.
        self.foreign: dict[int, Any] = {}
        self.budget = Budget(len(self._data) + sum(len(buffer) for buffer in buffers))

    # ---- what a subclass decides ----

    @abstractmethod
    def find(self, module: str, name: str) -> Any:
        """Return what a name means."""

    @abstractmethod
    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """Call what a name means."""

    @abstractmethod
    def make(self, kind: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Make an object of a class, without initialising it."""

    @abstractmethod
    def build(self, made: Any, state: Any) -> Any:
        """Give a state to an object; returns the object."""

    @abstractmethod
    def extend(self, made: Any, items: list[Any]) -> None:
        """Append items to something else than a new list."""

    @abstractmethod
    def update(self, made: Any, keys: list[Any], values: list[Any]) -> None:
        """Set items of something else than a new dict."""

    @abstractmethod
    def add(self, made: Any, items: list[Any]) -> None:
        """Add items to something else than a new set."""

    @abstractmethod
    def persistent_load(self, pid: Any) -> Any:
        """Return what is stored elsewhere."""

    def recall(self, symbol: Symbol) -> Any:
        """Return what a symbol in the memo means by now."""
        return symbol

    def finish(self, value: Any) -> Any:
        """Return the result that the whole stream has made."""
        return value

    # ---- the loop ----

    def load(self) -> Any:
        """Interpret the stream.

        Raises:
            UnpicklingError: It is malformed.
            UntrustedResult: It uses what this interpreter does not read.
        """
        data, handlers = self._data, _HANDLERS
        try:
            while True:
                opcode = data[self._position]
                self._position += 1
                if opcode == _STOP:
                    break
                handlers[opcode](self)
        except (IndexError, struct.error) as error:
            message = (
                f"the stream ends too early, or takes what is not there: byte {self._position}"
            )
            raise pickle.UnpicklingError(message) from error
        if self._outer_stacks or len(self._stack) != 1:
            message = "the stream does not make one value"
            raise pickle.UnpicklingError(message)
        return self.finish(self._stack[0])

    def _take(self, length: int) -> bytes:
        """Return the next bytes of the stream, which has to have as many."""
        start = self._position
        self._position = end = start + length
        if end > len(self._data):
            message = f"{length} bytes are announced and {len(self._data) - start} left"
            raise pickle.UnpicklingError(message)
        return self._data[start:end]

    def _number(self, length: int) -> int:
        """Return a length or index, which are stored little-endian without a sign."""
        return int.from_bytes(self._take(length), "little")

    def _line(self) -> str:
        """Return the next line of the stream, as text opcodes have them."""
        end = self._data.index(b"\n", self._position)
        return self._take(end + 1 - self._position)[:-1].decode()

    def _pop_mark(self) -> list[Any]:
        """Return what is on the stack above the last mark."""
        items = self._stack
        self._stack = self._outer_stacks.pop()
        return items

    def _unknown(self) -> None:
        opcode = self._data[self._position - 1 : self._position]
        message = f"{opcode!r} is not an opcode of pickle"
        raise pickle.UnpicklingError(message)

    def _refused(self) -> None:
        """Refuse Python 2's objects and strings, and copyreg's extensions, which skip the check of names."""
        opcode = chr(self._data[self._position - 1])
        message = f"it uses the opcode {opcode!r}, which results of Python 3 do not have"
        raise UntrustedResult(message)

    # ---- numbers and texts ----

    def _protocol(self) -> None:
        protocol = self._number(1)
        if protocol > _MAX_PROTOCOL:
            message = f"protocol {protocol} of pickle is not known"
            raise pickle.UnpicklingError(message)

    def _frame(self) -> None:
        length = self._number(8)
        if length > len(self._data) - self._position:
            message = "a frame is longer than the stream"
            raise pickle.UnpicklingError(message)

    def _none(self) -> None:
        self._stack.append(None)

    def _true(self) -> None:
        self._stack.append(True)

    def _false(self) -> None:
        self._stack.append(False)

    def _byte(self) -> None:
        self._stack.append(self._data[self._position])
        self._position += 1

    def _two_bytes(self) -> None:
        self._stack.append(_unsigned(self._data, self._position)[0])
        self._position += 2

    def _four_bytes(self) -> None:
        self._stack.append(_signed(self._data, self._position)[0])
        self._position += 4

    def _long1(self) -> None:
        self._stack.append(int.from_bytes(self._take(self._number(1)), "little", signed=True))

    def _long4(self) -> None:
        self._stack.append(int.from_bytes(self._take(self._number(4)), "little", signed=True))

    def _float(self) -> None:
        self._stack.append(_double(self._data, self._position)[0])
        self._position += 8

    def _text_int(self) -> None:
        line = self._line()
        self._stack.append(bool(int(line)) if line in {"00", "01"} else int(line))

    def _text_long(self) -> None:
        self._stack.append(int(self._line().removesuffix("L")))

    def _text_float(self) -> None:
        self._stack.append(float(self._line()))

    def _text_unicode(self) -> None:
        end = self._data.index(b"\n", self._position)
        raw = self._take(end + 1 - self._position)[:-1]
        self._stack.append(raw.decode("raw-unicode-escape"))

    def _short_unicode(self) -> None:
        length = self._data[self._position]
        self._position += 1
        self._stack.append(self._take(length).decode("utf-8", "surrogatepass"))

    def _unicode(self) -> None:
        self._stack.append(self._take(self._number(4)).decode("utf-8", "surrogatepass"))

    def _unicode8(self) -> None:
        self._stack.append(self._take(self._number(8)).decode("utf-8", "surrogatepass"))

    def _short_bytes(self) -> None:
        self._stack.append(self._take(self._number(1)))

    def _bytes(self) -> None:
        self._stack.append(self._take(self._number(4)))

    def _bytes8(self) -> None:
        self._stack.append(self._take(self._number(8)))

    def _bytearray8(self) -> None:
        self._stack.append(bytearray(self._take(self._number(8))))

    def _next_buffer(self) -> None:
        try:
            self._stack.append(next(self._buffers))
        except StopIteration:
            message = "it needs more buffers than there are"
            raise pickle.UnpicklingError(message) from None

    def _readonly_buffer(self) -> None:
        buffer = self._stack[-1]
        if type(buffer) is not memoryview:
            message = "only a buffer can be made read-only"
            raise pickle.UnpicklingError(message)
        self._stack[-1] = buffer.toreadonly()

    # ---- containers ----

    def _empty_tuple(self) -> None:
        self._stack.append(())

    def _empty_list(self) -> None:
        self._stack.append([])

    def _empty_dict(self) -> None:
        self._stack.append({})

    def _empty_set(self) -> None:
        self._stack.append(set())

    def _tuple1(self) -> None:
        self._stack[-1] = (self._stack[-1],)

    def _tuple2(self) -> None:
        last = self._stack.pop()
        self._stack[-1] = (self._stack[-1], last)

    def _tuple3(self) -> None:
        last, middle = self._stack.pop(), self._stack.pop()
        self._stack[-1] = (self._stack[-1], middle, last)

    def _tuple(self) -> None:
        items = self._pop_mark()
        self._stack.append(tuple(items))

    def _list(self) -> None:
        items = self._pop_mark()
        self._stack.append(items)

    def _dict(self) -> None:
        items = self._pop_mark()
        self._stack.append({})
        self._update(items)

    def _frozenset(self) -> None:
        items = self._pop_mark()
        self.budget.spend_on_keys(items)
        self._stack.append(frozenset(items))

    def _append(self) -> None:
        item = self._stack.pop()
        target = self._stack[-1]
        if type(target) is list and id(target) not in self.foreign:
            target.append(item)
        else:
            self.extend(target, [item])

    def _appends(self) -> None:
        items = self._pop_mark()
        target = self._stack[-1]
        if type(target) is list and id(target) not in self.foreign:
            target.extend(items)
        else:
            self.extend(target, items)

    def _setitem(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def _setitems(self) -> None:
        self._update(self._pop_mark())

    def _update(self, items: list[Any]) -> None:
        target, keys, values = self._stack[-1], items[::2], items[1::2]
        if len(keys) != len(values):
            message = "a key has no value"
            raise pickle.UnpicklingError(message)
        if type(target) is dict and id(target) not in self.foreign:
            self.budget.spend_on_keys(keys)
            target.update(zip(keys, values, strict=True))
        else:
            self.update(target, keys, values)

    def _additems(self) -> None:
        items = self._pop_mark()
        target = self._stack[-1]
        if type(target) is set and id(target) not in self.foreign:
            self.budget.spend_on_keys(items)
            target.update(items)
        else:
            self.add(target, items)

    # ---- stack and memo ----

    def _mark(self) -> None:
        self._outer_stacks.append(self._stack)
        self._stack = []

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _dup(self) -> None:
        self._push_again(self._stack[-1])

    def _memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _put1(self) -> None:
        self._memo[self._number(1)] = self._stack[-1]

    def _put4(self) -> None:
        self._memo[self._number(4)] = self._stack[-1]

    def _text_put(self) -> None:
        self._memo[int(self._line())] = self._stack[-1]

    def _get1(self) -> None:
        number = self._data[self._position]
        self._position += 1
        self._get(number)

    def _get4(self) -> None:
        self._get(self._number(4))

    def _text_get(self) -> None:
        self._get(int(self._line()))

    def _get(self, number: int) -> None:
        try:
            value = self._memo[number]
        except KeyError:
            message = f"there is no value {number} in the memo"
            raise pickle.UnpicklingError(message) from None
        self._push_again(value)

    def _push_again(self, value: Any) -> None:
        self._stack.append(self.recall(value) if isinstance(value, Symbol) else value)

    # ---- names and objects ----

    def _global(self) -> None:
        module = self._line()
        self._stack.append(self.find(module, self._line()))

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str:
            message = "a name is not a text"
            raise pickle.UnpicklingError(message)
        self._stack.append(self.find(module, name))

    def _reduce(self) -> None:
        arguments = self._pop_arguments()
        self._stack.append(self.call(self._stack.pop(), arguments))

    def _newobj(self) -> None:
        arguments = self._pop_arguments()
        self._stack.append(self.make(self._stack.pop(), arguments, {}))

    def _newobj_ex(self) -> None:
        keywords = self._stack.pop()
        if type(keywords) is not dict or {*map(type, keywords)} - {str}:
            message = "keyword arguments are not a dict of names"
            raise pickle.UnpicklingError(message)
        arguments = self._pop_arguments()
        self._stack.append(self.make(self._stack.pop(), arguments, keywords))

    def _pop_arguments(self) -> tuple[Any, ...]:
        arguments = self._stack.pop()
        if type(arguments) is not tuple:
            message = "arguments are not a tuple"
            raise pickle.UnpicklingError(message)
        return arguments

    def _build(self) -> None:
        state = self._stack.pop()
        self._stack.append(self.build(self._stack.pop(), state))

    def _binpersid(self) -> None:
        value = self.persistent_load(self._stack.pop())
        self.foreign[id(value)] = value
        self._stack.append(value)


_OPCODES: Final[dict[bytes, Callable[[PickleInterpreter], object]]] = {
    pickle.PROTO: PickleInterpreter._protocol,
    pickle.FRAME: PickleInterpreter._frame,
    pickle.NONE: PickleInterpreter._none,
    pickle.NEWTRUE: PickleInterpreter._true,
    pickle.NEWFALSE: PickleInterpreter._false,
    pickle.BININT1: PickleInterpreter._byte,
    pickle.BININT2: PickleInterpreter._two_bytes,
    pickle.BININT: PickleInterpreter._four_bytes,
    pickle.LONG1: PickleInterpreter._long1,
    pickle.LONG4: PickleInterpreter._long4,
    pickle.BINFLOAT: PickleInterpreter._float,
    pickle.INT: PickleInterpreter._text_int,
    pickle.LONG: PickleInterpreter._text_long,
    pickle.FLOAT: PickleInterpreter._text_float,
    pickle.UNICODE: PickleInterpreter._text_unicode,
    pickle.SHORT_BINUNICODE: PickleInterpreter._short_unicode,
    pickle.BINUNICODE: PickleInterpreter._unicode,
    pickle.BINUNICODE8: PickleInterpreter._unicode8,
    pickle.SHORT_BINBYTES: PickleInterpreter._short_bytes,
    pickle.BINBYTES: PickleInterpreter._bytes,
    pickle.BINBYTES8: PickleInterpreter._bytes8,
    pickle.BYTEARRAY8: PickleInterpreter._bytearray8,
    pickle.NEXT_BUFFER: PickleInterpreter._next_buffer,
    pickle.READONLY_BUFFER: PickleInterpreter._readonly_buffer,
    pickle.EMPTY_TUPLE: PickleInterpreter._empty_tuple,
    pickle.EMPTY_LIST: PickleInterpreter._empty_list,
    pickle.EMPTY_DICT: PickleInterpreter._empty_dict,
    pickle.EMPTY_SET: PickleInterpreter._empty_set,
    pickle.TUPLE1: PickleInterpreter._tuple1,
    pickle.TUPLE2: PickleInterpreter._tuple2,
    pickle.TUPLE3: PickleInterpreter._tuple3,
    pickle.TUPLE: PickleInterpreter._tuple,
    pickle.LIST: PickleInterpreter._list,
    pickle.DICT: PickleInterpreter._dict,
    pickle.FROZENSET: PickleInterpreter._frozenset,
    pickle.APPEND: PickleInterpreter._append,
    pickle.APPENDS: PickleInterpreter._appends,
    pickle.SETITEM: PickleInterpreter._setitem,
    pickle.SETITEMS: PickleInterpreter._setitems,
    pickle.ADDITEMS: PickleInterpreter._additems,
    pickle.MARK: PickleInterpreter._mark,
    pickle.POP: PickleInterpreter._pop,
    pickle.POP_MARK: PickleInterpreter._pop_mark,
    pickle.DUP: PickleInterpreter._dup,
    pickle.MEMOIZE: PickleInterpreter._memoize,
    pickle.BINPUT: PickleInterpreter._put1,
    pickle.LONG_BINPUT: PickleInterpreter._put4,
    pickle.PUT: PickleInterpreter._text_put,
    pickle.BINGET: PickleInterpreter._get1,
    pickle.LONG_BINGET: PickleInterpreter._get4,
    pickle.GET: PickleInterpreter._text_get,
    pickle.GLOBAL: PickleInterpreter._global,
    pickle.STACK_GLOBAL: PickleInterpreter._stack_global,
    pickle.REDUCE: PickleInterpreter._reduce,
    pickle.NEWOBJ: PickleInterpreter._newobj,
    pickle.NEWOBJ_EX: PickleInterpreter._newobj_ex,
    pickle.BUILD: PickleInterpreter._build,
    pickle.BINPERSID: PickleInterpreter._binpersid,
    pickle.PERSID: PickleInterpreter._refused,
    pickle.INST: PickleInterpreter._refused,
    pickle.OBJ: PickleInterpreter._refused,
    pickle.EXT1: PickleInterpreter._refused,
    pickle.EXT2: PickleInterpreter._refused,
    pickle.EXT4: PickleInterpreter._refused,
    pickle.STRING: PickleInterpreter._refused,
    pickle.BINSTRING: PickleInterpreter._refused,
    pickle.SHORT_BINSTRING: PickleInterpreter._refused,
}
_HANDLERS: Final = tuple(
    _OPCODES.get(bytes([opcode]), PickleInterpreter._unknown) for opcode in range(256)
)

"""Fuzz the restricted unpickler; as a program, for any number of streams.

    python tests/storage/fuzz_restricted_unpickler.py --minutes 60 --seed 7

Streams are valid ones with changed bytes and opcodes, and opcodes in random order.
Whatever a stream is, the outcome must be a value of allowed types at every depth, or an error of the library.
Nothing that is not in the table of constructors may be imported, called or changed, and no file be opened.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import io
import pathlib
import pickle
import pickletools
import pkgutil
import random
import re
import resource
import struct
import sys
import time
import uuid
import warnings
import zoneinfo
from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from fuzz_values import ALLOWED, CLASSES, NAMES, USERS, VALUES, Box, Colour, Slotted, alarms

from functionfuse.errors import CorruptResult, StorageError, UntrustedResult
from functionfuse.storage.file_format.legacy_format import _ReferenceCollector
from functionfuse.storage.file_format.pickle_loop import interpret
from functionfuse.storage.file_format.pickle_stream import unpickle_value
from functionfuse.storage.file_format.restricted_unpickler import PickleAllowlist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SECONDS_PER_STREAM: Final = 60  # a stream that takes longer hangs
_MAX_MEMORY: Final = 3 << 30  # bytes of address space beyond what is there at the start
_MAX_GROWTH: Final = 1 << 20  # kilobytes of resident memory
_SMALL: Final = 100_000  # items of an array that are looked at


#: Events of Python's audit hooks that reading a result has no reason for.
_FORBIDDEN: Final = (
    *("os.", "subprocess.", "shutil.", "socket.", "ctypes.", "exec", "compile", "import", "open"),
    *("marshal.", "pickle.find_class", "builtins.input", "builtins.breakpoint", "sys."),
)
_READING: Final = frozenset({"open", "import", "os.listdir", "os.scandir"})
_armed = False


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Note events that must not happen while a stream is read."""
    if not _armed or not event.startswith(_FORBIDDEN):
        return
    if event in _READING and {"zoneinfo", "tzdata"} & {*re.findall(r"\w+", str(arguments[0]))}:
        return  # time zones are files of the system, or of the package tzdata
    alarms.append(f"{event} {str(arguments)[:200]}")


# ---- streams ----

_PLAIN_OPCODES: Final = (
    "BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINBYTES BINBYTES "
    "NONE NEWTRUE NEWFALSE EMPTY_LIST EMPTY_TUPLE EMPTY_DICT GLOBAL BINGET"
)
_OPCODES: Final = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
#: Opcodes that put a value on the stack and take none.
_ATOMS: Final = frozenset(
    opcode.code.encode("latin-1")
    for opcode in pickletools.opcodes
    if opcode.name in _PLAIN_OPCODES.split()
)
#: What may be done to the last value: calling it, giving it a state, and putting something in.
_ACTIONS: Final = [
    *(
        b")R",
        b")\x81",
        b")}\x92",
        b"}b",
        b"N}\x86b",
        b"Na",
        b"(NNe",
        b"NNs",
        b"(NNu",
        b"(K\x01\x90",
    ),
    *(b"}X\x07\0\0\0_value_K\x07sb", b"N}X\x05\0\0\0valueK\x07s\x86b", b"\x85", b"]N\x86b"),
]
Ops = list[bytes]


def corpus() -> list[Ops]:
    """Valid streams, as lists of opcodes with their arguments."""
    streams = [pickle.dumps(value, protocol) for value in VALUES for protocol in (3, 4, 5)]
    streams += [pickle.dumps([value, value, {"x": (value,)}]) for value in VALUES]
    return [split(stream) for stream in streams]


def split(stream: bytes) -> Ops:
    """The opcodes of a stream, each with its argument."""
    starts = [position for _, _, position in pickletools.genops(stream)]
    return [
        stream[start:end] for start, end in zip(starts, [*starts[1:], len(stream)], strict=True)
    ]


class Generator:
    """Makes streams, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        """Collect valid streams."""
        self.random = random.Random(seed)  # noqa: S311 - not for secrets
        self.corpus = corpus()
        self.parts = sorted({op for ops in self.corpus for op in ops})
        # without frames, and with memo indexes that stay right when something is put in
        plain = [split(pickletools.optimize(pickle.dumps(value, 3))) for value in VALUES]
        self.values = [ops[1:-1] for ops in plain]
        self.kinds: list[Callable[[], bytes]] = [
            self.with_changed_bytes,
            self.with_changed_opcodes,
            self.with_other_values,
            self.with_other_values,
            self.with_other_values,
            self.of_two,
            self.of_opcodes,
        ]

    def streams(self) -> Iterator[bytes]:
        """Streams without end."""
        while True:
            yield self.random.choice(self.kinds)()

    def with_changed_bytes(self) -> bytes:
        """A valid stream with a few bytes changed, inserted or deleted."""
        data = bytearray(b"".join(self.random.choice(self.corpus)))
        for _ in range(self.random.choice([1, 1, 2, 3, 8])):
            place = self.random.randrange(len(data))
            match self.random.randrange(4):
                case 0:
                    data[place] = self.random.randrange(256)
                case 1:
                    data[place] ^= 1 << self.random.randrange(8)
                case 2:
                    data[place:place] = self.random.choice(_OPCODES)
                case _:
                    del data[place]
            data = data or bytearray(b".")
        return bytes(data)

    def with_changed_opcodes(self) -> bytes:
        """A valid stream with opcodes replaced, inserted, deleted or exchanged."""
        ops = [*self.random.choice(self.corpus)]
        for _ in range(self.random.choice([1, 1, 2, 3, 6])):
            place = self.random.randrange(len(ops))
            match self.random.randrange(5):
                case 0:
                    ops[place] = self.opcode()
                case 1:
                    ops.insert(place, self.opcode())
                case 2 if len(ops) > 1:
                    del ops[place]
                case 3:
                    other = self.random.randrange(len(ops))
                    ops[place], ops[other] = ops[other], ops[place]
                case _:
                    end = place + self.random.randrange(1, 12)
                    ops[place:place] = ops[place:end]
        return b"".join(ops)

    def with_other_values(self) -> bytes:
        """A valid stream with some values replaced by others: the stack stays right."""
        ops = [*self.random.choice(self.values)]
        for _ in range(self.random.choice([1, 1, 2, 3])):
            places = [place for place, op in enumerate(ops) if op[:1] in _ATOMS]
            if places:
                place = self.random.choice(places)
                ops[place : place + 1] = self.value(ops)
        return b"".join([b"\x80\x03", *ops, b"."])

    def value(self, ops: Ops) -> Ops:
        """Something that puts one value on the stack."""
        match self.random.randrange(5):
            case 0:
                return self.random.choice(self.values)
            case 4:
                return [*self.random.choice(self.values), self.random.choice(_ACTIONS)]
            case 1:
                return [self.number()]
            case 2:
                return [self.random.choice([op for op in self.parts if op[:1] in _ATOMS])]
            case _:
                return [self.random.choice([op for op in ops if op[:1] in _ATOMS] or [b"N"])]

    def of_two(self) -> bytes:
        """The beginning of a stream, then the end of another one, with more in between."""
        first, second = self.random.choice(self.corpus), self.random.choice(self.corpus)
        middle = [self.opcode() for _ in range(self.random.randrange(4))]
        start, end = self.random.randrange(len(first)), self.random.randrange(len(second))
        return b"".join([*first[:start], *middle, *second[end:]])

    def of_opcodes(self) -> bytes:
        """A valid value or two, then opcodes in any order."""
        ops = [b"\x80\x05"]
        for _ in range(self.random.randrange(3)):
            ops += self.random.choice(self.corpus)[:-1]
        ops += [self.opcode() for _ in range(self.random.randrange(1, 30))]
        return b"".join([*ops, b"."])

    def opcode(self) -> bytes:
        """An opcode with its argument: a name, a number of any size, or one of a valid stream."""
        return self.random.choice([self.name, self.announced, self.number, self.any, self.any])()

    def any(self) -> bytes:
        """An opcode of a valid stream, or one that does much."""
        usual = [b"(", b")", b"]", b"}", b"\x8f", b"N", b"\x94", b"2"]
        acting = [b"R", b"\x81", b"b", b"\x92", b"s", b"a", b"e", b"u", b"h\x00", b"h\x03"]
        return self.random.choice([*usual, *acting, *self.random.choices(self.parts, k=18)])

    def name(self) -> bytes:
        """A name that may mean something, or must not."""
        module, name = self.random.choice(NAMES).split()
        return b"c" + module.encode() + b"\n" + name.encode() + b"\n"

    def announced(self) -> bytes:
        """A length or an index of the memo, of any size."""
        size = self.random.choice([0, 1, 2**31 - 1, 2**32 - 1])
        return self.random.choice([b"B", b"X", b"\x8b", b"r", b"j"]) + struct.pack("<I", size)

    def number(self) -> bytes:
        """A number at a limit of something."""
        number = self.random.choice([0, 1, 2, 8, 63, 64, 255, 2**31, 2**62, 2**63, 10**30])
        data = pickle.encode_long(number * self.random.choice([1, 1, 1, -1]))
        return b"\x8a" + bytes([len(data)]) + data


# ---- what comes out ----


def check_types(value: Any) -> None:
    """Assert that a value is of allowed types at every depth, and that its memory can be read."""
    pending, seen = [value], set[int]()
    keep: list[Any] = []
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        keep.append(each)
        if isinstance(each, type):
            assert each in CLASSES, f"the class {each}"
        elif isinstance(each, np.dtype):
            repr(each)
        else:
            assert type(each) in ALLOWED, f"a {type(each)}"
            pending += parts_of(each)


def parts_of(value: Any) -> list[Any]:
    """The objects that a value references."""
    if isinstance(value, np.ndarray | np.void):
        return numpy_parts(value)
    if isinstance(value, slice):
        return [value.start, value.stop, value.step]
    if isinstance(value, Slotted):
        return [getattr(value, name) for name in Slotted.__slots__ if hasattr(value, name)]
    items = value if isinstance(value, list | tuple | set | frozenset | deque | dict) else ()
    values = value.values() if isinstance(value, dict) else ()
    if not isinstance(value, list | dict | set | deque | tuple | bytearray | memoryview | Box):
        hash(value)
    return [*items, *values, *vars_of(value)]


def numpy_parts(value: Any) -> list[Any]:
    """The objects that an array or a record references; reads all of its memory."""
    if value.size > _SMALL or value.dtype.itemsize > _SMALL:
        return []
    value.tobytes()
    try:
        items = value.tolist()
    except SystemError:  # numpy: code points that there are not
        items = []
    return [items] if value.dtype.hasobject else []


def vars_of(value: Any) -> list[Any]:
    """The attributes of an object that may have some."""
    return [*getattr(value, "__dict__", {}).values()]


def state_outside() -> tuple[Any, ...]:
    """Objects outside every pickle, which must stay unchanged."""
    return (
        *((member.name, member.value, len(vars(member))) for member in (*Colour, *uuid.SafeUUID)),
        *(len(vars(kind)) for kind in (uuid.UUID, Box, Colour, OrderedDict, Slotted)),
    )


class Fuzzer:
    """Reads streams and counts what comes out."""

    def __init__(self, seed: int) -> None:
        """Prepare; nothing is watched yet."""
        self.generator = Generator(seed)
        self.counts: Counter[str] = Counter()
        self.allowlists = [PickleAllowlist(), PickleAllowlist(USERS)]
        self.stream = b""

    def run(self, iterations: int | None, seconds: float) -> None:
        """Read streams until there were so many, or the time is over.

        Raises:
            AssertionError: A stream did what it must not do.
        """
        warnings.simplefilter("ignore")  # to show one, Python opens the file of the line that warns
        before, end = state_outside(), time.monotonic() + seconds
        for number, stream in enumerate(self.generator.streams()):
            self.stream = stream
            if number == iterations or time.monotonic() > end:
                return
            if number % 64 == 0:
                faulthandler.dump_traceback_later(_SECONDS_PER_STREAM, exit=True)
            self.counts[self.outcome(self.allowlists[number % 2])] += 1
            assert before == state_outside(), "something outside was changed"
            assert [] == alarms, alarms

    def outcome(self, allowlist: PickleAllowlist) -> str:
        """Read the stream as a result, and as a file of the old format that may refer to others."""
        global _armed  # noqa: PLW0603 - the audit hook is for good, and the same for all
        buffers = [memoryview(bytearray(64)), memoryview(bytes(64))]
        _armed = True
        try:
            value = unpickle_value(self.stream, buffers, allowlist, lambda pid: [pid])
        except StorageError as error:
            assert not isinstance(error, CorruptResult)  # noqa: PT017 - the outcome is the point
            kind = "refused" if isinstance(error, UntrustedResult) else "malformed"
        else:
            _armed = False
            check_types(value)
            kind = "value"
        finally:
            _armed = False
        self.collect()
        return kind

    def collect(self) -> None:
        """Look for references, as is done for whatever lies in a folder."""
        global _armed  # noqa: PLW0603
        _armed = True
        try:
            interpret(_ReferenceCollector(self.stream))
        except (StorageError, pickle.UnpicklingError, ValueError, TypeError, RecursionError):
            pass
        finally:
            _armed = False


def main() -> None:
    """Fuzz, and say what came out."""
    parser = argparse.ArgumentParser(description="Fuzz the restricted unpickler.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    faulthandler.enable()
    fuzzer = Fuzzer(options.seed)
    for ops in fuzzer.generator.corpus:  # and import all that they need
        check_types(unpickle_value(b"".join(ops), (), fuzzer.allowlists[1], None))
    b"x".decode("raw-unicode-escape")  # imports a codec
    with contextlib.suppress(ImportError):
        for package in pkgutil.walk_packages(importlib.import_module("tzdata").__path__, "tzdata."):
            importlib.import_module(package.name)
    for zone in ("Nothing", "Nowhere/Nothing", "Europe/Nothing"):  # import what looks for files
        with contextlib.suppress(zoneinfo.ZoneInfoNotFoundError):
            zoneinfo.ZoneInfo(zone)
    with io.StringIO() as nowhere:
        print(VALUES, file=nowhere)
    address_space = (
        int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    )
    resource.setrlimit(resource.RLIMIT_AS, (address_space + _MAX_MEMORY,) * 2)
    sys.addaudithook(watch)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        fuzzer.run(options.iterations, options.minutes * 60)
    except BaseException:
        print(f"seed {options.seed}, after {fuzzer.counts}: {fuzzer.stream!r}", file=sys.stderr)  # noqa: T201
        raise
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert grown < _MAX_GROWTH, f"{grown} kB of memory"
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(fuzzer.counts.items()))
    print(f"{fuzzer.counts.total()} streams: {counts}; {grown >> 10} MB more memory")  # noqa: T201


if __name__ == "__main__":
    main()

"""Tests of the surroundings of nodes: settings, logging, warnings, hash seeds, event loops, and `__main__`."""

from __future__ import annotations

import asyncio
import decimal
import logging
import os
import socket
import sys
import threading
import warnings
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from functionfuse import workflow
from functionfuse.testing.engine.suite import Latch, Suite, here

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["SurroundingTests"]

variable: ContextVar[str] = ContextVar("variable", default="not set")
unset: ContextVar[str] = ContextVar("unset", default="the default")


def read_settings(*_: Any) -> dict[str, Any]:
    """The settings that a node can see."""
    import surrounding_helper  # type: ignore[import-not-found] # a folder that the caller added to sys.path

    try:
        divided = str(np.float64(1) / np.float64(0))
    except FloatingPointError:
        divided = "raised"
    return {
        "sys.path": surrounding_helper.value,
        "current folder": os.getcwd(),
        "context variable": variable.get(),
        "context variable with its default": unset.get(),
        "numpy error state": divided,
        "numpy print options": str(np.array([1 / 3])),
        "decimal context": str(decimal.Decimal(1) / 3),
        "recursion limit": sys.getrecursionlimit(),
        "digits of integers": sys.get_int_max_str_digits(),
        "timeout of sockets": socket.getdefaulttimeout(),
    }


settings = workflow(read_settings)


@workflow
async def settings_of_coroutine(_: Any) -> dict[str, Any]:
    """The settings that an asynchronous node can see."""
    return read_settings()


@workflow
class Reader:
    """Reads settings."""

    def __init__(self) -> None:
        self.first = read_settings()

    def read(self) -> list[dict[str, Any]]:
        """The settings in the constructor and now."""
        return [self.first, read_settings()]


class CareError(UserWarning):
    """A warning that the caller's filters make an error."""


@workflow
def speak(name: str, _: Any = None) -> tuple[str, int]:
    """Log and warn; returns what became of a warning that is an error, and the line of another."""
    log = logging.getLogger("surroundings")
    log.info("%s says %d", name, 1)
    log.debug("below the level of the root logger")
    logging.getLogger("surroundings.quiet").warning("below the level of this logger")
    logging.getLogger("surroundings.off").error("of a disabled logger")
    logging.getLogger("surroundings.apart").debug("%s in a logger of its own", name)
    try:
        raise KeyError(name)  # noqa: TRY301 - logged
    except KeyError:
        log.exception("caught", extra={"lock": threading.Lock()})
    helper = threading.Thread(target=log.info, args=("from a thread",))
    helper.start()
    helper.join()
    warnings.warn("ignored", UserWarning, stacklevel=1)
    warnings.warn("careful", UserWarning, stacklevel=1)
    line = here() - 1
    try:
        warnings.warn("strict", CareError, stacklevel=1)
    except CareError:
        return "raised", line
    return "shown", line


@workflow
def speak_and_fail(spoken: Any) -> None:
    """Log, warn and fail."""
    with warnings.catch_warnings(record=True) as own:
        warnings.simplefilter("always")
        warnings.warn("caught in the node", UserWarning, stacklevel=1)
    assert len(own) == 1
    logging.getLogger("surroundings").error("about to fail")
    raise ValueError(*spoken)


@workflow
def hashes(wait: Latch | None, opened: Latch | None) -> list[int]:
    """Hashes of texts, in two processes if nodes run in parallel."""
    if opened is not None:
        opened.open()
    if wait is not None:
        wait.wait()
    return [hash("text"), hash(b"bytes"), hash(("a", "tuple")), hash(frozenset({"a", "set"}))]


@workflow
class Connection:
    """A connection, which belongs to an event loop."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def open(self) -> None:
        """Connect."""
        self.loop = asyncio.get_running_loop()
        self.server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        host, port = self.server.sockets[0].getsockname()
        self.reader, self.writer = await asyncio.open_connection(host, port)

    async def _answer(self, reader: Any, writer: Any) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()

    async def ask(self, question: str) -> tuple[str, bool]:
        """Send a line; returns the answer, and whether the loop is the one of `open`."""
        self.writer.write(f"{question}\n".encode())
        await self.writer.drain()
        return (await self.reader.readline()).decode(), asyncio.get_running_loop() is self.loop

    def count(self, answer: Any) -> int:
        """A method that is not asynchronous."""
        self.lines.append(answer)
        return len(self.lines)

    async def close(self) -> str:
        """Disconnect."""
        self.writer.close()
        await self.writer.wait_closed()
        self.server.close()
        return "closed"


@workflow
async def current_loop() -> Any:
    """The event loop."""
    return asyncio.get_running_loop()


@workflow
async def is_current(loop: Any) -> bool:
    """Tell whether this is the event loop."""
    return asyncio.get_running_loop() is loop


#: A part of the caller's script.
SCRIPT = """
import dataclasses, enum, multiprocessing, pickle, typing
from functionfuse import workflow

class SurroundingModel:
    class Inner:
        pass
    def double(self, value):
        return 2 * value

class SurroundingArgument:
    pass

class SurroundingColor(enum.Enum):
    RED = 1

class SurroundingPair(typing.NamedTuple):
    left: int

@dataclasses.dataclass
class SurroundingFields:
    left: int

def surrounding_helper(value):
    return -value

def surrounding_function(value):
    return value + 1

@workflow
def surrounding_node(argument, function, parallel):
    values = [SurroundingModel(), SurroundingModel.Inner(), argument, SurroundingColor.RED,
              SurroundingPair(1), SurroundingFields(1), surrounding_helper, function,
              SurroundingModel().double]
    copies = [pickle.loads(pickle.dumps(value)) for value in values]
    found = {type(value).__qualname__: type(copy) is type(value) for value, copy in zip(values, copies)}
    found["functions"] = copies[6:8] == values[6:8]
    if parallel:
        with multiprocessing.get_context("fork").Pool(1) as pool:
            found["pool"] = pool.map(surrounding_helper, [1]) + pool.map(SurroundingModel().double, [1])
    return found
"""


class Records(logging.Handler):
    """Keeps log records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record of this test's loggers."""
        if record.name.startswith("surroundings"):
            self.records.append(record)


class SurroundingTests(Suite):
    """Surroundings of a node."""

    @pytest.fixture
    def caller(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Settings of the caller: each differs from its default."""
        (tmp_path / "surrounding_helper.py").write_text("value = 'of the added folder'")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.chdir(tmp_path)
        limit, digits = sys.getrecursionlimit(), sys.get_int_max_str_digits()
        timeout = socket.getdefaulttimeout()
        sys.setrecursionlimit(limit + 234)
        sys.set_int_max_str_digits(5000)
        socket.setdefaulttimeout(123.0)
        try:
            with (
                decimal.localcontext(prec=7),
                np.errstate(divide="raise"),
                np.printoptions(precision=3),
            ):
                yield
        finally:
            sys.setrecursionlimit(limit)
            sys.set_int_max_str_digits(digits)
            socket.setdefaulttimeout(timeout)
            sys.modules.pop("surrounding_helper", None)

    def test_settings_of_the_caller(self, caller: None) -> None:
        """Nodes see the caller's context variables, search path, folder, recursion limit, and numpy and decimal settings."""
        first = settings()
        reader: Any = Reader()
        nodes = [first, settings(first), settings_of_coroutine(first), reader.read()]

        def run() -> tuple[dict[str, Any], list[Any]]:
            variable.set("set by the caller")
            with (
                decimal.localcontext(prec=7),
                np.errstate(divide="raise"),
                np.printoptions(precision=3),
            ):
                return read_settings(), self.compute(*nodes)

        expected, (*seen, of_instance) = copy_context().run(run)
        assert expected["context variable"] == "set by the caller"
        assert expected["numpy error state"] == "raised"
        for found in (*seen, *of_instance):
            differing = {name: value for name, value in found.items() if value != expected[name]}
            assert not differing, f"{differing} instead of {expected}"

    def test_messages_reach_the_caller(self) -> None:
        """Log records and warnings of nodes reach the caller's handlers, by its levels and filters, also if a node fails."""
        with _Logging() as (records, apart), warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("default")
            warnings.filterwarnings("ignore", "ignored")
            warnings.filterwarnings("error", category=CareError)
            with pytest.raises(ValueError, match="raised") as caught:
                self.compute(speak_and_fail(speak("second", speak("first"))))

        of_node = [(logging.INFO, "from a thread"), (logging.ERROR, "caught")]
        assert sorted((each.levelno, each.getMessage()) for each in records.records) == sorted(
            [
                *(*of_node, *of_node, (logging.ERROR, "about to fail")),
                *((logging.INFO, "first says 1"), (logging.INFO, "second says 1")),
            ]
        )
        messages = [each.getMessage() for each in records.records]
        assert messages.index("first says 1") < messages.index("second says 1")
        assert messages[-1] == "about to fail"
        assert [each.getMessage().partition(" ")[0] for each in apart.records] == [
            "first",
            "second",
        ]
        for record in records.records:
            if record.getMessage() == "caught":
                text = logging.Formatter().format(record)
                assert "KeyError: 'first'" in text or "KeyError: 'second'" in text
        ours = [each for each in shown if each.filename == __file__]
        assert {str(each.message) for each in ours} == {"careful"}
        # in this process an engine may reset Python's registry of shown warnings
        if self.runs_in_other_processes:
            assert len(ours) == 1
        assert ours[0].lineno == caught.value.args[1]

    def test_hashes(self, tmp_path: Path) -> None:
        """Texts have the same hash in all workers of a run, so that nodes can partition them."""
        first, second = Latch(str(tmp_path / "first")), Latch(str(tmp_path / "second"))
        with first.closed(), second.closed():
            if self.runs_side_by_side:
                nodes = [hashes(first, second), hashes(second, first)]
            else:
                nodes = [hashes(None, None), hashes(None, None)]
            one, other = self.compute(*nodes)

        assert one == other

    def test_event_loop(self) -> None:
        """Async methods of an instance share an event loop: a connection of one is used in the next, also in a notebook."""
        if self.runs_in_other_processes and not self.keeps_instances:
            pytest.skip("a connection cannot leave its process")
        connection: Any = Connection()
        opened, answer = connection.open(), connection.ask("one")
        targets = [opened, answer, connection.count(answer[0]), connection.ask("two")]
        made = self.new_workflow(*targets, connection.close())
        functions = [is_current(current_loop())] if not self.runs_in_other_processes else []

        async def notebook() -> list[Any]:
            return [made.run(), *map(self.compute, functions)]

        expected = [None, ("ONE\n", True), 1, ("TWO\n", True), "closed"]
        for found in ([made.run(), *map(self.compute, functions)], asyncio.run(notebook())):
            assert found == [expected, *[True for _ in functions]]

    def test_things_of_main(self) -> None:
        """Inside a node, `pickle` and `multiprocessing` find the functions and classes of the caller's script."""
        main = vars(sys.modules["__main__"])
        before = dict(main)
        try:
            exec(SCRIPT, main)  # noqa: S102 - as if it were in the script
            found = self.compute(
                main["surrounding_node"](
                    main["SurroundingArgument"](),
                    main["surrounding_function"],
                    self.runs_in_other_processes,
                )
            )
        finally:
            main.clear()
            main.update(before)

        assert len(found) == (10 if self.runs_in_other_processes else 9)
        for kind, value in found.items():
            assert value == ([-1, 2] if kind == "pool" else True), kind


class _Logging:
    """Context manager: a handler of the root logger and one of a logger of its own; loggers with levels."""

    def __enter__(self) -> tuple[Records, Records]:
        self._root, self._apart = Records(), Records()
        self._level = logging.getLogger().level
        logging.getLogger().setLevel(logging.INFO)
        logging.getLogger().addHandler(self._root)
        logging.getLogger("surroundings.quiet").setLevel(logging.ERROR)
        logging.getLogger("surroundings.off").disabled = True
        apart = logging.getLogger("surroundings.apart")
        apart.setLevel(logging.DEBUG)
        apart.propagate = False
        apart.addHandler(self._apart)
        return self._root, self._apart

    def __exit__(self, *_: object) -> None:
        logging.getLogger().setLevel(self._level)
        logging.getLogger().removeHandler(self._root)
        logging.getLogger("surroundings.apart").removeHandler(self._apart)

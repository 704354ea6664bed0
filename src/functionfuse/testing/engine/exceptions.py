"""Exception tests: unusual exceptions and the death of workers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import threading
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from functionfuse import workflow
from functionfuse.errors import EngineError
from functionfuse.testing.engine.suite import Suite, notes_of, text_of

if TYPE_CHECKING:
    from functionfuse.testing.engine.suite import Journal

__all__ = ["ExceptionTests"]


class Stop(BaseException):
    """A BaseException."""


class KeywordOnly(Exception):
    """An exception with keyword-only parameters."""

    def __init__(self, *, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Holding(Exception):
    """Has an attribute that cannot be pickled."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lock = threading.Lock()


class Silent(Exception):
    """Raises in `__str__`."""

    def __str__(self) -> str:
        message = "no text"
        raise TypeError(message)


@dataclass(frozen=True)
class Frozen(Exception):
    """Its attributes cannot be set, not even notes."""

    code: int


@workflow
def raise_keyword_only(reason: str) -> None:
    """Raise."""
    raise KeywordOnly(reason=reason)


@workflow
def raise_this(kind: Any, *args: Any) -> None:
    """Raise an exception of the given type."""
    raise kind(*args)


@workflow
def raise_group() -> None:
    """Raise an exception group."""
    message = "several"
    raise ExceptionGroup(message, [ValueError("one"), Frozen(2)])


@workflow
def raise_noted() -> None:
    """Raise an exception with a note."""
    error = ValueError("noted")
    error.add_note("by its author")
    raise error


@workflow
def raise_unsendable() -> None:
    """Raise an exception whose class cannot be pickled."""
    kind = type("Unsendable", (Exception,), {"lock": threading.Lock()})
    message = "what it says"
    raise kind(message)


@workflow
def raise_from_another() -> None:
    """Raise because of another exception."""
    try:
        function_that_fails()
    except ValueError as error:
        message = "outer"
        raise RuntimeError(message) from error


def function_that_fails() -> NoReturn:
    """Raise."""
    message = "inner"
    raise ValueError(message)


@workflow
def same(value: Any) -> Any:
    """Return the argument."""
    return value


@workflow
def noted(journal: Journal, name: str, *needs: Any) -> str:
    """Write a line and return it."""
    journal.write(name)
    return name


def end_process(way: str, caller: int) -> None:
    """Kill the process of a worker; never that of the caller."""
    if os.getpid() == caller:
        message = "this is the caller's process"
        raise AssertionError(message)
    if way == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


die = workflow(end_process)


@workflow
class Mortal:
    """A class whose methods kill their process, or whose constructor raises."""

    def __init__(self, *wrong: Any) -> None:
        if wrong:
            raise KeywordOnly(reason="not made")

    def die(self, caller: int) -> None:
        """Kill the process."""
        end_process("exit", caller)

    def live(self) -> str:
        """Do nothing."""
        return "alive"


class ExceptionTests(Suite):
    """Exceptions."""

    @pytest.mark.parametrize(
        ("kind", "args"),
        [
            (Holding, ("held",)),
            (Frozen, (7,)),
            (Silent, ("silent",)),
            (concurrent.futures.CancelledError, ("by the node",)),
            (TimeoutError, ("of the node",)),
        ],
    )
    def test_any_exception(self, kind: type[Exception], args: tuple[Any, ...]) -> None:
        """An exception keeps type, arguments and note, whatever its attributes and restrictions of its class."""
        with pytest.raises(kind) as caught:
            self.compute(same(raise_this(kind, *args).set_name("x")))

        assert (type(caught.value), caught.value.args) == (kind, args)
        assert any("in node 'x'" in note for note in notes_of(caught.value))

    def test_exception_with_keywords(self) -> None:
        """An exception with keyword-only parameters arrives with its attributes."""
        with pytest.raises(KeywordOnly, match="why") as caught:
            self.compute(raise_keyword_only("why"))

        assert caught.value.reason == "why"

    def test_exception_group(self) -> None:
        """An exception group arrives with all its exceptions."""
        with pytest.raises(ExceptionGroup, match="several") as caught:
            self.compute(raise_group())

        parts = [(type(part), part.args) for part in caught.value.exceptions]
        assert parts == [(ValueError, ("one",)), (Frozen, (2,))]

    def test_notes_of_the_author(self) -> None:
        """Notes that the user's code added to an exception are kept."""
        with pytest.raises(ValueError, match="noted") as caught:
            self.compute(raise_noted().set_name("x"))

        first, second = notes_of(caught.value)[:2]
        assert (first, "in node 'x'" in second) == ("by its author", True)

    def test_unsendable_exception(self) -> None:
        """An exception that cannot be pickled arrives itself within one process; otherwise a text names its type."""
        with pytest.raises(Exception, match="what it says") as caught:
            self.compute(raise_unsendable().set_name("x"))

        if self.runs_in_other_processes:
            assert isinstance(caught.value, EngineError)
            assert "Unsendable" in str(caught.value)
        else:
            assert type(caught.value).__name__ == "Unsendable"
        assert "in node 'x'" in text_of(caught.value)

    def test_where_it_was_raised(self) -> None:
        """The traceback of an exception has the user's lines and its causes."""
        self.need("carries_tracebacks")
        with pytest.raises(RuntimeError, match="outer") as caught:
            self.compute(raise_from_another())

        text = "".join(traceback.format_exception(caught.value))
        assert "in function_that_fails" in text
        assert "ValueError: inner" in text
        # of a function that is pickled by value
        assert f'File "{__file__}", line' in text
        assert "raise RuntimeError(message) from error" in text

    @pytest.mark.parametrize(
        "kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, Stop]
    )
    def test_no_exceptions(self, kind: type[BaseException], journal: Journal) -> None:
        """A BaseException reaches the caller with its own type, and a later run works."""
        self.need("carries_base_exceptions")
        with pytest.raises(kind) as caught:
            self.compute(noted(journal, "child", raise_this(kind, 3).set_name("x")))

        assert (type(caught.value), caught.value.args) == (kind, (3,))
        assert any("in node 'x'" in note for note in notes_of(caught.value))
        assert journal.lines() == []
        assert self.compute(noted(journal, "next")) == "next"

    def test_constructor_raises_for_a_target(self) -> None:
        """An exception of a constructor has its own type, also if the instance is a target."""
        mortal: Any = Mortal("wrong")
        mortal.set_name("x")

        with pytest.raises(KeywordOnly, match="not made") as caught:
            self.compute(mortal)

        assert any("in node 'x'" in note for note in notes_of(caught.value))

    # ---- workers that die ----

    @pytest.mark.parametrize("way", ["exit", "kill"])
    def test_worker_dies(self, way: str, journal: Journal) -> None:
        """The death of a worker is an EngineError that names its node; dependents never run, and a later run works."""
        self.need("runs_in_other_processes")
        deadly = die(way, os.getpid()).set_name("deadly")

        with pytest.raises(EngineError) as caught:
            self.compute(noted(journal, "child", deadly))

        assert "deadly" in text_of(caught.value)
        assert journal.lines() == []
        assert self.compute(noted(journal, "next")) == "next"

    def test_worker_of_an_object_dies(self) -> None:
        """The death of a worker in a method is an EngineError that names it; a later run works."""
        self.need("runs_in_other_processes")
        mortal: Any = Mortal()
        alive = mortal.live()
        mortal.die(os.getpid()).set_name("deadly")

        with pytest.raises(EngineError) as caught:
            self.compute(alive, mortal.live())

        assert "deadly" in text_of(caught.value)
        assert self.compute(alive) == "alive"

    def test_worker_dies_alone(self, journal: Journal) -> None:
        """The death of a worker does not fail nodes that are independent of its node."""
        self.need("runs_in_other_processes")
        self.need("isolates_crashes")
        deadly = die("kill", os.getpid())
        others = [noted(journal, f"{number}") for number in range(6)]
        made = self.new_workflow(deadly, noted(journal, "last", *others))

        with pytest.raises(EngineError):
            made.run(on_error="continue")

        lines = journal.lines()
        assert lines[-1] == "last"
        assert set(lines) == {"last", *map(str, range(6))}

    def test_runaway_recursion(self) -> None:
        """A runaway recursion is a RecursionError with a traceback that a person can read."""
        for node in workflow(_down)(0), workflow(_left)(0):
            with pytest.raises(RecursionError) as caught:
                self.compute(node)

            assert caught.value.__notes__
            if self.runs_in_other_processes and self.carries_tracebacks:
                text = "".join(traceback.format_exception(caught.value))
                assert __file__ in text
                assert len(text) < 100_000


def _down(number: int) -> int:
    return _down(number + 1)


def _left(number: int) -> int:
    return _right(number + 1)


def _right(number: int) -> int:
    return _left(number + 1)

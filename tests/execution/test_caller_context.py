"""Caller context: what is captured, and how it is applied in a process."""

from __future__ import annotations

import asyncio
import decimal
import os
import pickle
import sys
import threading
import warnings
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse import workflow
from functionfuse._common.pickler import dumps
from functionfuse._context.hash_seed import VARIABLE, hash_seed, hash_seed_set
from functionfuse._context.warning_filters import entries, warning_filters
from functionfuse.backends.builtin.localback import LocalWorkflow

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("before", [None, "random", "17"])
def test_hash_seed_is_set_for_a_time(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    """Nested blocks, as of runs in several threads, have one seed; the last that ends restores the variable."""
    monkeypatch.delenv(VARIABLE, raising=False)
    if before is not None:
        monkeypatch.setenv(VARIABLE, before)
    expected = "17" if before == "17" else hash_seed()

    with hash_seed_set():
        with hash_seed_set():
            assert os.environ[VARIABLE] == expected
        assert os.environ[VARIABLE] == expected

    assert os.environ.get(VARIABLE) == before


def test_context_variables_are_pickled_by_reference_or_identity() -> None:
    """A variable of a module is that module's; another one is the same each time; its default is kept."""
    local: ContextVar[int] = ContextVar("local", default=3)
    empty: ContextVar[int] = ContextVar("empty")

    assert pickle.loads(dumps(MODULE_VARIABLE)) is MODULE_VARIABLE
    assert b"of this module" not in dumps(MODULE_VARIABLE)
    assert pickle.loads(dumps(local)) is local
    assert pickle.loads(dumps(empty)) is empty
    assert Context().run(local.get) == 3


MODULE_VARIABLE: ContextVar[str] = ContextVar("of this module")


FIRST: ContextVar[Any] = ContextVar("of one name", default="unset")
SECOND: ContextVar[Any] = ContextVar("of one name", default="unset")


@workflow
def values_of_variables() -> list[Any]:
    """The values of two context variables of one name."""
    return [FIRST.get(), SECOND.get()]


def test_variables_of_one_name_arrive_and_those_that_cannot_are_reported() -> None:
    """Each variable has its own value in a worker; a warning names one whose value cannot be pickled."""
    made = LocalWorkflow(values_of_variables(), workflow_name="names", workers=2)

    def run(first: Any, second: Any) -> Any:
        FIRST.set(first)
        SECOND.set(second)
        return made.run()

    assert Context().run(run, 1, 2) == [1, 2]
    with pytest.warns(RuntimeWarning, match="variable 'of one name' has no value .* lock"):
        assert Context().run(run, threading.Lock(), 2) == ["unset", 2]


@workflow
def change_decimals(*_: Any) -> int:
    """The precision of decimals, which is changed afterwards."""
    context = decimal.getcontext()
    before, context.prec = context.prec, 5
    return before


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_change_of_decimal_context_ends_with_the_node(kind: Any) -> None:
    """A node that changes the decimal context changes it neither for other nodes nor for the caller."""
    node = change_decimals()
    nodes = [node, change_decimals(node), change_decimals(node)]
    before = decimal.getcontext().prec

    assert [before] * 3 == LocalWorkflow(
        *nodes, workflow_name="decimals", workers=2, kind=kind
    ).run()
    assert decimal.getcontext().prec == before


def test_filters_need_no_module_of_a_category(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter for a category of a module works where that module is imported later."""
    (tmp_path / "late_module.py").write_text("class LateWarning(UserWarning): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import late_module  # type: ignore[import-not-found]

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.filterwarnings("error", category=late_module.LateWarning)
        sent = pickle.dumps(warning_filters())
    del sys.modules["late_module"]
    received = entries(pickle.loads(sent))
    assert "late_module" not in sys.modules
    import late_module as again

    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        warnings.filters[:] = received  # type: ignore[index]
        with pytest.raises(again.LateWarning):
            warnings.warn("late", again.LateWarning, stacklevel=1)
        warnings.warn("another", RuntimeWarning, stacklevel=1)
    assert [each.category for each in shown] == [RuntimeWarning]


class Ended:
    """Lines that are not copied with the graph's lists."""

    def __init__(self) -> None:  # noqa: D107
        self.lines: list[str] = []


@workflow
class Keeper:
    """Keeps a task that never ends."""

    def __init__(self, ended: Ended) -> None:  # noqa: D107
        self.ended = ended

    async def start(self) -> Any:
        """Start the task; returns its event loop."""
        self.task = asyncio.ensure_future(_wait_for_ever(self.ended))
        return asyncio.get_running_loop()

    async def is_running(self) -> bool:
        """Tell whether the task still runs."""
        await asyncio.sleep(0)
        return not self.task.done()


async def _wait_for_ever(ended: Ended) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.lines.append("cancelled")


@pytest.mark.parametrize(
    "options", [{}, {"workers": 2, "kind": "threads"}], ids=["serial", "threads"]
)
def test_tasks_end_with_their_run(options: Any) -> None:
    """A task that a node started runs until the end of the run, is cancelled there, and its loop is closed."""
    ended = Ended()
    keeper: Any = Keeper(ended)
    targets = keeper.start(), keeper.is_running()
    threads = threading.active_count()

    loop, runs = LocalWorkflow(*targets, workflow_name="tasks", **options).run()

    assert runs
    assert ended.lines == ["cancelled"]
    assert loop.is_closed()
    assert threading.active_count() == threads

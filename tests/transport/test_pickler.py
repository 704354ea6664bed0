"""The pickler: functions that are pickled by value keep where they come from."""

from __future__ import annotations

import copyreg
import inspect
import pickle
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest

from functionfuse._common.pickler import Pickler, dumps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def nested() -> Callable[[], Any]:
    """Give a function whose code object has others among its constants."""

    def outer() -> Any:
        divide: Callable[[int], float] = lambda number: number / 0  # noqa: E731
        return [divide(number) for number in [1]]

    return outer


def test_traceback_has_the_lines_of_the_file() -> None:
    """A traceback names the file and shows the lines, also those of functions within the function."""
    copy = pickle.loads(dumps(nested()))

    with pytest.raises(ZeroDivisionError) as caught:
        copy()

    text = "".join(traceback.format_exception(caught.value))
    assert copy.__code__.co_filename == __file__
    assert "return [divide(number) for number in [1]]" in text
    assert "lambda number: number / 0" in text
    assert "<dynamic-code>" not in text


def test_source_is_found() -> None:
    """`inspect.getsource` works for a copy, and for the copy of a copy."""
    function = nested()

    copy = pickle.loads(dumps(pickle.loads(dumps(function))))

    assert inspect.getsource(function) == inspect.getsource(copy)


def test_pickle_needs_only_cloudpickle() -> None:
    """A process without this library loads what was stored."""
    stream = dumps(lambda: 3)

    assert b"functionfuse" not in stream.replace(__file__.encode(), b"")
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer)())"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], input=stream, capture_output=True, check=True, timeout=60
    )
    assert done.stdout == b"3\n"


def test_script_in_another_process(tmp_path: Path) -> None:
    """A function of `__main__` names its script where it is loaded."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from functionfuse._common.pickler import dumps\n"
        "def fail(): return 1 / 0\n"
        "sys.stdout.buffer.write(dumps(fail))\n"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(script)], capture_output=True, check=True, timeout=60
    )

    with pytest.raises(ZeroDivisionError) as caught:
        pickle.loads(done.stdout)()

    text = "".join(traceback.format_exception(caught.value))
    assert f'File "{script}", line 3, in fail' in text
    assert "def fail(): return 1 / 0" in text


class Registered:
    """Something that a user registers with `copyreg`."""


def reduce_registered(_: Registered) -> Any:
    """Pickle it as a number."""
    return int, ("7",)


def test_reducers_registered_later_are_used() -> None:
    """What is registered with `copyreg` counts as for cloudpickle, and cloudpickle's own table is unchanged."""
    copyreg.pickle(Registered, reduce_registered)
    try:
        assert pickle.loads(dumps(Registered())) == 7
    finally:
        del copyreg.dispatch_table[Registered]
    code = type(nested().__code__)
    assert Pickler.dispatch_table[code] is not cloudpickle.Pickler.dispatch_table[code]

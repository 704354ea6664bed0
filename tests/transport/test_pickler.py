"""The pickler: functions that are pickled by value keep where they come from."""

from __future__ import annotations

import copyreg
import importlib
import importlib.util
import inspect
import pickle
import random
import subprocess
import sys
import traceback
from dataclasses import dataclass
from enum import Enum
from functools import partial, singledispatch
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle
import pytest

from functionfuse._common import plain_pickler
from functionfuse._common.pickler import Pickler, dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
    """Reducers that are registered with `copyreg` are used as by cloudpickle, whose own table is unchanged."""
    copyreg.pickle(Registered, reduce_registered)
    try:
        assert pickle.loads(dumps(Registered())) == 7
    finally:
        del copyreg.dispatch_table[Registered]
    code = type(nested().__code__)
    assert Pickler.dispatch_table[code] is not cloudpickle.Pickler.dispatch_table[code]


# ---- references to modules ----

_MODULE = """
import functools
import random
import threading
from functionfuse import workflow

lock = threading.Lock()
rng = random.Random()

@workflow
def decorated():
    with lock:
        return 1

@workflow
@functools.lru_cache
def cached():
    return 1

@workflow
class Kind:
    class Part:
        pass

def outer():
    def inner():
        return lock
    return inner
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module that other processes with the same search path can import."""
    name = f"module_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(name)
    del sys.modules[name]


def test_decorated_functions_and_classes_are_references(module: Any) -> None:
    """The function in a decorated global is unpickled as the same object, and its pickle has no code."""
    part = module.Kind.__wrapped__.Part
    for value in (
        module.decorated.__wrapped__,
        module.cached.__wrapped__,
        module.Kind.__wrapped__,
        part,
    ):
        stream = dumps(value)

        assert pickle.loads(stream) is value
        assert len(stream) < 200


def test_inner_function_has_the_globals_of_its_module(module: Any) -> None:
    """A function in a function is a copy, whose globals are those of the module."""
    copy = pickle.loads(dumps(module.outer()))

    assert copy.__globals__ is vars(module)
    assert copy() is module.lock


def test_module_that_is_loaded_from_a_path_is_sent(tmp_path: Path) -> None:
    """The import system does not find it in another process, so its functions are sent by value."""
    path = tmp_path / "loaded.py"
    path.write_text(_MODULE.replace("threading.Lock()", "0"))
    spec = importlib.util.spec_from_file_location("loaded_from_a_path", path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    try:
        spec.loader.exec_module(found)
        stream = dumps(found.decorated.__wrapped__)
        nested = dumps(found.outer())
    finally:
        del sys.modules[spec.name]

    assert pickle.loads(stream).__module__ == spec.name
    assert pickle.loads(nested)() == 0


def test_registered_module_is_sent(module: Any) -> None:
    """A module that the user registered with cloudpickle is sent by value."""
    cloudpickle.register_pickle_by_value(module)
    try:
        with pytest.raises(TypeError, match="lock"):
            dumps(module.decorated.__wrapped__)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_generator_of_a_script_draws_other_numbers_in_each_process(tmp_path: Path) -> None:
    """In its own process it is itself; another process has one for all functions that use it."""
    rng = random.Random(1)  # noqa: S311 - not for secrets
    script = {"__name__": "__main__", "own": rng, "draw": rng.random}
    function = FunctionType(
        (lambda: (own.random(), draw())).__code__,  # type: ignore[name-defined] # noqa: F821
        script,
        "throw",
    )
    streams = [dumps(function), dumps(function)]
    assert pickle.loads(streams[0]).__globals__["own"] is rng
    (tmp_path / "streams").write_bytes(pickle.dumps(streams))

    program = (
        "import pickle, sys\n"
        "first, second = map(pickle.loads, pickle.load(open(sys.argv[1], 'rb')))\n"
        "print(first.__globals__['own'] is second.__globals__['own'], *first(), *second())"
    )
    drawn: set[str] = set()
    for _ in range(2):
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", program, str(tmp_path / "streams")],
            capture_output=True,
            check=True,
            timeout=60,
            text=True,
        )
        shared, *numbers = done.stdout.split()
        assert shared == "True"
        drawn |= {*numbers}
    drawn |= {str(number) for number in function()}
    assert len(drawn) == 10


def test_generators_of_a_closure_are_values() -> None:
    """A generator that a function has for itself is copied with its state, as one that is an argument."""
    rng = random.Random(1)  # noqa: S311 - not for secrets

    copy = pickle.loads(dumps(lambda: rng.random()))  # noqa: PLW0108 - a closure

    assert copy() == random.Random(1).random()  # noqa: S311 - not for secrets


def test_methods_of_shared_generators_are_references() -> None:
    """`random.random` and the like, and what holds them, use the generator of the process."""
    for value in (random.random, random.uniform, partial(random.random)):
        copy = pickle.loads(dumps(value))
        random.seed(1)
        number = copy(0, 1) if value is random.uniform else copy()
        random.seed(1)

        assert number == random.random()  # noqa: S311 - not for secrets


def test_slots_are_kept() -> None:
    """Instances of a class that is pickled by value have slots as the script's own, which take their state."""
    made = {name: kind(3) for name, kind in slotted_classes().items()}

    program = f"import pickle; print(*[hasattr(x, '__dict__') or x.a for x in pickle.loads({dumps([*made.values()])!r})])"
    printed = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout

    assert dict.fromkeys(made, "3") | {"with a dict": "True"} == dict(
        zip(made, printed.split(), strict=True)
    )


def slotted_classes() -> dict[str, Any]:
    """Classes that other processes cannot import."""

    class One:
        __slots__ = "a"  # noqa: PLC0205 - what users write

        def __init__(self, a: int) -> None:
            self.a = a

    class Derived(One):
        __slots__ = ("__hidden", "__weakref__")

    class WithDict(One):
        __slots__ = ("__dict__",)

    @dataclass(slots=True)
    class Data:
        a: int

    class Pair(NamedTuple):
        a: int

    class Named(Pair):
        __slots__ = ()

    return {
        **{kind.__name__: kind for kind in (One, Derived, Data, Pair, Named)},
        "with a dict": WithDict,
    }


def test_members_of_enums_keep_their_attributes() -> None:
    """An enum whose `__init__` sets attributes, as in Python's documentation, also where only the class is sent."""

    class Planet(Enum):
        EARTH = (3.0, 1.0)
        ALIAS = (3.0, 1.0)  # noqa: PIE796
        MARS = (0.6, 0.5)

        def __init__(self, mass: float, radius: float) -> None:
            self.mass = mass
            self._radius = radius

        def size(self) -> float:
            return self._radius

    program = (
        f"import pickle; cls, mars = pickle.loads({dumps((Planet, Planet.MARS))!r}); "
        "print(cls.EARTH.mass, cls['ALIAS'] is cls.EARTH, mars is cls.MARS, mars.size())"
    )

    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.split() == ["3.0", "True", "True", "0.5"]


def test_single_dispatch_is_sent() -> None:
    """A function of `functools.singledispatch` that other processes cannot import, whose cache holds weak references."""

    @singledispatch
    def kind_of(_: Any) -> str:
        return "any"

    kind_of.register(int, lambda _: "int")
    assert kind_of("a") == "any"

    copy = pickle.loads(dumps(kind_of))

    assert [copy(1), copy("a")] == ["int", "any"]


def test_memoryviews_stay_views() -> None:
    """A view arrives as a view of a copy, with its format and shape."""
    view = memoryview(bytearray(range(8))).cast("H").cast("B").cast("I", (2, 1))

    copy = pickle.loads(dumps([view]))[0]

    assert (copy.format, copy.shape, copy.readonly) == ("I", (2, 1), False)
    assert copy == view


@pytest.mark.parametrize("picklers", [dumps, plain_pickler.dumps])
def test_exceptions_are_unpickled_without_their_init(picklers: Callable[[Any], bytes]) -> None:
    """An exception that hands on something else than its arguments arrives, also in a value."""
    copy = pickle.loads(picklers([TakesAKeyword(code=3)]))[0]

    assert (type(copy), str(copy), copy.code) == (TakesAKeyword, "code 3", 3)


class TakesAKeyword(Exception):
    """Its class cannot be called with its `args`."""

    def __init__(self, *, code: int) -> None:
        """Note a code."""
        super().__init__(f"code {code}")
        self.code = code

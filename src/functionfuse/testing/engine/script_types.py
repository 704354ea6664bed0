"""Tests of classes and functions of the caller's script, in results, arguments, exceptions and stored results."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse.testing.engine.suite import Suite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functionfuse.storage.base import Storage

__all__ = ["ScriptTypeTests"]

_SCRIPT = """
import dataclasses, enum, typing
from functionfuse import workflow

class TypesColor(enum.Enum):
    RED = 1
    GREEN = 2

@dataclasses.dataclass(frozen=True)
class TypesPoint:
    x: int

class TypesPair(typing.NamedTuple):
    a: object

class TypesModel:
    class Inner:
        pass
    def __init__(self):
        self.inner = self.Inner()

class TypesError(Exception):
    def __init__(self, a, b):
        super().__init__(b)
        self.color = a

def types_function(x):
    return TypesPair(x)

types_square = lambda x: x * x

@workflow
def types_make():
    return {TypesColor.RED: TypesPoint(1), TypesPoint(2): TypesPair(TypesColor.GREEN),
            "model": TypesModel(), "functions": [types_function, types_square], "class": TypesColor}

@workflow
def types_look(found, point):
    return types_check(found) and found[TypesColor.RED] == point

def types_check(found):
    pair, model = found[TypesPoint(2)], found["model"]
    return (found[TypesColor.RED] == TypesPoint(1) and type(pair) is TypesPair
            and pair.a is TypesColor.GREEN and type(model) is TypesModel
            and type(model.inner) is TypesModel.Inner and found["class"] is TypesColor
            and found["functions"][0](3) == TypesPair(3) and found["functions"][1](3) == 9)

@workflow
def types_fail(color):
    raise TypesError(color, "no")
"""


@contextmanager
def _script() -> Iterator[dict[str, Any]]:
    """The variables of the script, with those of this test."""
    main = vars(sys.modules["__main__"])
    before = dict(main)
    try:
        exec(_SCRIPT, main)  # noqa: S102 - as if it were in the script
        yield main
    finally:
        main.clear()
        main.update(before)


class ScriptTypeTests(Suite):
    """Classes of the script are its own wherever an object has been."""

    def test_types_of_the_script(self, storage: Storage) -> None:
        """Objects of the script's classes are objects of these: in results, arguments, exceptions and stored results."""
        with _script() as script:
            for _ in range(2):  # the second run loads the first result
                made = script["types_make"]().set_name("made")
                looked = script["types_look"](made, script["TypesPoint"](1)).set_name("looked")
                flow = self.stored(storage, made, looked)
                flow.always_run("looked")
                found, there = flow.run()
                assert there
                assert script["types_check"](found)
                assert found["functions"] == [script["types_function"], script["types_square"]]
            with pytest.raises(script["TypesError"], match="no") as caught:
                self.compute(script["types_fail"](script["TypesColor"].RED))
            assert caught.value.color is script["TypesColor"].RED

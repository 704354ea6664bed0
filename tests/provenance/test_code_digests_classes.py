"""Digests of code: edits of classes, of their members, and of objects of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from edited_projects import Edit, assert_counts

if TYPE_CHECKING:
    from pathlib import Path

MODEL = """
from abc import ABC, ABCMeta, abstractmethod
from functools import cached_property, cached_property as lazy, partialmethod, singledispatchmethod, total_ordering

class Meta(ABCMeta):
    def __call__(cls, *args):
        return super().__call__(*args, *cls.extra)

class Base(ABC):
    rate = 3
    def train(self, x):
        return x * 5

class Typed:
    def __set_name__(self, owner, name): self.name = name
    def __get__(self, instance, owner=None): return 6

@total_ordering
class Model(Base, metaclass=Meta):
    __slots__ = ("a",)
    __array_priority__ = 7
    extra = ()
    size = Typed()
    def train(self, x):
        return super().train(x) + 8
    @property
    def area(self): return 9
    @area.setter
    def area(self, value): self.a = 10
    @staticmethod
    def helper(x): return 11
    @classmethod
    def build(cls): return cls(12)
    @cached_property
    def slow(self): return 13
    half = partialmethod(train, 14)
    @singledispatchmethod
    def convert(self, x): return 15
    @convert.register
    def _(self, x: int): return 16
    def __lt__(self, other): return 17
    def __eq__(self, other): return 18
    __hash__ = None
    class Inner:
        def deep(self): return Model.Inner, 19
    def __init_subclass__(cls): cls.x = 20
    def __call__(self, x): return 21

def fit(x):
    return Model(x).train(x)
"""

MEMBERS = [
    Edit("method", MODEL, "+ 8", "+ 80", ("study.Model.train",)),
    Edit("method of the metaclass", MODEL, "*cls.extra", "cls.extra", ("study.Meta.__call__",)),
    Edit("method of a base class", MODEL, "x * 5", "x * 50", ("study.Base.train",)),
    Edit("attribute of a base class", MODEL, "rate = 3", "rate = 30", ("study.Base",)),
    Edit(
        "base class",
        MODEL,
        "class Model(Base, ",
        "class Model(",
        ("study.Base", "study.Base.train", "study.Model"),
    ),
    Edit(
        "metaclass",
        MODEL,
        ", metaclass=Meta",
        "",
        ("study.Meta", "study.Meta.__call__", "study.Model"),
    ),
    Edit("descriptor", MODEL, "return 6", "return 60", ("study.Typed.__get__",)),
    Edit("slots", MODEL, '("a",)', '("a", "b")', ("study.Model",)),
    Edit("special attribute", MODEL, "= 7", "= 70", ("study.Model",)),
    Edit("class attribute", MODEL, "extra = ()", "extra = (1,)", ("study.Model",)),
    Edit("property", MODEL, "return 9", "return 90", ("study.Model.area",)),
    Edit("setter of a property", MODEL, "self.a = 10", "self.a = 100", ("study.Model.area#2",)),
    Edit("static method", MODEL, "return 11", "return 110", ("study.Model.helper",)),
    Edit("class method", MODEL, "cls(12)", "cls(120)", ("study.Model.build",)),
    Edit("cached property", MODEL, "return 13", "return 130", ("study.Model.slow",)),
    Edit("partial method", MODEL, "train, 14", "train, 140", ("study.Model.half (partialmethod)",)),
    Edit("generic method", MODEL, "return 15", "return 150", ("study.Model.convert",)),
    Edit("registered method", MODEL, "return 16", "return 160", ("study.Model._",)),
    Edit("comparison", MODEL, "return 17", "return 170", ("study.Model.__lt__",)),
    Edit("equality", MODEL, "return 18", "return 180", ("study.Model.__eq__",)),
    Edit("nested class", MODEL, "Inner, 19", "Inner, 190", ("study.Model.Inner.deep",)),
    Edit(
        "hook of subclasses", MODEL, "cls.x = 20", "cls.x = 200", ("study.Model.__init_subclass__",)
    ),
    Edit("call", MODEL, "return 21", "return 210", ("study.Model.__call__",)),
    Edit(
        "new method",
        MODEL,
        "    class Inner",
        "    def more(self): pass\n    class Inner",
        ("study.Model", "study.Model.more"),
    ),
]

KINDS = [
    Edit(
        "default of a dataclass",
        """
        from dataclasses import dataclass, field
        @dataclass
        class Config:
            size: int = 3
            names: list = field(default_factory=list)
        def fit(x): return Config()
        """,
        "size: int = 3",
        "size: int = 4",
        ("study.Config",),
    ),
    Edit(
        "factory of a dataclass",
        """
        from dataclasses import dataclass, field
        def names(): return [1]
        @dataclass(slots=True)
        class Config:
            names: list = field(default_factory=names)
        def fit(x): return Config()
        """,
        "[1]",
        "[2]",
        ("study.names",),
    ),
    Edit(
        "options of a field",
        """
        from dataclasses import dataclass, field
        @dataclass(frozen=True, order=True)
        class Config:
            size: int = field(default=3)
        def fit(x): return Config()
        """,
        "default=3",
        "default=3, compare=False",
        ("study.Config",),
    ),
    Edit(
        "options of a dataclass",
        """
        from dataclasses import dataclass, field
        @dataclass(frozen=True)
        class Config:
            size: int = 3
        def fit(x): return Config()
        """,
        "frozen=True",
        "frozen=False",
        ("study.Config",),
    ),
    Edit(
        "order of fields",
        """
        from dataclasses import dataclass
        @dataclass
        class Config:
            a: int
            b: int
        def fit(x): return Config(1, 2)
        """,
        "a: int\n            b: int",
        "b: int\n            a: int",
        ("study.Config",),
    ),
    Edit(
        "class variable of a dataclass",
        """
        from dataclasses import dataclass
        from typing import ClassVar
        @dataclass
        class Config:
            a: ClassVar[int] = 1
        def fit(x): return Config()
        """,
        "ClassVar[int]",
        "int",
        ("study.Config",),
    ),
    Edit(
        "member of an enumeration",
        """
        from enum import Enum
        class Color(Enum):
            RED = 1
            BLUE = 2
            def mix(self): return 3
        def fit(x): return Color.RED
        """,
        "BLUE = 2",
        "BLUE = 4",
        ("study.Color",),
    ),
    Edit(
        "order of an enumeration",
        """
        from enum import IntFlag
        class Color(IntFlag):
            RED = 1
            BLUE = 2
        def fit(x): return [*Color]
        """,
        "RED = 1\n            BLUE = 2",
        "BLUE = 2\n            RED = 1",
        ("study.Color",),
    ),
    Edit(
        "method of an enumeration",
        """
        from enum import StrEnum
        class Color(StrEnum):
            RED = "r"
            def mix(self): return 3
        def fit(x): return Color.RED
        """,
        "return 3",
        "return 4",
        ("study.Color.mix",),
    ),
    Edit(
        "default of a NamedTuple",
        """
        from typing import NamedTuple
        class Point(NamedTuple):
            x: int
            y: int = 2
        def fit(x): return Point(1)
        """,
        "= 2",
        "= 3",
        ("study.Point",),
    ),
    Edit(
        "method of a NamedTuple",
        """
        from typing import NamedTuple
        class Point(NamedTuple):
            x: int
            def norm(self): return 2
        def fit(x): return Point(1)
        """,
        "return 2",
        "return 3",
        ("study.Point.norm",),
    ),
    Edit(
        "fields of a namedtuple",
        """
        from collections import namedtuple
        Point = namedtuple("Point", "x y")
        def fit(x): return Point(1, 2)
        """,
        '"x y"',
        '"y x"',
        ("study.Point",),
    ),
    Edit(
        "class of a global object",
        """
        class Model:
            def train(self): return 1
        MODEL = Model()
        def fit(x): return MODEL.train()
        """,
        "return 1",
        "return 2",
        ("study.Model.train",),
    ),
    Edit(
        "attribute of a global object",
        """
        class Model:
            def __init__(self, k): self.k = k
            def __call__(self, x): return x * self.k
        model = Model(3)
        def fit(x): return model(x)
        """,
        "Model(3)",
        "Model(4)",
        ("study.model (Model)",),
    ),
    Edit(
        "callable object",
        """
        class Model:
            def __init__(self, k): self.k = k
            def __call__(self, x): return x * self.k
        fit = Model(3)
        """,
        "x * self.k",
        "x + self.k",
        ("study.Model.__call__",),
    ),
    Edit(
        "bound method",
        """
        class Model:
            def __init__(self, k): self.k = k
            def train(self, x): return x * self.k
        fit = Model(3).train
        """,
        "x * self.k",
        "x + self.k",
        ("study.Model.train",),
    ),
    Edit(
        "object of a bound method",
        """
        class Model:
            def __init__(self, k): self.k = k
            def train(self, x): return x * self.k
        train = Model(3).train
        def fit(x): return train(x)
        """,
        "Model(3)",
        "Model(4)",
        ("study.train (method).__self__",),
    ),
    Edit(
        "decorated class",
        """
        from functionfuse import workflow
        @workflow
        class Model:
            def train(self, x): return 1
        fit = Model
        """,
        "return 1",
        "return 2",
        ("study.Model.train",),
    ),
    Edit(
        "decorator that is a class",
        """
        import functools
        class Traced:
            def __init__(self, f): functools.update_wrapper(self, f); self.f = f
            def __call__(self, x): return self.f(x)
        @Traced
        def fit(x): return 1
        """,
        "return 1",
        "return 2",
        ("study.fit",),
    ),
    Edit(
        "monkey patch",
        """
        class Model:
            def train(self, x): return 1
        def other(self, x): return 2
        Model.train = other
        def fit(x): return Model().train(x)
        """,
        "return 2",
        "return 3",
        ("study.other",),
    ),
    Edit(
        "method of a library's class that the project replaced",
        """
        import configparser
        def read(self): return 2
        configparser.ConfigParser.replaced_by_test = read
        def fit(x): return configparser.ConfigParser().replaced_by_test()
        """,
        "return 2",
        "return 3",
        ("study.read",),
    ),
    Edit(
        "subclass that is found by its base",
        """
        class Step:
            @classmethod
            def all(cls): return cls.__subclasses__()
        class First(Step):
            def run(self): return 1
        def fit(x): return [step().run() for step in Step.all()]
        """,
        "return 1",
        "return 2",
        ("study.First.run",),
    ),
    Edit(
        "subclass that the function finds",
        """
        class Step: pass
        class First(Step): pass
        class Second(First):
            def run(self): return 1
        def fit(x): return Step.__subclasses__()
        """,
        "return 1",
        "return 2",
        ("study.Second.run",),
    ),
    Edit(
        "docstring that code reads",
        """
        def helper(x): "One"
        def fit(x): return helper.__doc__
        """,
        "One",
        "Two",
        ("study.fit",),
    ),
    Edit(
        "exception",
        """
        class Refused(ValueError):
            code = 3
        def fit(x):
            try: return x
            except Refused: return 1
        """,
        "code = 3",
        "code = 4",
        ("study.Refused",),
    ),
    Edit(
        "generic class",
        """
        from typing import Generic, Protocol, TypeVar
        T = TypeVar("T")
        class Sized(Protocol):
            def size(self) -> int: ...
        class Box(Sized, Generic[T]):
            def size(self): return 1
        def fit(x): return Box[int]()
        """,
        "return 1",
        "return 2",
        ("study.Box.size",),
    ),
]


@pytest.mark.parametrize("edit", [*MEMBERS, *KINDS], ids=str)
def test_an_edit_of_a_class_counts(edit: Edit, tmp_path: Path) -> None:
    """The digest differs, and the parts that differ are the members that were edited."""
    assert_counts(edit, tmp_path)


PYDANTIC = """
from pydantic import BaseModel, Field
class Inner(BaseModel):
    z: int = 1
class Config(BaseModel):
    a: int = Field(3, gt=1)
    b: list[Inner] = []
def fit(x): return Config()
"""
ATTRS = """
import attrs
@attrs.define
class Config:
    x: int = 3
    y: list = attrs.field(factory=list)
    def norm(self): return 1
def fit(x): return Config()
"""
LIBRARIES = [
    Edit("limit of a field", PYDANTIC, "gt=1", "gt=2", ("study.Config.field a",)),
    Edit("type of a field", PYDANTIC, "z: int", "z: float", ("study.Inner", "study.Inner.field z")),
    Edit("default of a field", PYDANTIC, "= 1\n", "= 2\n", ("study.Inner.field z",)),
    Edit("default of attrs", ATTRS, "= 3", "= 4", ("study.Config",)),
    Edit("factory of attrs", ATTRS, "=list", "=dict", ("study.Config.field y default",)),
    Edit("method of attrs", ATTRS, "return 1", "return 2", ("study.Config.norm",)),
]


@pytest.mark.parametrize("edit", LIBRARIES, ids=str)
def test_an_edit_of_a_class_of_a_library_counts(edit: Edit, tmp_path: Path) -> None:
    """The fields of pydantic and attrs count, those of pydantic with their types."""
    pytest.importorskip("pydantic")
    pytest.importorskip("attrs")
    assert_counts(edit, tmp_path)

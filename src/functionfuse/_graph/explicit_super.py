"""Explicit `super(Net, self)` in a decorated class: in its methods, `Net` is the plain class.

`super` takes classes only, and the name of a decorated class is not one.
"""

from __future__ import annotations

import dis
import inspect
from types import CellType, CodeType, FunctionType
from typing import Any, Final

__all__ = ["bind_own_name"]

_SUPER: Final = "super"


def bind_own_name(cls: type) -> None:
    """Let a class's methods that use `super` find the class itself under its name.

    The name is a global variable of their module, or a variable of the function that defines the class.
    """
    for name, attribute in [*vars(cls).items()]:
        for function in _functions(attribute):
            code = function.__code__
            if _reads_globals(code, cls.__name__):
                _bind_global(function, cls)
            elif _SUPER in code.co_names and cls.__name__ in code.co_freevars:
                _bind_variable(name, attribute, function, cls)


def _functions(attribute: Any) -> list[FunctionType]:
    found = (
        [attribute.fget, attribute.fset, attribute.fdel]
        if isinstance(attribute, property)
        else [inspect.unwrap(getattr(attribute, "__func__", attribute))]
    )
    return [function for function in found if isinstance(function, FunctionType)]


def _reads_globals(code: CodeType, name: str) -> bool:
    """Tell whether code uses `super` and a global variable, whose name is not an attribute's as well."""
    if {_SUPER, name} <= {*code.co_names}:
        reads = {
            instruction.opname
            for instruction in dis.get_instructions(code)
            if instruction.argval == name and instruction.opcode in dis.hasname
        }
        return reads == {"LOAD_GLOBAL"}
    return any(_reads_globals(part, name) for part in code.co_consts if isinstance(part, CodeType))


def _bind_global(function: FunctionType, cls: type) -> None:
    """Give the class a global variable of its own, which the decorated class does not replace."""
    private = f"__plain_{cls.__name__}"
    function.__globals__[private] = cls
    function.__code__ = _renamed(function.__code__, cls.__name__, private)


def _renamed(code: CodeType, name: str, new: str) -> CodeType:
    """Return the code with another name in place of one that it looks up."""
    constants = tuple(
        _renamed(part, name, new) if isinstance(part, CodeType) else part for part in code.co_consts
    )
    names = tuple(new if each == name else each for each in code.co_names)
    return code.replace(co_names=names, co_consts=constants)


def _bind_variable(name: str, attribute: Any, function: FunctionType, cls: type) -> None:
    """Replace a method by one that has a variable of its own."""
    if attribute is function:
        setattr(cls, name, _with_variable(function, cls))
    elif isinstance(attribute, staticmethod | classmethod):
        setattr(cls, name, type(attribute)(_with_variable(function, cls)))


def _with_variable(function: FunctionType, cls: type) -> FunctionType:
    """Return a function that finds the class in its variable of that name."""
    cells = tuple(
        CellType(cls) if name == cls.__name__ else cell
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        )
    )
    code, scope = function.__code__, function.__globals__
    new = FunctionType(code, scope, function.__name__, function.__defaults__, cells)
    new.__dict__.update(vars(function))
    new.__kwdefaults__ = function.__kwdefaults__
    new.__annotations__ = function.__annotations__
    new.__doc__, new.__qualname__ = function.__doc__, function.__qualname__
    new.__module__ = function.__module__
    return new

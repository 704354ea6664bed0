"""Placeholder: refuse operations on a result that does not exist yet, and say what to do instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import TypeVar as TypeVarWithDefault  # type checkers bring it

    T_co = TypeVarWithDefault("T_co", covariant=True, default=Any)
    # A node may be given wherever its result may: to type checkers, it derives from Any.
    Promise = Any
else:
    Promise = object
    T_co = TypeVar("T_co", covariant=True)

__all__ = ["ERROR_NAME", "Placeholder", "T_co"]


class Placeholder(Generic[T_co], Promise):  # type: ignore[misc] # noqa: PYI059 - Promise is object
    """A value that exists only when a workflow runs; operations that need it earlier raise."""

    __slots__ = ()

    def _plain_call(self) -> str:
        """The call that runs the user's function now, without a workflow."""
        raise NotImplementedError

    def _refuse(self, what: str) -> NoReturn:
        message = (
            f"{what} {self!r} needs its result, which exists only when a workflow runs: "
            "do it inside a @workflow function that takes the node as an argument; "
            f"in a test or in another node, call the plain function, `{self._plain_call()}`"
        )
        raise TypeError(message)

    def __iter__(self) -> Iterator[Any]:
        self._refuse("iterating over")

    def __bool__(self) -> bool:
        self._refuse("the truth of")

    def __len__(self) -> int:
        self._refuse("the length of")

    def __contains__(self, _: object) -> bool:
        self._refuse("looking into")

    def __lt__(self, _: object) -> bool:
        self._refuse("comparing")

    __le__ = __gt__ = __ge__ = __lt__

    def __eq__(self, other: object) -> bool:
        """Tell whether both are the same placeholder, as sets and dicts of nodes require."""
        if not isinstance(other, Placeholder):
            self._refuse("comparing")
        return self is other

    __hash__ = object.__hash__

    def __format__(self, _: str) -> str:
        self._refuse("formatting")

    # ---- copies are the placeholder ----

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self


#: What CPython quotes in errors of operations and attributes that are not handled here.
#: With a `__getattr__` instead, each access of a node's attributes would be slower, and a run by a fifth.
ERROR_NAME: Final = "node: use its result inside a @workflow function"

#: What other libraries call the method that computes a lazy value.
_WAYS_TO_RUN: Final = frozenset(
    {"collect", "compute", "execute", "get", "persist", "result", "run", "value", "wait"}
)
#: Attributes of common results.
_OF_RESULTS: Final = frozenset(
    {
        *("T", "astype", "columns", "copy", "dtype", "head", "iloc", "index", "item", "loc", "max"),
        *("mean", "min", "ndim", "shape", "size", "std", "sum", "to_numpy", "tolist", "values"),
        *(
            "append",
            "extend",
            "format",
            "items",
            "join",
            "keys",
            "lower",
            "split",
            "strip",
            "upper",
        ),
    }
)
_BINARY: Final = (
    *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow"),
    *("lshift", "rshift", "and", "or", "xor"),
)
_REFUSED: Final = {
    "arithmetic with": (
        *_BINARY,
        *(f"r{name}" for name in _BINARY),
        *("neg", "pos", "abs", "invert", "round", "trunc", "floor", "ceil"),
        *("array_ufunc", "array_function"),  # numpy's functions
    ),
    "converting": ("int", "float", "complex", "index", "fspath"),
    "changing": ("setitem", "delitem"),
    "awaiting": ("await",),
    "entering": ("enter", "exit", "aenter", "aexit"),
}


def _refusing(what: str) -> Callable[..., NoReturn]:
    def refuse(self: Placeholder[Any], *_: object) -> NoReturn:
        self._refuse(what)

    return refuse


for _what, _names in _REFUSED.items():
    for _name in _names:
        setattr(Placeholder, f"__{_name}__", _refusing(_what))


class _Attribute:
    """An attribute that a result may have, and a placeholder has not."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, placeholder: Placeholder[Any] | None, _: type) -> Self:
        if placeholder is None:
            return self
        message = (
            f"{placeholder!r} has no {self._name!r}: pass it to a workflow and run that, "
            "as in `LocalWorkflow(node, workflow_name='name').run()`"
            if self._name in _WAYS_TO_RUN
            else f"{self._name!r} of {placeholder!r} exists only when a workflow runs: "
            "read it inside a @workflow function that takes the node as an argument"
        )
        raise AttributeError(message)


for _name in _WAYS_TO_RUN | _OF_RESULTS:
    setattr(Placeholder, _name, _Attribute(_name))

"""Names and signatures of callables: validate a call when it is recorded."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Signature", "base_name"]


def base_name(func: Callable[..., Any]) -> str:
    """Return the name of a function, for nodes without a name of their own."""
    name = getattr(func, "__qualname__", None) or getattr(func, "__name__", None)
    return (name or type(func).__qualname__).replace("<locals>.", "")


class Signature:
    """The signature of a function, validated without `inspect.Signature.bind` on the common path."""

    __slots__ = (
        "_by_name",
        "_fewest",
        "_fewest_by_position",
        "_most",
        "_positional",
        "_required",
        "_surplus",
        "bind",
        "defaults",
        "func",
        "parameters",
    )

    def __init__(self, func: Callable[..., Any], *, skip: int = 0) -> None:
        """Inspect a function once.

        Args:
            func: Any callable; a builtin without a signature accepts everything.
            skip: The number of leading parameters that the caller omits (1 for methods).
        """
        self.func = func
        self.defaults: Any = None  # those that hold nodes, see `NodeDefaults`
        try:
            parameters = list(inspect.signature(func).parameters.values())
        except (TypeError, ValueError):  # C functions
            parameters = list(inspect.signature(lambda *_, **__: None).parameters.values())
        # `*args` accepts the instance and further arguments
        parameters = [p for p in parameters[:skip] if p.kind is p.VAR_POSITIONAL] + parameters[
            skip:
        ]
        self.parameters = parameters
        self.bind = inspect.Signature(parameters).bind
        kinds = {p.kind for p in parameters}
        only_by_position = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]
        by_either = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        only_by_name = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        positional = only_by_position + by_either
        self._by_name = {p.name for p in by_either + only_by_name}
        self._required = _required(by_either + only_by_name)
        # no keyword can name a positional-only parameter
        self._positional = (*[None for _ in only_by_position], *[p.name for p in by_either])
        self._surplus = inspect.Parameter.VAR_KEYWORD in kinds
        self._most = sys.maxsize if inspect.Parameter.VAR_POSITIONAL in kinds else len(positional)
        self._fewest_by_position = len(_required(only_by_position))
        # without keywords, a count between this one and the most is valid
        self._fewest = sys.maxsize if _required(only_by_name) else len(_required(positional))

    def argument(self, number: int) -> str:
        """The name of the parameter that takes a positional argument, as in `rest[2]`."""
        parameters = self.parameters
        if number < len(self._positional):
            return parameters[number].name
        rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "args")
        return f"{rest}[{number - len(self._positional)}]"

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise the `TypeError` of a wrong call when the call is recorded.

        Raises:
            TypeError: An argument is missing, surplus or unknown.
        """
        if kwargs:
            given = {*self._positional[: len(args)]}
            valid = (
                self._fewest_by_position <= len(args) <= self._most
                and given.isdisjoint(kwargs)
                and (self._surplus or self._by_name.issuperset(kwargs))
                and self._required <= given.union(kwargs)
            )
        else:
            valid = self._fewest <= len(args) <= self._most
        if not valid:
            self._explain(args, kwargs)

    def _explain(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self.bind(*args, **kwargs)
        except TypeError as error:
            message = f"{base_name(self.func)}() {error}"
            raise TypeError(message) from None
        if (
            len(args) < self._fewest_by_position
        ):  # Python 3.13 looks for the missing one in `**kwargs`
            message = f"{base_name(self.func)}() missing a required positional-only argument"
            raise TypeError(message)


def _required(parameters: Iterable[inspect.Parameter]) -> frozenset[str]:
    return frozenset(p.name for p in parameters if p.default is p.empty)

"""Default values of parameters that hold nodes, or are placeholders of seeds: pass them like arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functionfuse._graph.search import find_placeholder
from functionfuse._graph.seeds import SeedPlaceholder
from functionfuse._graph.signature import Signature

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable

__all__ = ["NodeDefaults", "signature_with_defaults"]


class NodeDefaults:
    """The default values of a function that hold nodes, which a call without these arguments is given."""

    __slots__ = ("_by_position", "_defaults", "_signature")

    def __init__(self, signature: Signature, defaults: dict[str, inspect.Parameter]) -> None:
        self._signature = signature
        self._defaults = {name: _as_default(p.default) for name, p in defaults.items()}
        self._by_position = any(p.kind is p.POSITIONAL_ONLY for p in defaults.values())

    def added_to(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call together with the defaults that hold nodes."""
        bound = self._signature.bind(*args, **kwargs)
        for name, default in self._defaults.items():
            bound.arguments.setdefault(name, default)
        if self._by_position:  # those before them have to be given, too
            bound.apply_defaults()
        return bound.args, bound.kwargs


def _as_default(value: Any) -> Any:
    return value.as_default() if isinstance(value, SeedPlaceholder) else value


def signature_with_defaults(func: Callable[..., Any], *, skip: int = 0) -> Signature:
    """Return the signature of a function, with its default values that hold nodes."""
    signature = Signature(func, skip=skip)
    found = {
        parameter.name: parameter
        for parameter in signature.parameters
        if parameter.default is not parameter.empty and find_placeholder(parameter.default)
    }
    if found:  # almost never
        signature.defaults = NodeDefaults(signature, found)
    return signature

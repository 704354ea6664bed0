"""Call layouts: the arguments of a call in the order of the signature, whether by position or by keyword."""

from __future__ import annotations

from marshal import dumps
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse._graph.nodes import Kind
from functionfuse._graph.signature import Signature
from functionfuse._provenance.code_names import function_name, name_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functionfuse._graph.graph import GraphNode

__all__ = ["CallLayout", "CallLayouts"]

#: Callables of which the name is written in the graph, and nothing else.
_BY_NAME: Final = (type, FunctionType)
_VERSION: Final = 2  # of marshal's format


class CallLayout(NamedTuple):
    """What calls have in common whose functions and keywords are the same."""

    function: str  # its qualified name
    module: str  # the first part of this name
    names: tuple[str, ...]  # of the parameters; of further positional arguments as `rest[0]`
    keywords: tuple[str, ...]  # in this order after the positional arguments
    prefix: bytes  # encodes the kind of the call, the function and the names

    def arguments(self, node: GraphNode) -> Sequence[Any]:
        """The arguments of a node's call in the order of the names; a method's instance comes first."""
        args: Sequence[Any] = node.args if node.state is None else (node.state, *node.args)
        if self.keywords:
            return (*args, *[node.kwargs[name] for name in self.keywords])
        return args


class CallLayouts:
    """The layouts of a graph's calls, made once for each function and set of keywords."""

    def __init__(self, name_of: Callable[[Any], str], digest_of: Callable[[Any], str]) -> None:
        """Make the layouts of one graph.

        Args:
            name_of: Gives the name of a function in digests.
            digest_of: Gives the digest of a callable that is not a function or class, as `functools.partial`:
                what it holds is written in the graph, as arguments are.
        """
        self._name_of, self._digest_of = name_of, digest_of
        self._layouts: dict[Any, CallLayout] = {}
        self._signatures: dict[tuple[int, bool], Signature] = {}

    def of(self, node: GraphNode) -> CallLayout:
        """Return the layout of a node's call."""
        function, kwargs = node.func, node.kwargs
        key = id(function), len(node.args), node.state is None, tuple(kwargs) if kwargs else None
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts[key] = self._make(node)
        return layout

    def _make(self, node: GraphNode) -> CallLayout:
        signature = self._signature(node)
        positions = {parameter.name: at for at, parameter in enumerate(signature.parameters)}
        # further keywords keep the order of the call, which the function can see
        keywords = sorted(node.kwargs, key=lambda name: positions.get(name, len(positions)))
        positional = [signature.argument(number) for number in range(len(node.args))]
        state = () if node.state is None else ("self",)
        names = (*state, *positional, *keywords)
        function = function_name(node.func)
        held = "" if isinstance(node.func, _BY_NAME) else self._digest_of(node.func)
        prefix = dumps((node.kind.value, self._name_of(node.func), held, names), _VERSION)
        return CallLayout(function, name_parts(node.func)[0], names, tuple(keywords), prefix)

    def _signature(self, node: GraphNode) -> Signature:
        key = id(node.func), node.kind is Kind.METHOD
        if key not in self._signatures:
            self._signatures[key] = Signature(node.func, skip=int(key[1]))
        return self._signatures[key]

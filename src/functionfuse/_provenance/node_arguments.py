"""Arguments of a graph's nodes as tokens: literals by value, results of other nodes by their position."""

from __future__ import annotations

from marshal import dumps
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse._common.recursion import deep_recursion
from functionfuse._graph.graph import ItemRef, ResultRef
from functionfuse._provenance.argument_walk import ArgumentWalk, result_token
from functionfuse._provenance.call_layout import CallLayouts
from functionfuse._provenance.raw_parts import hash_text
from functionfuse._provenance.short_literals import short_literal
from functionfuse._provenance.value_digests import ValueDigests, token_of
from functionfuse._provenance.value_walk import LARGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from functionfuse._graph.graph import GraphNode
    from functionfuse._provenance.call_layout import CallLayout

__all__ = ["ArgumentTokens", "NodeArguments"]

_VERSION: Final = 2  # of marshal's format
_SMALL: Final = frozenset({int, float, bool, complex, type(None)})


class NodeArguments(NamedTuple):
    """The arguments of one node."""

    layout: CallLayout
    tokens: Sequence[bytes]  # in the order of the layout
    parents: Sequence[
        int
    ]  # numbers of the nodes whose results it takes, in the order of the arguments
    references: Sequence[tuple[str, ResultRef | ItemRef]]  # each with its place
    unknown: Sequence[str] = ()
    reached: Sequence[Any] = ()  # functions and types

    @property
    def body(self) -> bytes:
        """All that is written in the graph for this node alone."""
        return self.layout.prefix + b"".join(self.tokens)

    def digests(self) -> dict[str, str]:
        """The digest of each argument, by parameter."""
        pairs = zip(self.layout.names, self.tokens, strict=True)
        return {name: hash_text(token) for name, token in pairs}

    def literals(self, node: GraphNode) -> dict[str, str]:
        """Short texts of the small literals among the arguments, by parameter."""
        texts = {}
        for name, value in zip(self.layout.names, self.layout.arguments(node), strict=True):
            text = None if type(value) is ResultRef else short_literal(value)
            if text is not None:
                texts[name] = text
        return texts


class ArgumentTokens:
    """Makes the tokens of nodes' arguments."""

    def __init__(self, name_of: Callable[[Any], str], text_of: Callable[[Any], str] | None) -> None:
        self._values = ValueDigests(name_of, text_of)
        self._name_of = name_of
        self._layouts = CallLayouts(name_of, lambda function: self._values.of(function).digest)

    def of_all(self, nodes: Iterable[GraphNode]) -> list[NodeArguments]:
        """Return the arguments of nodes, in their order."""
        with deep_recursion:
            return [self._plain(node) or self._walked(node) for node in nodes]

    def _plain(self, node: GraphNode) -> NodeArguments | None:
        """The arguments of a node if they are small atoms and whole results: the most frequent ones."""
        layout = self._layouts.of(node)
        tokens: list[bytes] = []
        parents: dict[int, int] = {}
        references: list[tuple[str, ResultRef | ItemRef]] = []
        for value in layout.arguments(node):
            kind = type(value)
            if kind is ResultRef:
                references.append((layout.names[len(tokens)], value))
                tokens.append(result_token(parents.setdefault(value, len(parents))))
            elif kind in _SMALL or (kind is str and len(value) <= LARGE):
                tokens.append(b"a" + dumps(value, _VERSION))
            else:
                return None
        return NodeArguments(layout, tokens, [*parents], references)

    def _walked(self, node: GraphNode) -> NodeArguments:
        layout = self._layouts.of(node)
        walk = self._values.walk(ArgumentWalk)
        pairs = zip(layout.names, layout.arguments(node), strict=True)
        tokens = [token_of(walk, value, name) for name, value in pairs]
        unknown = [f"argument {place}: {problem}" for place, problem in walk.unknown]
        # of two with one name, in the order of their use: a digest has their names without modules
        reached = sorted(walk.reached, key=self._name_of)
        return NodeArguments(layout, tokens, [*walk.parents], walk.references, unknown, reached)

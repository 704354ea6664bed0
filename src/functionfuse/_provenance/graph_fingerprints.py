"""Fingerprints of a graph's nodes: what each result depends on if it is computed now."""

from __future__ import annotations

from functools import cached_property
from marshal import dumps
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.gc import gc_paused
from functionfuse._graph.graph import ResultRef
from functionfuse._provenance.fingerprint import Fingerprint
from functionfuse._provenance.node_arguments import ArgumentTokens
from functionfuse._provenance.project_border import portable_name
from functionfuse._provenance.raw_parts import hash_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from functionfuse._graph.graph import Graph, ItemRef
    from functionfuse._provenance.code import CodeDigest, CodeDigests
    from functionfuse._provenance.node_arguments import NodeArguments

__all__ = ["GraphFingerprints"]

_VERSION: Final = 2  # of marshal's format


class GraphFingerprints:
    """Fingerprints by node number, made on first use: those of a graph with 10,000 nodes take a fifth of a second."""

    def __init__(self, graph: Graph, code: CodeDigests, seeds: Mapping[str, int]) -> None:
        """Make the fingerprints of one plan.

        Args:
            graph: The graph.
            code: The digests of code of the plan.
            seeds: The seeds of nodes by name; others have none.
        """
        self._graph, self._code, self._seeds = graph, code, seeds
        self._code_digests: dict[Any, CodeDigest] = {}

    def graph_derivation(self, number: int) -> str:
        """The digest of what is written in the graph for a node and all nodes upstream of it."""
        return self._graph_derivations[number].hex()

    def derivation(self, number: int) -> str:
        """The digest of what is written in the graph and of the code, for a node and all nodes upstream of it."""
        return self._derivations[number].hex()

    def is_unknown(self, number: int) -> bool:
        """Tell whether a node, or any node upstream of it, depends on something that has no digest."""
        return self._unknown[number]

    def notes(self, number: int) -> tuple[str, ...]:
        """What a reader has to know of a node's code: sources that were changed since they were imported."""
        return self._code_of(number).notes

    def fingerprint(self, number: int, upstream: Mapping[int, str] | None = None) -> Fingerprint:
        """Return the fingerprint of a node.

        Args:
            number: The node's number.
            upstream: The derivations of the results that the node really takes, by number;
                for other parents, the expected ones are used.
        """
        return Fingerprint(**self.header(number, upstream))

    def header(self, number: int, upstream: Mapping[int, str] | None = None) -> dict[str, Any]:
        """Return the header field of a node's fingerprint, without the fingerprint; as `fingerprint`."""
        order, arguments, code = self._graph.order, self._arguments[number], self._code_of(number)
        really, expected = upstream or {}, self._derivations
        used = {
            parent: really.get(parent) or expected[parent].hex() for parent in arguments.parents
        }
        derivation = expected[number]
        if upstream:
            derivation = self._derived(number, map(bytes.fromhex, used.values()), code.digest)
        node = order[number]
        return {
            "graph_derivation": self._graph_derivations[number].hex(),
            "derivation": derivation.hex(),
            "function": arguments.layout.function,
            "module": arguments.layout.module,
            "code": code.digest,
            "parts": code.parts,
            "arguments": arguments.digests(),
            "literals": arguments.literals(node),
            "upstream": {order[parent].name: each for parent, each in used.items()},
            "structure": tuple(
                [(place, self._reference_text(each)) for place, each in arguments.references]
            ),
            "seed": self._seeds.get(node.name),
            "packages": code.packages,
            "unknown": (*arguments.unknown, *code.unknown),
        }

    # ---- in one pass over the graph each ----

    @cached_property
    def _arguments(self) -> list[NodeArguments]:
        with gc_paused():
            return ArgumentTokens(portable_name, self._code.text_digest).of_all(self._graph)

    @cached_property
    def _graph_derivations(self) -> list[bytes]:
        made: list[bytes] = []
        for number, arguments in enumerate(self._arguments):
            made.append(self._derived(number, [made[each] for each in arguments.parents]))
        return made

    @cached_property
    def _derivations(self) -> list[bytes]:
        made: list[bytes] = []
        for number, arguments in enumerate(self._arguments):
            upstream = [made[each] for each in arguments.parents]
            made.append(self._derived(number, upstream, self._code_of(number).digest))
        return made

    @cached_property
    def _unknown(self) -> list[bool]:
        made: list[bool] = []
        for number, arguments in enumerate(self._arguments):
            own = bool(arguments.unknown or self._code_of(number).unknown)
            made.append(own or any(made[each] for each in arguments.parents))
        return made

    def _derived(self, number: int, upstream: Iterable[bytes], code: str = "") -> bytes:
        """The digest over a node's arguments, structure, seed and code, and the derivations upstream."""
        own = dumps((self._seeds.get(self._graph.order[number].name), code), _VERSION)
        return hash_bytes(b"".join((self._arguments[number].body, own, *upstream)))

    # ---- code ----

    def _code_of(self, number: int) -> CodeDigest:
        function, reached = self._graph.order[number].func, self._arguments[number].reached
        key = (id(function), *map(id, reached)) if reached else id(function)
        made = self._code_digests.get(key)
        if made is None:
            made = self._code_digests[key] = self._code.of(function, reached)
        return made

    def _reference_text(self, reference: ResultRef | ItemRef) -> str:
        name = self._graph.order[reference.number].name
        if type(reference) is ResultRef:  # nearly all
            return name
        instance = "instance " if reference.slot == "state" else ""
        return instance + name + "".join(f"[{key!r}]" for key in reference.path)

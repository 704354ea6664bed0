"""Comparison of fingerprints: a result that one backend stores must not be stale for another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functionfuse._provenance.differences import graph_differences

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from functionfuse._provenance.fingerprint import Fingerprint
    from functionfuse.backends.base import Workflow

__all__ = ["fingerprint_differences", "fingerprints_of"]


def fingerprints_of(workflow: Workflow[Any]) -> list[Fingerprint]:
    """The fingerprints that a workflow's results get, in graph order."""
    # these import libraries for digests, and `import functionfuse` imports this module
    from functionfuse._provenance.code import CodeDigests
    from functionfuse._provenance.graph_fingerprints import GraphFingerprints

    spec = workflow._run_spec("raise")  # noqa: SLF001 - the seeds that its run uses
    fingerprints = GraphFingerprints(spec.graph, CodeDigests(), spec.seeds)
    return [fingerprints.fingerprint(node.number) for node in spec.graph]


def fingerprint_differences(
    reference: Mapping[str, Fingerprint], found: Mapping[str, Fingerprint], backend: str
) -> Iterator[str]:
    """One line for each node that differs itself, and not only upstream.

    Args:
        reference: The fingerprints on the reference, by node.
        found: Those on another backend.
        backend: Its name.
    """
    for name, expected in reference.items():
        other = found[name]
        reasons = [*graph_differences(expected, other)]
        if not reasons and expected.code != other.code:
            reasons = ["its code differs"]
        if reasons:
            yield (
                f"node {name!r} has another fingerprint on {backend} ({'; '.join(reasons)}): "
                "a result that one backend stores is stale for the other"
            )

"""Running a graph on Ray: nodes as tasks, instances of decorated classes as actors.

This package is the only one that imports Ray.
`workflow` holds the facade, `engine` submits nodes, `remote` is what runs in Ray's workers,
`wrapped` is how values travel, `remote_args` checks options,
`cluster` finds a cluster and asks what it has, `addresses` tells who is there.
"""

from functionfuse.errors import MissingExtraError

try:
    import ray as _  # noqa: F401
except ImportError as error:
    message = "RayWorkflow needs Ray: pip install 'functionfuse[ray]'"
    raise MissingExtraError(message) from error

from functionfuse.backends.builtin.rayback.workflow import RayQuery, RayWorkflow

__all__ = ["RayQuery", "RayWorkflow"]

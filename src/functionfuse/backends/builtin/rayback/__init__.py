"""Ray backend: nodes are tasks, instances of decorated classes are actors.

This package is the only one that imports Ray.
`workflow` has the class that users call, `engine` submits units, `tasks` runs them in workers,
`envelopes` pickles values, `remote_args` checks options,
`cluster` finds or starts a cluster and checks its resources, `addresses` checks that Ray answers at an address.
"""

from functionfuse.errors import MissingExtraError

try:
    import ray as _  # noqa: F401
except ImportError as error:
    message = "RayWorkflow needs Ray: pip install 'functionfuse[ray]'"
    raise MissingExtraError(message) from error

from functionfuse.backends.builtin.rayback.workflow import RayQuery, RayWorkflow

__all__ = ["RayQuery", "RayWorkflow"]

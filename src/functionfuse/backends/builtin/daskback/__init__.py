"""Dask backend: each node is a task of a distributed cluster.

This package is the only one that imports Dask.
`workflow` has the class that users call, `engine` submits units, `handles` refers to submitted units,
`tasks` runs them on workers, `resources` checks the options of nodes, and `cluster` connects to a cluster or starts one.
"""

from functionfuse.errors import MissingExtraError

try:
    import distributed as _  # noqa: F401
except ImportError as error:
    message = "DaskWorkflow needs Dask: pip install 'functionfuse[dask]'"
    raise MissingExtraError(message) from error

from functionfuse.backends.builtin.daskback.workflow import DaskQuery, DaskWorkflow

__all__ = ["DaskQuery", "DaskWorkflow"]

"""Running a graph on Dask: each node a task of a distributed cluster.

This package is the only one that imports Dask.
`workflow` holds the facade, `engine` submits nodes, `parcels` is what travels to workers and what is done there,
`placing` knows what nodes may ask of the cluster, and `connecting` which cluster it is.
"""

from functionfuse.errors import MissingExtraError

try:
    import distributed as _  # noqa: F401
except ImportError as error:
    message = "DaskWorkflow needs Dask: pip install 'functionfuse[dask]'"
    raise MissingExtraError(message) from error

from functionfuse.backends.builtin.daskback.workflow import DaskQuery, DaskWorkflow

__all__ = ["DaskQuery", "DaskWorkflow"]

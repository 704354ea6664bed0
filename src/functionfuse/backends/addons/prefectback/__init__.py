"""Prefect backend: a graph is a flow, and each node a task run of its name.

This package is the only one that imports Prefect.
`workflow` is the class that users call, and `flow` the function that Prefect calls.
`engine` submits units to the flow's task runner, and `tasks` makes their tasks.
`server` enters the settings of a run, and waits until the server has recorded it.
`_compat` holds the parts of Prefect that its documentation does not promise.
"""

from functionfuse._common.gc import gc_paused
from functionfuse.errors import MissingExtraError

with gc_paused():  # saves a sixth of the import time of Prefect's modules
    try:
        import prefect as _  # noqa: F401
    except ImportError as error:
        message = "PrefectWorkflow needs Prefect: pip install 'functionfuse[prefect]'"
        raise MissingExtraError(message) from error

    from functionfuse.backends.addons.prefectback.workflow import PrefectQuery, PrefectWorkflow

__all__ = ["PrefectQuery", "PrefectWorkflow"]

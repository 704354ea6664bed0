"""Running a graph as a Prefect flow, each node as a task.

This package is the only one that imports Prefect.
`workflow` holds the facade, `flow` what Prefect calls, `engine` submits nodes, `tasks` makes them look like the user's functions,
`server` knows Prefect's settings and waits until its server has every record.
"""

from functionfuse._common.gc import gc_paused
from functionfuse.errors import MissingExtraError

with gc_paused():  # a sixth of the time that Prefect's modules take
    try:
        import prefect as _  # noqa: F401
    except ImportError as error:
        message = "PrefectWorkflow needs Prefect: pip install 'functionfuse[prefect]'"
        raise MissingExtraError(message) from error

    from functionfuse.backends.addons.prefectback.workflow import PrefectQuery, PrefectWorkflow

__all__ = ["PrefectQuery", "PrefectWorkflow"]

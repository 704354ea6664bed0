"""The decorator `workflow`, under the name of a module: `from functionfuse.workflow import workflow`."""

from functionfuse._graph.decorators import workflow

__all__ = ["workflow"]

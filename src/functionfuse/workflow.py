"""The import path `from functionfuse.workflow import workflow`."""

from functionfuse.nodes import workflow

__all__ = ["workflow"]

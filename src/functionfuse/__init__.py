"""Plain Python functions become graphs that run anywhere, unchanged."""

# through the module of the same name, whose import would otherwise hide the function later
from functionfuse.workflow import workflow

__all__ = ["__version__", "task", "workflow"]
__version__ = "0.1.0"

task = workflow

"""Plain Python functions become graphs that run anywhere, unchanged."""

from typing import TYPE_CHECKING, Any

from functionfuse._common.version import VERSION
from functionfuse._graph.seeds import RNG, SEED

# through the module of the same name, whose import would otherwise hide the function later
from functionfuse.workflow import workflow

__all__ = ["RNG", "SEED", "__version__", "compare", "task", "workflow"]
__version__ = VERSION

task = workflow

if TYPE_CHECKING:
    from functionfuse.comparison import compare
else:

    def __getattr__(name: str) -> Any:
        if name == "compare":  # imported late: it imports many modules
            from functionfuse.comparison import compare

            return compare
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)

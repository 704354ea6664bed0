"""Main guard check: refuse a script that each worker process would run again."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import dask

from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

__all__ = ["GUARD", "check_main_guard"]

GUARD: Final = "put the call under `if __name__ == '__main__':`"
_METHOD: Final = "distributed.worker.multiprocessing-method"


def check_main_guard(options: Mapping[str, Any]) -> None:
    """Check that the script that calls `run()` can be imported by worker processes without running the graph.

    Args:
        options: The arguments of the `LocalCluster`.

    Raises:
        EngineError: The call is at the top level of a script without a main guard.
    """
    in_processes = options.get("processes", True) and options.get("worker_class") is None
    if not in_processes or dask.config.get(_METHOD, "spawn") == "fork":
        return
    main = vars(sys.modules["__main__"])
    caller: FrameType | None = sys._getframe(1)
    while caller is not None:
        is_top_level = caller.f_code.co_name == "<module>" and caller.f_globals is main
        if is_top_level and _is_imported_by_workers(main) and not _has_guard(main["__file__"]):
            message = (
                f"run() is called at the top level of {main['__file__']}, line {caller.f_lineno}: "
                f"each worker process of the LocalCluster imports the script, and would run it again; {GUARD}"
            )
            raise EngineError(message)
        caller = caller.f_back


def _is_imported_by_workers(main: Mapping[str, Any]) -> bool:
    """Tell whether `multiprocessing` imports `__main__` in processes that it starts: not that of `python -m package`."""
    name = getattr(main.get("__spec__"), "name", "")
    return isinstance(main.get("__file__"), str) and not f".{name}".endswith(".__main__")


def _has_guard(path: str) -> bool:
    """Tell whether a script uses `__name__`; True for a script that cannot be read."""
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return "__name__" in names

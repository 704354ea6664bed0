"""Entrypoints of workflows that a function returns, as attributes of this module.

Prefect imports `functionfuse.backends.addons.prefectback.entrypoints.pipeline/make` as an attribute of this module:
the flow of the workflow that `make()` of `pipeline.py` returns.
"""

from __future__ import annotations

import importlib
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from functionfuse.backends.base import Workflow
from functionfuse.errors import OptionError

if TYPE_CHECKING:
    from prefect.flows import Flow

__all__ = ["module_entrypoint"]


def module_entrypoint(entrypoint: str) -> str | None:
    """The module entrypoint for the workflow that a function returns, of an entrypoint like `pipeline.py:make`.

    None if the path is not the name of a module in the folder of the source, where workers run.
    """
    path, _, function = entrypoint.rpartition(":")
    *parts, last = PurePath(path).with_suffix("").parts or ("",)
    names = [*parts, last, function]
    return f"{__name__}.{'/'.join(names)}" if all(map(str.isidentifier, names)) else None


def __getattr__(name: str) -> Flow[..., Any]:
    *module, function = name.split("/")
    make = getattr(importlib.import_module(".".join(module)), function, None) if module else None
    if not callable(make):
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)  # noqa: TRY004 - the protocol of module attributes
    try:
        workflow = make()
    except (
        Exception
    ) as error:  # to Prefect, an AttributeError would mean that the name does not exist
        message = f"{function}() of {'/'.join(module)}.py raised {type(error).__name__}: {error}"
        raise OptionError(message) from error
    if not isinstance(workflow, Workflow) or not hasattr(workflow, "flow"):
        message = (
            f"{function}() of {'/'.join(module)}.py returned {workflow!r}, not a PrefectWorkflow"
        )
        raise OptionError(message)
    flow: Flow[..., Any] = workflow.flow
    return flow

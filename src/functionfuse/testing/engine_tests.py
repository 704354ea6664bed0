"""The conformance suite: what every backend must do, whatever it runs on."""

from __future__ import annotations

from functionfuse.testing.engine_damage import DamageTests
from functionfuse.testing.engine_errors import ErrorTests
from functionfuse.testing.engine_exceptions import ExceptionTests
from functionfuse.testing.engine_fuse import FuseTests
from functionfuse.testing.engine_lazy import LazyDamageTests
from functionfuse.testing.engine_observing import ObservingTests
from functionfuse.testing.engine_options import OptionTests
from functionfuse.testing.engine_properties import PropertyTests
from functionfuse.testing.engine_running import RunningTests
from functionfuse.testing.engine_state import StateTests
from functionfuse.testing.engine_storage import StorageTests
from functionfuse.testing.engine_travel import TravelTests
from functionfuse.testing.engine_values import ValueTests

__all__ = ["EngineTests"]


class EngineTests(
    ValueTests,
    StateTests,
    TravelTests,
    ErrorTests,
    ExceptionTests,
    StorageTests,
    DamageTests,
    LazyDamageTests,
    OptionTests,
    ObservingTests,
    RunningTests,
    PropertyTests,
    FuseTests,
):
    """All tests for a backend.

    Derive from it in a test file, and say how a workflow is made::

        class TestMyBackend(EngineTests):
            runs_in_other_processes = True
            max_examples = 10
            make_workflow = staticmethod(MyWorkflow)

    Nodes may run in other processes, but they must see the file system of the tests.
    """

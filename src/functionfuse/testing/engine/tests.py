"""Conformance suite of backends."""

from __future__ import annotations

from functionfuse.testing.engine.damage import DamageTests
from functionfuse.testing.engine.errors import ErrorTests
from functionfuse.testing.engine.exceptions import ExceptionTests
from functionfuse.testing.engine.fusion import FuseTests
from functionfuse.testing.engine.interruption import InterruptionTests
from functionfuse.testing.engine.lazy import LazyDamageTests
from functionfuse.testing.engine.mutation import MutationTests
from functionfuse.testing.engine.observation import ObservingTests
from functionfuse.testing.engine.options import OptionTests
from functionfuse.testing.engine.properties import PropertyTests
from functionfuse.testing.engine.provenance import ProvenanceTests
from functionfuse.testing.engine.recording import RecordingTests
from functionfuse.testing.engine.results import ResultTests
from functionfuse.testing.engine.robustness import RunningTests
from functionfuse.testing.engine.round_trips import RoundTripTests
from functionfuse.testing.engine.seeds import SeedTests
from functionfuse.testing.engine.shared_state import SharedStateTests
from functionfuse.testing.engine.state import StateTests
from functionfuse.testing.engine.storage import StorageTests
from functionfuse.testing.engine.surroundings import SurroundingTests
from functionfuse.testing.engine.transport import TransportTests
from functionfuse.testing.engine.values import ValueTests

__all__ = ["EngineTests"]


class EngineTests(
    ValueTests,
    ResultTests,
    RecordingTests,
    StateTests,
    TransportTests,
    SharedStateTests,
    RoundTripTests,
    ErrorTests,
    ExceptionTests,
    StorageTests,
    DamageTests,
    LazyDamageTests,
    ProvenanceTests,
    OptionTests,
    SeedTests,
    ObservingTests,
    SurroundingTests,
    RunningTests,
    InterruptionTests,
    PropertyTests,
    FuseTests,
    MutationTests,
):
    """All tests for a backend.

    Derive from it in a test file, with a function that creates a workflow::

        class TestMyBackend(EngineTests):
            runs_in_other_processes = True
            max_examples = 10
            make_workflow = staticmethod(MyWorkflow)

    Nodes may run in other processes, but they must see the file system of the tests.
    """

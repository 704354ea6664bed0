"""Results of nodes that one consumer could use up: drained into lists, or refused; all members of each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.testing.engine.results import REFUSED, REUSABLE, ResultTests

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import ClassVar


class TestResults(ResultTests):
    """The behaviours of every engine, with all members."""

    make_workflow = staticmethod(LocalWorkflow)
    reusable: ClassVar[Sequence[str]] = tuple(REUSABLE)
    refused: ClassVar[Sequence[str]] = tuple(REFUSED)

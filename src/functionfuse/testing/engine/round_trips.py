"""Round trip tests of value types: as argument, as result at another node and at the caller, and stored."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse import workflow
from functionfuse.errors import GraphError, StorageError
from functionfuse.events import NodeFailed
from functionfuse.testing.engine.suite import WORKFLOW, Suite, text_of
from functionfuse.testing.engine.value_types.table import difference_of, value_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from functionfuse.backends.base import Workflow
    from functionfuse.events import Event
    from functionfuse.storage.base import Storage

__all__ = ["RoundTripTests"]


@workflow
def made(name: str) -> Any:
    """Make a value of a type in the table."""
    return value_types()[name].make()


@workflow
def checked(name: str, values: dict[str, Any], *, ignore_writeable: bool) -> dict[str, str]:
    """What differs between the values that arrived and a value of this type, by the way of the value."""
    found = {
        f"{name}, {way}": difference_of(name, value, ignore_writeable=ignore_writeable)
        for way, value in values.items()
    }
    return {way: text for way, text in found.items() if text}


@pytest.mark.filterwarnings("ignore")  # of libraries, about the types that are made here
class RoundTripTests(Suite):
    """Round trips of value types."""

    def test_types_of_values(self) -> None:
        """A value of each type is exact as an argument, as another node's result and at the caller: type, flags, sharing."""
        kinds = value_types()
        nodes, found = _made(kinds), dict[str, str]()
        for name, kind in kinds.items():
            given = {"argument": kind.make(), "result": nodes[name]}
            try:
                nodes[f"check {name}"] = self._checked(name, given)
            except GraphError as error:
                found |= {} if kind.may_be_refused else {name: f"it is refused: {error}"}
        values, failures = _outcomes(self.new_workflow, nodes)

        _assert_none(found | failures | self._differences(values))

    def test_stored_types_of_values(self, storage: Storage) -> None:
        """A stored result of each type is exact at the nodes of a resumed run and at the caller."""
        unsaved = _save_all(storage)
        results = _made(name for name in value_types() if name not in unsaved)
        checks = {
            f"check {name}": self._checked(name, {"loaded result": node})
            for name, node in results.items()
        }

        def resumed(*nodes: Any) -> Workflow[Any]:
            workflow = self.stored(storage, *nodes)
            workflow.always_run("check .*")
            return workflow

        values, failures = _outcomes(resumed, {**results, **checks})

        _assert_none(unsaved | failures | self._differences(values))

    def _checked(self, name: str, values: dict[str, Any]) -> Any:
        node = checked(name, values, ignore_writeable=not self.arrays_are_writeable)
        return node.set_name(f"check {name}")

    def _differences(self, values: Mapping[str, Any]) -> dict[str, str]:
        """What nodes found, and what differs in the values that came to the caller."""
        found: dict[str, str] = {}
        for node, value in values.items():
            if node.startswith("check "):
                found |= value
            else:
                text = difference_of(node, value, ignore_writeable=not self.arrays_are_writeable)
                found |= {f"{node}, at the caller": text} if text else {}
        return found


def _assert_none(differences: Mapping[str, str]) -> None:
    lines = (f"{name}: {text}" for name, text in differences.items())
    assert not differences, "\n".join(lines)  # pytest shortens a dict


def _made(names: Iterable[str]) -> dict[str, Any]:
    return {name: made(name).set_name(name) for name in names}


def _save_all(storage: Storage) -> dict[str, str]:
    """Save a value of each type as the result of a node; returns the errors."""
    errors: dict[str, str] = {}
    for name, kind in value_types().items():
        try:
            storage.save(WORKFLOW, name, kind.make())
        except StorageError as error:
            errors[name] = str(error)
    return errors


def _outcomes(
    new_workflow: Callable[..., Workflow[Any]], nodes: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Values and errors of nodes; a run that fails is repeated without the nodes that fail."""
    try:
        return dict(zip(nodes, new_workflow(*nodes.values()).run(), strict=True)), {}
    except Exception as error:  # noqa: BLE001 - any of an engine
        failures = _failures(new_workflow(*nodes.values())) or _named_in(error, nodes)
        if not failures:
            return {}, {"the run": text_of(error)}
    rest = {name: node for name, node in nodes.items() if name not in failures}
    values, more = _outcomes(new_workflow, rest)
    return values, failures | more


def _failures(workflow: Workflow[Any]) -> dict[str, str]:
    """The errors of all nodes that fail in a run or are not started, by the names of the nodes."""
    failures: dict[str, str] = {}

    def note(event: Event) -> None:
        if isinstance(event, NodeFailed):
            failures[event.record.name] = f"{type(event.error).__name__}: {event.error}"

    workflow.add_observer(note)
    with suppress(Exception):
        workflow.run(on_error="continue")
    report = workflow.report
    assert report is not None
    missing = (name for name in report.plan.actions if report.status(name) == "not started")
    return failures | {name: report.why(name) for name in missing}


def _named_in(error: Exception, names: Iterable[str]) -> dict[str, str]:
    """A value that could not be brought to the caller, although its node did not fail."""
    return {name: text_of(error) for name in names if repr(name) in text_of(error)}

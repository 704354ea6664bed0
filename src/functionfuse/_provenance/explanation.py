"""Explanation of one node: all differences from its stored result, with a diff of changed code."""

from __future__ import annotations

import difflib
import html
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from functionfuse._provenance.differences import changed_parts, graph_differences

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from functionfuse._provenance.differences import PartChange
    from functionfuse._provenance.fingerprint import Fingerprint
    from functionfuse._provenance.run_provenance import RunProvenance

__all__ = ["Explanation", "explain"]

_MAX_INPUTS: Final = 10
_MAX_DIFF: Final = 200  # lines of the diff of one part


@dataclass(frozen=True)
class Explanation:
    """The story of one node's result: what a run does with it, what it depends on, and what differs."""

    name: str
    text: str

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:  # an interactive session shows it
        return self.text

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text)}</pre>"


def explain(provenance: RunProvenance, number: int, action: str, reason: str) -> Explanation:
    """Explain a node.

    Args:
        provenance: The provenance of a plan.
        number: The node.
        action: The plan's action for it.
        reason: The plan's reason.
    """
    story = _Story(provenance, number)
    name = provenance.staleness.graph.order[number].name
    lines = [f"{name}: {action}, {reason}", *story.lines()]
    return Explanation(name, "\n".join(lines))


class _Story:
    """The paragraphs of one explanation."""

    def __init__(self, provenance: RunProvenance, number: int) -> None:
        self._provenance = provenance
        self._staleness = provenance.staleness
        self._number = number
        self._now = self._staleness.fingerprint(number)

    def lines(self) -> Iterator[str]:
        """The lines after the first."""
        stored = self._staleness.stored_at(self._number)
        self._staleness.verdict(self._number)
        if stored is None:
            yield "No result is stored, or its header cannot be read."
            yield from self._current(None)
            return
        yield from _stored_lines(stored.header)
        if stored.fingerprint is None:
            yield "It has no fingerprint, so nothing can be compared: accept() gives it the current one."
            yield from self._current(None)
            return
        yield from self._differences(stored.fingerprint)
        yield from self._current(stored.fingerprint)

    def _differences(self, before: Fingerprint) -> Iterator[str]:
        found = [*self._own(before), *self._upstream(before)]
        if found:
            yield ""
            yield "What differs:"
            yield from found
        elif self._staleness.expected.is_unknown(self._number):
            yield "Nothing that can be compared differs."
        else:
            yield "Nothing differs: the result is what the current graph and code would give."

    def _own(self, before: Fingerprint) -> Iterator[str]:
        for difference in graph_differences(before, self._now):
            yield f"  {difference}"
        for change in changed_parts(before, self._now):
            yield f"  {self._provenance.causes.describe(change, self._now.function)}"
            yield from self._diff(change)

    def _diff(self, change: PartChange) -> Iterator[str]:
        causes = self._provenance.causes
        before, now = causes.text_before(change), causes.text_now(change)
        if change.before is not None and before is None:
            yield "    (the storage does not have the earlier text)"
            return
        lines = difflib.unified_diff(
            (before or "").splitlines(),
            (now or "").splitlines(),
            f"{change.name} (stored)",
            f"{change.name} (now)",
            lineterm="",
        )
        shown = [line for _, line in zip(range(_MAX_DIFF), lines, strict=False)]
        yield from (f"    {line}" for line in shown)

    def _upstream(self, before: Fingerprint) -> Iterator[str]:
        staleness = self._staleness
        node = staleness.graph.order[self._number]
        changed = [
            (parent, name)
            for name, (parent, was) in zip(
                before.upstream, staleness.inputs(node, before), strict=False
            )
            if was != staleness.expected.derivation(parent)
        ]
        for parent, name in changed[:_MAX_INPUTS]:
            yield f"  {self._input(parent, name)}"
        if len(changed) > _MAX_INPUTS:
            yield f"  and {len(changed) - _MAX_INPUTS} more inputs"

    def _input(self, parent: int, earlier: str) -> str:
        staleness, causes = self._staleness, self._provenance.causes
        name = staleness.graph.order[parent].name
        if name != earlier:
            return f"input {name} is in the place of {earlier}"
        verdict = staleness.verdict(parent)
        if verdict.stale:
            cause = causes.first(parent)
            where = "" if cause.number == parent else f"upstream {self._name(cause.number)}: "
            return f"input {name} is stale: {where}{cause.text}"
        if verdict.unknown:
            return f"input {name} is unknown"
        if staleness.stored_at(parent) is None:
            return f"input {name} is not stored, and would not be the same now"
        return f"input {name} was computed again since"

    def _name(self, number: int) -> str:
        return self._staleness.graph.order[number].name

    def _current(self, before: Fingerprint | None) -> Iterator[str]:
        now = self._now
        yield ""
        yield "What it depends on now:"
        yield f"  function {now.function}"
        for name in now.arguments:
            yield f"  argument {name}{self._argument(name, before)}"
        if now.upstream:
            names = [*now.upstream]
            more = f" and {len(names) - _MAX_INPUTS} more" if len(names) > _MAX_INPUTS else ""
            yield f"  results of {', '.join(names[:_MAX_INPUTS])}{more}"
        if now.seed is not None:
            yield f"  seed {now.seed}"
        # parts of other packages are named `package: name`; their packages are listed below
        others = [name for name, _ in now.parts if name != now.function and ": " not in name]
        if others:
            yield f"  code of {', '.join(dict.fromkeys(others))}"
        yield from (f"  {line}" for line in _packages(before, now))
        yield from (f"  not compared: {each}" for each in now.unknown)
        yield from (f"  {note}" for note in self._staleness.expected.notes(self._number))

    def _argument(self, name: str, before: Fingerprint | None) -> str:
        text = self._now.literals.get(name)
        places = [each for place, each in self._now.structure if _is_in(place, name)]
        shown = text or ", ".join(places[:_MAX_INPUTS])
        same = before is not None and before.arguments.get(name) == self._now.arguments[name]
        return (f" = {shown}" if shown else "") + ("" if same or before is None else "  (differs)")


def _is_in(place: str, parameter: str) -> bool:
    rest = place.removeprefix(parameter)
    return place.startswith(parameter) and (not rest or rest[0] in "[.")


def _packages(before: Fingerprint | None, now: Fingerprint) -> Iterator[str]:
    """Versions of foreign packages, which are shown and not compared."""
    earlier: Mapping[str, str] = before.packages if before else now.packages
    for name, version in now.packages.items():
        was = earlier.get(name)
        note = f" (it was {was}; versions are not compared)" if was not in (None, version) else ""
        yield f"package {name} {version}{note}"


def _stored_lines(header: Mapping[str, Any]) -> Iterator[str]:
    parts = []
    created, seconds, engine = (header.get(key) for key in ("created", "seconds", "engine"))
    if isinstance(created, int | float):
        parts.append(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(created)))
    elif created:
        parts.append(str(created))
    if isinstance(seconds, int | float):
        parts.append(f"computed in {seconds:.3g} s")
    if engine:
        parts.append(f"engine {engine}")
    yield f"Stored: {', '.join(parts) or 'no details'}."
    accepted = header.get("accepted")
    if isinstance(accepted, int | float):
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(accepted))
        yield f"Accepted: {when}; its fingerprint is that of this time."

"""Causes of staleness in words: the reasons of a plan, and what warnings group by."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final, NamedTuple

from functionfuse._provenance.differences import changed_parts, graph_differences

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functionfuse._provenance.differences import PartChange
    from functionfuse._provenance.fingerprint import Fingerprint
    from functionfuse._provenance.staleness import Staleness, Verdict

__all__ = ["Cause", "Causes"]

_MAX_SHOWN: Final = 2  # differences in one reason
_MAX_GLOBAL: Final = 40  # characters of a global value in a reason
_OLD: Final = "stored before fingerprints"


class Cause(NamedTuple):
    """The first cause of a node's staleness."""

    number: int  # the node that differs itself
    text: str
    parts: tuple[str, ...] = ()  # the qualified names of the code that changed


class Causes:
    """Finds the causes of one plan; reads stored texts of code when a reason is asked for."""

    def __init__(self, staleness: Staleness, texts: Mapping[str, str]) -> None:
        """Find nothing yet.

        Args:
            staleness: The verdicts.
            texts: The texts of the current code, by digest.
        """
        self._staleness = staleness
        self._texts = texts
        self._stored_texts: dict[str, str | None] = {}
        self._known: dict[int, Cause] = {}

    # ---- reasons of a plan ----

    def reason(self, number: int, action: str) -> str | None:
        """The reason for a node that is stale or unknown; None for others.

        Args:
            number: The node.
            action: "compute", "load", "maybe" or "skip", as the plan says.
        """
        verdict = self._staleness.known_verdict(number)
        if verdict is None or not (verdict.stale or verdict.unknown):
            return None
        if action == "compute" and verdict.outcome == "load":
            return None  # its instance is needed, and it gives its result on the way
        if verdict.unknown:
            return f"unknown: {self._unknown(number, verdict)}"
        return self._stale_reason(number, action, verdict)

    def _stale_reason(self, number: int, action: str, verdict: Verdict) -> str:
        text, kind = self._cause_text(number), _stale(verdict)
        if action == "skip":
            return f"{kind}: {text}; nothing that is computed needs it"
        if verdict.outcome == "compute":
            return f"stale: {text}"
        if verdict.outcome == "maybe":
            names = [repr(self._name(parent)) for parent in verdict.parents]
            return f"stale: {text}; kept if {_and(names)} {_get(names)} the same value again"
        return f"{kind}, {'an error' if verdict.reaction == 'error' else 'loaded'}: {text}"

    def _cause_text(self, number: int) -> str:
        cause = self.first(number)
        if cause.number == number:
            return cause.text
        return f"upstream {self._name(cause.number)}: {cause.text}"

    def _unknown(self, number: int, verdict: Verdict) -> str:
        staleness = self._staleness
        stored = staleness.stored_at(number)
        if stored is not None and stored.fingerprint is None:
            return _OLD
        own = staleness.fingerprint(number).unknown
        if own:
            return _listed(list(own))
        for parent in verdict.parents:
            return f"computed from {self._name(parent)}, {_OLD}"
        return "something upstream cannot be compared"

    # ---- first causes ----

    def first(self, number: int) -> Cause:
        """The first cause of a node that is stale: its own difference, or the one upstream."""
        path: list[int] = []
        while number not in self._known:
            path.append(number)
            found = self._own(number)
            upstream = None if found else self._next(number)
            if upstream is None:
                self._known[number] = found or Cause(number, "its fingerprint changed")
                break
            number = upstream
        cause = self._known[number]
        self._known.update(dict.fromkeys(path, cause))
        return cause

    def _own(self, number: int) -> Cause | None:
        """The cause that is in the node itself, or in the choice of its inputs."""
        staleness = self._staleness
        verdict, stored = staleness.known_verdict(number), staleness.stored_at(number)
        if verdict is None or stored is None or stored.fingerprint is None:
            return None if self._next(number) is not None else self._not_stored(number)
        before, now = stored.fingerprint, staleness.fingerprint(number)
        differences = [*graph_differences(before, now)]
        if differences:
            return Cause(number, _listed(differences))
        moved = self._moved_input(number, before, verdict)
        if moved:
            return Cause(number, moved)
        if verdict.own and before.code != now.code and not self._replaced(verdict):
            return self.code_cause(number, before, now)
        return None if verdict.parents else Cause(number, "its place in the graph changed")

    def _replaced(self, verdict: Verdict) -> bool:
        """Tell whether the values upstream are the first cause, and not the node's own code."""
        return verdict.stale == "graph" and bool(verdict.parents)

    def _next(self, number: int) -> int | None:
        """The parent because of which a node is stale, if that parent is stale itself or has a cause upstream."""
        staleness = self._staleness
        verdict = staleness.known_verdict(number)
        parents = staleness.graph.order[number].parents if verdict is None else verdict.parents
        if verdict is not None and not parents and staleness.stored_at(number) is None:
            parents = staleness.graph.order[number].parents
        for parent in parents:
            known = staleness.known_verdict(parent)
            if known is not None and (known.stale or not self._is_expected(parent)):
                return parent
        return parents[0] if parents and verdict is not None and verdict.stale else None

    def _is_expected(self, number: int) -> bool:
        return self._staleness.is_expected(number, self._staleness.effective(number))

    def _not_stored(self, number: int) -> Cause:
        stored = self._staleness.stored_at(number)
        if stored is None:
            return Cause(number, "it changed and is not stored")
        return Cause(number, "it was computed again since")

    def _moved_input(self, number: int, before: Fingerprint, verdict: Verdict) -> str:
        """What a node takes in place of another node, if that is why it is stale."""
        staleness = self._staleness
        node = staleness.graph.order[number]
        old = [*before.upstream]
        pairs = zip(old, staleness.inputs(node, before), strict=False)
        for name, (parent, _) in pairs:
            now = self._name(parent)
            if parent in verdict.parents and name != now:
                place = _place_of(now, staleness.fingerprint(number)) or "an input"
                return f"{place} is {now} instead of {name}"
        return ""

    def _name(self, number: int) -> str:
        return self._staleness.graph.order[number].name

    # ---- code ----

    def code_cause(self, number: int, before: Fingerprint, now: Fingerprint) -> Cause:
        """The cause of a node whose own code differs."""
        changes = changed_parts(before, now)
        texts = [self.describe(change, now.function) for change in changes]
        names = tuple(change.name for change in changes)
        return Cause(number, _listed(texts) or "its code changed", names)

    def describe(self, change: PartChange, function: str) -> str:
        """A changed part of the code, in words."""
        if change.before is None:
            return f"{change.name} is reached now"
        if change.now is None:
            return f"{change.name} is no longer reached"
        before, now = self.text_before(change), self.text_now(change)
        kind = _kind(change.name, function, now)
        if before is None or now is None:
            return f"{kind} {change.name} changed"
        if kind == "global" and max(len(before), len(now)) <= _MAX_GLOBAL:
            return f"{kind} {change.name} changed: {before} -> {now}"
        lines = _changed_lines(before, now)
        return f"{kind} {change.name} changed ({lines} line{'s' * (lines != 1)})"

    def text_before(self, change: PartChange) -> str | None:
        """The text of a part when the result was stored; None if no text is stored."""
        digest = change.before
        if digest is None:
            return None
        if digest not in self._stored_texts:
            found = self._texts.get(digest) or self._staleness.stored.source.read_source(digest)
            self._stored_texts[digest] = found
        return self._stored_texts[digest]

    def text_now(self, change: PartChange) -> str | None:
        """The text of a part of the current code."""
        return None if change.now is None else self._texts.get(change.now)


def _stale(verdict: Verdict) -> str:
    return "stale code" if verdict.stale == "code" else "stale"


def _kind(name: str, function: str, text: str | None) -> str:
    """The noun for a part of the code."""
    if name == function:
        return "function"
    start = (text or "def").lstrip()
    if start.startswith("class ") or (start.startswith("@") and "\nclass " in start):
        return "class"
    return "helper" if start.startswith(("def", "async def", "@", "lambda")) else "global"


def _changed_lines(before: str, now: str) -> int:
    matcher = difflib.SequenceMatcher(None, before.splitlines(), now.splitlines(), autojunk=False)
    return sum(
        max(end - start, new_end - new_start)
        for kind, start, end, new_start, new_end in matcher.get_opcodes()
        if kind != "equal"
    )


def _place_of(name: str, fingerprint: Fingerprint) -> str | None:
    for place, reference in fingerprint.structure:
        if reference == name or reference.startswith(f"{name}["):
            return place
    return None


def _listed(texts: list[str]) -> str:
    more = len(texts) - _MAX_SHOWN
    shown = "; ".join(texts[:_MAX_SHOWN])
    return f"{shown}; and {more} more" if more > 0 else shown


def _and(names: list[str]) -> str:
    if len(names) > _MAX_SHOWN:
        return f"{names[0]} and {len(names) - 1} more"
    return " and ".join(names)


def _get(names: list[str]) -> str:
    return "gets" if len(names) == 1 else "get"

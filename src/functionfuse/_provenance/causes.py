"""Causes of staleness in words: the reasons of a plan, and what warnings group by."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from functionfuse._graph.nodes import Kind
from functionfuse._provenance.default_changes import changed_defaults
from functionfuse._provenance.differences import changed_parts, graph_differences, same_code
from functionfuse._provenance.stored_fingerprints import Derivations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functionfuse._provenance.differences import PartChange
    from functionfuse._provenance.fingerprint import Fingerprint
    from functionfuse._provenance.staleness import Staleness, Verdict

__all__ = ["Cause", "Causes"]

_MAX_SHOWN: Final = 2  # differences in one reason
_MAX_SEEN: Final = 20_000  # nodes upstream of one node that are searched for causes
_MAX_VALUE: Final = 40  # characters of a global value in a reason
#: A line of a part's text for a value that it reads.
_VALUE: Final = re.compile(r"# ([^:]+): (.*)")
#: The text of a part that is a global value: its type and digest.
_VALUE_PART: Final = re.compile(r"# .+ [0-9a-f]{32}$", re.MULTILINE)
_OLD: Final = "stored before fingerprints"
_UNREADABLE: Final = "its header cannot be read; if the result is damaged, it is computed again"


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
        self._own_causes: dict[int, Cause | None] = {}
        self._described: dict[tuple[PartChange, str], str] = {}

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
        if self._staleness.stored_at(number) is None:
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
            return _OLD if stored.is_readable else _UNREADABLE
        own = staleness.fingerprint(number).unknown
        if own:
            return _listed(list(own))
        for parent in verdict.parents:
            return f"computed from {self._name(parent)}, {_OLD}"
        origin = self._unknown_origin(number)
        return (
            f"upstream {self._name(origin)}: {_listed(list(staleness.fingerprint(origin).unknown))}"
        )

    def _unknown_origin(self, number: int) -> int:
        """The first node upstream that has something without a digest."""
        expected, order = self._staleness.expected, self._staleness.graph.order
        while True:
            parents = [each for each in order[number].parents if expected.is_unknown(each)]
            if not parents:
                return number
            number = parents[0]

    # ---- first causes ----

    def first(self, number: int) -> Cause:
        """The first cause of a node that is stale: its own difference, or the one upstream."""
        path: list[int] = []
        while number not in self._known:
            path.append(number)
            found = self._own_cause(number)
            upstream = None if found else self._next(number)
            if upstream is None:
                self._known[number] = found or self._last(number)
                break
            number = upstream
        cause = self._known[number]
        self._known.update(dict.fromkeys(path, cause))
        return cause

    def all(self, number: int) -> list[Cause]:
        """All causes of a node that is stale: its own difference, or those upstream; the first of each node."""
        found: dict[int, Cause] = {}
        waiting, seen = [number], {number}
        while waiting and len(seen) < _MAX_SEEN:
            node = waiting.pop()
            stale = [parent for parent in self._differing_inputs(node) if self._has_cause(parent)]
            cause = self._own_cause(node) or (None if stale else self.first(node))
            if cause is not None:
                found[cause.number] = cause
            waiting += [parent for parent in reversed(stale) if parent not in seen]
            seen.update(stale)
        return [found[each] for each in sorted(found)]

    def _own_cause(self, number: int) -> Cause | None:
        """As `_own`, found once."""
        if number not in self._own_causes:
            self._own_causes[number] = self._own(number)
        return self._own_causes[number]

    def _own(self, number: int) -> Cause | None:
        """The cause that is in the node itself, or in the choice of its inputs."""
        staleness = self._staleness
        verdict, stored = staleness.known_verdict(number), staleness.stored_at(number)
        if stored is None or stored.fingerprint is None:
            return None
        before, now = stored.fingerprint, staleness.fingerprint(number)
        differences = [*graph_differences(before, now)] or self._moved_inputs(number, before)
        if differences:
            return Cause(number, _listed(differences))
        values_first = verdict is not None and verdict.stale == "graph" and bool(verdict.parents)
        if not values_first and not same_code(before, now):
            return self.code_cause(number, before, now)
        return None

    def _next(self, number: int) -> int | None:
        """The parent because of which a node is stale; None if the node itself is the cause."""
        staleness = self._staleness
        node, verdict = staleness.graph.order[number], staleness.known_verdict(number)
        if node.state is not None:
            self._read_calls(number)
        parents = verdict.parents if verdict and verdict.parents else self._differing_inputs(number)
        stale = [parent for parent in parents if self._has_cause(parent)]
        return stale[0] if stale else None

    def _differing_inputs(self, number: int) -> Sequence[int]:
        """The parents of which a node has taken something else than the current graph and code give."""
        staleness = self._staleness
        node, stored = staleness.graph.order[number], staleness.stored_at(number)
        if stored is None or stored.fingerprint is None:
            return node.parents
        expected = staleness.expected.derivation
        inputs = staleness.inputs(node, stored.fingerprint)
        return [parent for parent, before in inputs if before != expected(parent)]

    def _has_cause(self, number: int) -> bool:
        """Tell whether a node is stale, or has something upstream that is, as far as can be seen."""
        staleness = self._staleness
        verdict, stored = staleness.known_verdict(number), staleness.stored_at(number)
        if verdict is not None and verdict.stale:
            return True
        if stored is None:
            return verdict is not None or staleness.graph.order[number].kind is not Kind.FUNCTION
        fingerprint = stored.fingerprint
        return fingerprint is not None and not staleness.is_expected(
            number, Derivations(fingerprint.derivation, fingerprint.graph_derivation)
        )

    def _read_calls(self, number: int) -> None:
        """Read the headers of all calls of an instance, up to one, in one call of the storage."""
        order, names = self._staleness.graph.order, list[str]()
        node = order[number]
        while node.state is not None:
            names.append(node.name)
            node = order[node.state.number]
        self._staleness.stored.read(names)

    def _last(self, number: int) -> Cause:
        """The cause of a node of which nothing more is known."""
        staleness = self._staleness
        if staleness.graph.order[number].kind is Kind.CONSTRUCT:
            return Cause(number, "its arguments or its class changed")
        if staleness.stored_at(number) is None:
            return Cause(number, "it changed, and it is not stored")
        verdict = staleness.known_verdict(number)
        if verdict is not None and verdict.stale and verdict.parents:
            names = [self._name(parent) for parent in verdict.parents]
            return Cause(number, f"{_and(names)} {_was(names)} computed again since")
        return Cause(number, "its place in the graph changed")

    def _moved_inputs(self, number: int, before: Fingerprint) -> list[str]:
        """What a node takes in place of other nodes."""
        staleness, found = self._staleness, list[str]()
        inputs = staleness.inputs(staleness.graph.order[number], before)
        for earlier, (parent, derivation) in zip(before.upstream, inputs, strict=False):
            now = self._name(parent)
            if earlier != now and derivation != staleness.expected.derivation(parent):
                place = _place_of(now, staleness.fingerprint(number))
                if place == "self":
                    found.append(
                        f"the call of its instance before it is {now} instead of {earlier}"
                    )
                else:
                    found.append(f"{place} is {now} instead of {earlier}")
        return found

    def _name(self, number: int) -> str:
        return self._staleness.graph.order[number].name

    # ---- code ----

    def code_cause(self, number: int, before: Fingerprint, now: Fingerprint) -> Cause:
        """The cause of a node whose own code differs."""
        changes = changed_parts(before, now)
        texts = [self.describe(change, now.function) for change in changes]
        names = tuple(change.name for change in changes)
        notes = [each for each in self._staleness.expected.notes(number) if _part_of(each) in names]
        text = _listed(texts) or "its code changed"
        return Cause(number, "; ".join([text, *notes[:1]]), names)

    def describe(self, change: PartChange, function: str) -> str:
        """A changed part of the code, in words.

        Args:
            change: The part.
            function: The name of the node's function.
        """
        key = change, function
        if key not in self._described:
            self._described[key] = self._described_part(change, function)
        return self._described[key]

    def _described_part(self, change: PartChange, function: str) -> str:
        if change.before is None:
            return f"{change.name} is reached now"
        if change.now is None:
            return f"{change.name} is no longer reached"
        before, now = self.text_before(change), self.text_now(change)
        part = f"{_kind(change.name, function, now)} {change.name}"
        if before is None or now is None or _VALUE_PART.match(now):
            return f"{part} changed"
        changed = _changed_lines(before, now)
        defaults = changed_defaults(changed)
        if defaults:
            return "; ".join(
                f"default {name} of {change.name} changed{_arrow(old, new)}"
                for name, old, new in defaults
            )
        value = _changed_value(changed)
        if value:
            return value.format(part)
        count = sum(max(len(old), len(new)) for old, new in changed)
        return f"{part} changed ({count} line{'s' * (count != 1)})"

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


def _part_of(note: str) -> str:
    return note.partition(": ")[0]


def _stale(verdict: Verdict) -> str:
    return "stale code" if verdict.stale == "code" else "stale"


def _kind(name: str, function: str, text: str | None) -> str:
    """The noun for a part of the code."""
    if name == function:
        return "function"
    text = text or ""
    if _VALUE_PART.match(text):
        return "value"
    return "class" if text.startswith("class ") else "helper"


def _changed_lines(before: str, now: str) -> list[tuple[list[str], list[str]]]:
    """The lines that differ, each group with those in their place."""
    old, new = before.splitlines(), now.splitlines()
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return [
        (old[start:end], new[new_start:new_end])
        for kind, start, end, new_start, new_end in matcher.get_opcodes()
        if kind != "equal"
    ]


def _changed_value(changed: list[tuple[list[str], list[str]]]) -> str:
    """A message if nothing but one value differs that a function reads, or that a class has."""
    if len(changed) != 1 or [len(lines) for lines in changed[0]] != [1, 1]:
        return ""
    found = [_VALUE.fullmatch(lines[0]) for lines in changed[0]]
    old, new = found
    if old is None or new is None or old[1] != new[1]:
        return ""
    return f"{_braced(old[1])} in {{}} changed{_braced(_arrow(old[2], new[2]))}"


def _arrow(old: str, new: str) -> str:
    """Both values, if they are short."""
    return f": {old} -> {new}" if max(len(old), len(new)) <= _MAX_VALUE else ""


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _place_of(name: str, fingerprint: Fingerprint) -> str:
    """Where a node is among the arguments."""
    for place, reference in fingerprint.structure:
        text = reference.removeprefix("instance ")
        if text == name or text.startswith(f"{name}["):
            return place
    return "an input"


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


def _was(names: list[str]) -> str:
    return "was" if len(names) == 1 else "were"

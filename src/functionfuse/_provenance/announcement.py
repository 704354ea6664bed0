"""Announcement of stale results: one warning for a run, grouped by cause, or an error before it begins."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from functionfuse._common.user_warnings import warn_user
from functionfuse._graph.signature import base_name
from functionfuse.errors import StaleResultError, StaleResultWarning

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from functionfuse._provenance.policy import Reaction
    from functionfuse._provenance.run_provenance import RunProvenance

__all__ = ["announce", "names_pattern"]

_SHOWN_NAMES: Final = 3
_SHOWN_CAUSES: Final = 5
_MANY_NAMES: Final = 20
_LONG: Final = 1.0  # seconds of computation for which a name is advised
_NUMBER: Final = re.compile(r"_\d{4,}")


class _Group(NamedTuple):
    """Stored results that are stale for one cause."""

    text: str
    parts: tuple[str, ...]  # of the code that changed
    names: list[str]  # of the results that are used
    origins: dict[str, None]  # the nodes that differ themselves


def announce(
    workflow: str, provenance: RunProvenance, used: Iterable[int], computed: Iterable[int]
) -> None:
    """Warn of the stale results that a run uses, once of each.

    Args:
        workflow: The workflow's name.
        provenance: The provenance of the run.
        used: The nodes whose stored results the run uses.
        computed: The nodes that it computes.

    Raises:
        StaleResultError: For one of them, the reaction is "error".
    """
    used = [number for number in used if number not in provenance.announced]
    provenance.announced.update(used)
    errors = _groups(provenance, used, "error")
    if errors:
        raise StaleResultError(_error_text(workflow, errors, provenance))
    groups = _groups(provenance, used, "warn")
    if groups:
        warn_user(_warning_text(workflow, groups, provenance), StaleResultWarning)
    shifted = _shifted(provenance, computed)
    if shifted:
        warn_user(_hint_text(workflow, shifted), StaleResultWarning)


def _groups(provenance: RunProvenance, used: Sequence[int], reaction: Reaction) -> list[_Group]:
    """The nodes with this reaction, grouped by their causes."""
    found: dict[str, _Group] = {}
    order, methods = provenance.staleness.graph.order, _first_methods(provenance)
    for number in used:
        if provenance.staleness.reaction(number) == reaction:
            for cause in provenance.causes.all(number):
                name = order[cause.number].name
                text = cause.text if cause.parts else f"node {name}: {cause.text}"
                origin = methods.get(name, name)
                group = found.setdefault(cause.text, _Group(text, cause.parts, [], {}))
                group.origins[origin] = None
                if group.names[-1:] != [order[number].name]:
                    group.names.append(order[number].name)
    return list(found.values())


def _first_methods(provenance: RunProvenance) -> dict[str, str]:
    """The first stored method call of each instance, by constructor: a constructor itself is never stored."""
    staleness, found = provenance.staleness, dict[str, str]()
    constructors: dict[int, str] = {}
    for node in staleness.graph.order if staleness.graph.has_instances else ():
        if node.state is None:
            constructors[node.number] = node.name
        else:
            constructor = constructors.get(node.state.number, "")
            constructors[node.number] = constructor
            if staleness.is_stored(node):
                found.setdefault(constructor, node.name)
    return found


def _warning_text(workflow: str, groups: Sequence[_Group], provenance: RunProvenance) -> str:
    names = _unique(group.names for group in groups)
    if len(names) == 1:
        start = f"the stored result of node {names[0]!r} of workflow {workflow!r} is used although it is stale"
    else:
        start = (
            f"{len(names)} stored results of workflow {workflow!r} are used although they are stale"
        )
    text = f"{start}: something that they depend on has changed since they were computed"
    return "\n".join([text, *_group_lines(groups), *_ways_on(groups, names, provenance)])


def _error_text(workflow: str, groups: Sequence[_Group], provenance: RunProvenance) -> str:
    names = _unique(group.names for group in groups)
    text = f"workflow {workflow!r} needs stored results that are stale, and on_stale is 'error' for them"
    return "\n".join([text, *_group_lines(groups), *_ways_on(groups, names, provenance)])


def _group_lines(groups: Sequence[_Group]) -> Iterator[str]:
    for group in groups[:_SHOWN_CAUSES]:
        yield f"  {_some(group.names)}: {group.text}"
    if len(groups) > _SHOWN_CAUSES:
        yield f"  and {len(groups) - _SHOWN_CAUSES} more causes"


def _ways_on(
    groups: Sequence[_Group], names: Sequence[str], provenance: RunProvenance
) -> Iterator[str]:
    """What to type."""
    staleness = provenance.staleness
    known = staleness.graph.nodes
    origins = _unique(group.origins for group in groups)
    # instances and nodes that always run are not stored: there is nothing to compare
    stored = [name for name in origins if staleness.stored_at(known[name].number) is not None]
    yield f"To see what changed:    workflow.explain({[*stored, *names][0]!r})"
    yield f"To compute them again:  workflow.forget({names_pattern(origins, known)!r})"
    yield f"To keep them:           workflow.{_accept_call(groups, _unique([origins, names]), known)}"


def _accept_call(groups: Sequence[_Group], names: Sequence[str], known: Collection[str]) -> str:
    parts = {part for group in groups for part in group.parts}
    if len(parts) == 1 and all(group.parts for group in groups):
        return f"accept(None, cause={parts.pop()!r})"
    return f"accept({names_pattern(names, known)!r})"


def _unique(names: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(name for group in names for name in group))


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def names_pattern(names: Sequence[str], known: Iterable[str]) -> str:
    """A regular expression that matches some of the known names; for very many, it may match others that begin alike."""
    if len(names) <= _SHOWN_NAMES:
        return "|".join(map(_escaped, names))
    start = os.path.commonprefix(list(names))  # noqa: RUF071 - names are no paths
    alike = sum(name.startswith(start) for name in known)
    if start and (len(names) > _MANY_NAMES or alike == len(set(names))):
        return f"{_escaped(start)}.*"
    if len(names) > _MANY_NAMES:
        return ".*"
    return f"{_escaped(start)}({'|'.join(_escaped(name[len(start) :]) for name in names)})"


def _escaped(name: str) -> str:
    return re.escape(name).replace(r"\-", "-")


# ---- nodes whose numbers shifted ----


def _shifted(provenance: RunProvenance, computed: Iterable[int]) -> dict[str, float]:
    """Unnamed nodes under whose numbers other calls are stored, with the seconds that their results took."""
    staleness = provenance.staleness
    unnamed = [n for n in computed if _is_stale(provenance, n) and _is_unnamed(provenance, n)]
    if not unnamed:
        return {}
    order = staleness.graph.order
    calls: defaultdict[str, set[int]] = defaultdict(set)  # the numbers of each function, by call
    for node in staleness.graph:
        calls[staleness.expected.graph_derivation(node.number)].add(node.number)
    stored = {number: staleness.stored_at(number) for number in unnamed}
    derivations = {
        number: each.fingerprint.graph_derivation
        for number, each in stored.items()
        if each is not None and each.fingerprint is not None
    }
    kept = set(derivations.values())
    found: dict[str, float] = {}
    for number in unnamed:
        expected = staleness.expected.graph_derivation(number)
        elsewhere = calls.get(derivations.get(number, ""), set()) - {number}
        each = stored[number]
        if each is not None and (elsewhere or expected in kept):
            found[order[number].name] = each.seconds
    return found if sum(found.values()) >= _LONG else {}


def _is_stale(provenance: RunProvenance, number: int) -> bool:
    verdict = provenance.staleness.known_verdict(number)
    return verdict is not None and verdict.stale == "graph"


def _is_unnamed(provenance: RunProvenance, number: int) -> bool:
    node = provenance.staleness.graph.order[number]
    base = base_name(node.func)
    return node.name.startswith(base) and _NUMBER.fullmatch(node.name[len(base) :]) is not None


def _hint_text(workflow: str, shifted: Mapping[str, float]) -> str:
    names = sorted(shifted, key=lambda name: -shifted[name])
    return (
        f"{_some(names)} of workflow {workflow!r} {'is' if len(names) == 1 else 'are'} computed again, since calls "
        f"before them were added or removed and their numbers shifted; their stored results took "
        f"{sum(shifted.values()):.0f} s. Name what is expensive: call set_name() on these nodes"
    )

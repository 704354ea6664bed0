"""Differences between the fingerprint of a stored result and the expected one, in words."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from functionfuse._provenance.moved_functions import replaced_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from functionfuse._provenance.fingerprint import Fingerprint

__all__ = ["PartChange", "changed_parts", "graph_differences", "same_code"]

#: The place of a node among the arguments: the parameter, and the first step into it.
_PLACE: Final = re.compile(r"([^\[.]*)(\[[^\]]*\]|\.\w+)?")


class PartChange(NamedTuple):
    """A part of the code that differs."""

    name: str  # the current one, if it was moved
    before: str | None  # its digest; None: the code did not reach it
    now: str | None  # None: the code does not reach it any more


def graph_differences(stored: Fingerprint, expected: Fingerprint) -> Iterator[str]:
    """What differs between two fingerprints of a node, of what is written in the graph about the node itself."""
    for place, before, now in replaced_names(stored, expected):
        yield f"{f'{place}: ' if place else 'function '}{before} was replaced by {now}"
    structure = dict(_structure_differences(stored, expected))
    yield from structure.values()
    yield from _argument_differences(stored, expected, structure)
    if stored.seed != expected.seed:
        yield f"seed changed: {_or_none(stored.seed)} -> {_or_none(expected.seed)}"


def _argument_differences(
    stored: Fingerprint, expected: Fingerprint, told: Mapping[str, str]
) -> Iterator[str]:
    before, now = stored.arguments, expected.arguments
    for name in {**before, **now}:
        if name in told or before.get(name) == now.get(name):
            continue
        old, new = stored.literals.get(name), expected.literals.get(name)
        if name not in before:
            yield f"argument {name} is new" + (f": {new}" if new else "")
        elif name not in now:
            yield f"argument {name} is no longer given" + (f"; it was {old}" if old else "")
        elif old == new:
            yield f"argument {name} changed"
        else:
            yield f"argument {name} changed: {old or '...'} -> {new or '...'}"
    if dict(before) == dict(now) and [*before] != [*now]:
        yield f"the order of arguments changed: {', '.join(before)} -> {', '.join(now)}"


def _structure_differences(stored: Fingerprint, expected: Fingerprint) -> Iterator[tuple[str, str]]:
    """For each parameter whose nodes differ, what differs."""
    before, now = _by_parameter(stored.structure), _by_parameter(expected.structure)
    for name in {**before, **now}:
        if stored.arguments.get(name) == expected.arguments.get(name):
            continue  # only names of nodes differ
        old, new = before.get(name, {}), now.get(name, {})
        items = len({_step(place) for place in old}), len({_step(place) for place in new})
        if items[0] != items[1] and all("[" in place for place in (*old, *new)):
            yield name, f"{name} has {_count(items[1])} instead of {items[0]}"
            continue
        text = _first_difference(old, new)
        if text:
            yield name, text


def _first_difference(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    for place in {**old, **new}:
        if old.get(place) != new.get(place):
            if place not in old:
                return f"{place} is {new[place]} now"
            return f"{place} is {new.get(place, 'another value')} instead of {old[place]}"
    return ""


def _by_parameter(structure: Sequence[tuple[str, str]]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for place, reference in structure:
        found.setdefault(_split(place)[0], {})[place] = reference
    return found


def _split(place: str) -> tuple[str, str]:
    match = _PLACE.match(place)
    assert match is not None
    return match[1], match[2] or ""


def _step(place: str) -> str:
    return _split(place)[1]


def _count(number: int) -> str:
    return f"{number} item{'s' * (number != 1)}"


def _or_none(seed: int | None) -> str:
    return "none" if seed is None else str(seed)


# ---- code ----


def changed_parts(stored: Fingerprint, expected: Fingerprint) -> list[PartChange]:
    """The parts of the code that differ, those that both have first, then those that are new, then the others."""
    before, now = _parts(stored), _parts(expected)
    before = {_name_now(name, before, now): digest for name, digest in before.items()}
    found = [
        PartChange(name, before.get(name), now.get(name))
        for name in {**now, **before}
        if before.get(name) != now.get(name)
    ]
    return sorted(found, key=lambda change: (change.before is None) + 2 * (change.now is None))


def same_code(stored: Fingerprint, expected: Fingerprint) -> bool:
    """Tell whether a node's own code is the same; where a part was accepted, there is no digest of all parts."""
    if stored.code:
        return stored.code == expected.code
    return not changed_parts(stored, expected)


def _name_now(name: str, before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The current name of a part of stored code: another one, if its module was renamed or it was moved."""
    if name in now:
        return name
    tail = name.rpartition(".")[2]
    moved = [each for each in now if each not in before and each.rpartition(".")[2] == tail]
    same = [each for each in moved if now[each] == before[name]]
    return min(same or moved, key=lambda each: -_common_tail(each, name), default=name)


def _common_tail(one: str, other: str) -> int:
    return len(os.path.commonprefix([one[::-1], other[::-1]]))  # noqa: RUF071 - names are no paths


def _parts(fingerprint: Fingerprint) -> dict[str, str]:
    """The digest of each part; parts of one name, as lambdas may have, count together."""
    found: dict[str, str] = {}
    for name, digest in fingerprint.parts:
        found[name] = f"{found[name]} {digest}" if name in found else digest
    return found

"""Policies for stale results: recompute, warn, ignore or error, by what differs and by node."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

from functionfuse._common.validation import validate_names
from functionfuse.errors import OptionError

__all__ = [
    "Difference",
    "OnStale",
    "ProvenanceOptions",
    "Reaction",
    "StalePolicies",
    "reactions",
    "validated_names",
]

#: What a run does with a stale result that it needs.
Reaction = Literal["recompute", "warn", "ignore", "error"]
#: What differs: something that is written in the graph (or a value that is recomputed), or code only.
Difference = Literal["graph", "code"]
#: An argument `on_stale`.
OnStale = Reaction | Mapping[Difference, Reaction]

_DEFAULTS: Final[Mapping[Difference, Reaction]] = {"graph": "recompute", "code": "warn"}


@dataclass(frozen=True, slots=True)
class StalePolicies:
    """The reaction to each difference, for all nodes and for some."""

    defaults: Mapping[Difference, Reaction] = field(default_factory=lambda: _DEFAULTS)
    by_name: Mapping[Difference, Mapping[str, Reaction]] = field(default_factory=dict)

    def of(self, name: str, difference: Difference) -> Reaction:
        """The reaction to a difference of one node."""
        return self.by_name.get(difference, {}).get(name) or self.defaults[difference]


@dataclass(frozen=True, slots=True)
class ProvenanceOptions:
    """The options of `set_storage` about stale results."""

    policies: StalePolicies = field(default_factory=StalePolicies)
    code_roots: tuple[str, ...] = ()  # folders and packages whose code counts as the project's, too
    ignore: frozenset[str] = frozenset()  # qualified names of code and globals that do not count

    def with_rules(self, rules: Mapping[Difference, Mapping[str, Reaction]]) -> ProvenanceOptions:
        """Return the options with reactions for some nodes."""
        return replace(self, policies=replace(self.policies, by_name=rules))


def reactions(on_stale: Any) -> dict[Difference, Reaction]:
    """Return the reactions that an argument `on_stale` names.

    Raises:
        OptionError: It is not a reaction, nor a mapping of differences to reactions.
    """
    given = on_stale if isinstance(on_stale, Mapping) else dict.fromkeys(_DEFAULTS, on_stale)
    validate_names(given, tuple(_DEFAULTS), "key of on_stale")
    for reaction in given.values():
        if not isinstance(reaction, str):
            message = f"on_stale takes {', '.join(map(repr, get_args(Reaction)))}, or a dict of them for 'graph' and 'code', not {reaction!r}"
            raise OptionError(message)
    validate_names(given.values(), get_args(Reaction), "value of on_stale")
    return dict(given)


def validated_names(names: Any, what: str) -> list[str]:
    """Return the names of an argument that takes several.

    Raises:
        OptionError: It is one string, or holds something else.
    """
    each = [] if isinstance(names, str | bytes) else [os.fspath(name) for name in names]
    if isinstance(names, str | bytes) or not all(isinstance(name, str) for name in each):
        message = f"{what} takes a list of strings, not {names!r}"
        raise OptionError(message)
    return each

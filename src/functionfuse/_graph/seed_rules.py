"""Seeds of nodes, derived from a root and the nodes' names."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import OptionError

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Mapping

__all__ = ["SeedRule", "check_key", "seeds_by_rule", "validated_root"]

_BYTES: Final = 16  # of the digest, that make a seed


@dataclass(frozen=True, slots=True)
class SeedRule:
    """Derives the seed of a node from its name, or from the groups that a pattern finds in the name."""

    root: int
    key: re.Pattern[str] | None = None

    def seed_of(self, name: str) -> int:
        """The seed of a node: the first 128 bits of a SHA-256 digest, big-endian.

        The digest is that of the UTF-8 text of three lines, without a line feed at its end:
        `functionfuse seed`, the root in decimal, and the name.
        With a key the first line is `functionfuse seed by key`, and the third the groups as JSON: `["3"]`.
        """
        import hashlib  # late: most workflows have no seed
        import json

        kind, last = "functionfuse seed", name
        if self.key is not None:
            match = self.key.fullmatch(name)
            assert match is not None  # see `check_key`
            kind, last = "functionfuse seed by key", json.dumps(match.groups())
        text = f"{kind}\n{self.root}\n{last}"
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:_BYTES], "big")


def seeds_by_rule(rules: Mapping[str, SeedRule | None]) -> dict[str, int]:
    """The seeds of the nodes that have a rule."""
    return {name: rule.seed_of(name) for name, rule in rules.items() if rule is not None}


def validated_root(seed: Any) -> int:
    """Return the root that seeds are derived from.

    Raises:
        OptionError: It is not an integer.
    """
    if not isinstance(seed, bool):
        try:
            return operator.index(seed)
        except TypeError:
            pass
    message = (
        f"set_seed() takes a whole number, such as 17, or None to remove the seed, not {seed!r}"
    )
    raise OptionError(message)


def check_key(key: re.Pattern[str], names: Iterable[str]) -> None:
    """Check that a key finds groups in each name.

    Raises:
        OptionError: It has no group, or does not match a name in full.
    """
    if not key.groups:
        message = (
            f"the key {key.pattern!r} of set_seed() has no group: put what nodes with one seed "
            r"have in common into parentheses, as in key=r'fit-.*-(\d+)'"
        )
        raise OptionError(message)
    other = next((name for name in names if key.fullmatch(name) is None), None)
    if other is not None:
        message = f"the key {key.pattern!r} of set_seed() does not match the name {other!r} in full"
        raise OptionError(message)

"""Fingerprint: what a result depends on, as the header of its result file holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

__all__ = ["Fingerprint"]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What one result depends on. Digests are XXH3-128 in 32 hexadecimal digits."""

    #: Digest over arguments, structure, seed, the function's name in its module and the upstream graph derivations.
    graph_derivation: str
    #: Digest over arguments, structure, seed, code and the upstream derivations.
    derivation: str
    #: The function's qualified name, with its module; a script is named after its file.
    function: str
    #: Digest of the function's code and of all project code that it reaches.
    code: str
    #: The module in the function's name; results stay fresh when the function is moved to another one.
    module: str = ""
    #: Qualified name and digest of each function, class and global value of the project that it reaches.
    parts: tuple[tuple[str, str], ...] = ()
    #: Digest of each argument, by parameter; nodes in it count by their position only.
    arguments: Mapping[str, str] = field(default_factory=dict)
    #: Short texts of small literals among the arguments, by parameter, for messages.
    literals: Mapping[str, str] = field(default_factory=dict)
    #: The derivation of each node whose result it takes, by name.
    upstream: Mapping[str, str] = field(default_factory=dict)
    #: Which item of which node is where among the arguments, by parameter: `["rows[0]", "score-0['mean']"]`.
    structure: tuple[tuple[str, str], ...] = ()
    #: The node's seed.
    seed: int | None = None
    #: Versions of the foreign distributions that the code reaches; shown, not compared.
    packages: Mapping[str, str] = field(default_factory=dict)
    #: What could not be digested, in words: "argument file: an open file".
    unknown: tuple[str, ...] = ()

    @property
    def name_in_module(self) -> str:
        """The function's qualified name in its module."""
        return self.function.removeprefix(f"{self.module}.")

    def to_header(self) -> dict[str, Any]:
        """Return the value of the header field `fingerprint`, of JSON types only."""
        return {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_header(cls, header: Any) -> Fingerprint | None:
        """Return the fingerprint of a header field; None if it is empty or was written by another program."""
        if not isinstance(header, Mapping):
            return None
        known = {name: header[name] for name in _FIELDS if name in header}
        try:
            known["parts"] = tuple((str(name), str(digest)) for name, digest in known["parts"])
            known["structure"] = tuple((str(a), str(b)) for a, b in known["structure"])
            known["unknown"] = tuple(map(str, known["unknown"]))
            return cls(**known)
        except (KeyError, TypeError, ValueError):
            return None


_FIELDS: Final = tuple(each.name for each in fields(Fingerprint))

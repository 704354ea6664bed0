"""Digests of code: a function with everything of the project that it reaches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from functionfuse._provenance.code_names import code_name, function_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

__all__ = ["CodeDigest", "CodeDigests", "function_name"]


@dataclass(frozen=True, slots=True)
class CodeDigest:
    """The code that a function depends on."""

    #: Digest over all parts.
    digest: str
    #: Qualified name and digest of each function, class and global value of the project.
    parts: tuple[tuple[str, str], ...]
    #: Versions of the foreign distributions that it reaches.
    packages: Mapping[str, str] = field(default_factory=dict)
    #: What could not be digested, in words.
    unknown: tuple[str, ...] = ()
    #: What a reader of an explanation has to know: sources that were changed since they were imported.
    notes: tuple[str, ...] = ()


class CodeDigests:
    """Digests of the functions of one plan: values of globals are those of the time of the first request."""

    def __init__(self, roots: Sequence[str] = (), ignore: Collection[str] = ()) -> None:
        self._roots = tuple(roots)
        self._ignore = frozenset(ignore)
        self._texts: dict[str, str] = {}

    @property
    def texts(self) -> Mapping[str, str]:
        """The normalized text of each part that was digested, by its digest."""
        return MappingProxyType(self._texts)

    def of(self, function: Callable[..., Any], reached: Iterable[Any] = ()) -> CodeDigest:
        """Digest a function, with further functions and classes that its arguments bring."""
        parts = sorted(self._part(each) for each in (function, *reached))
        return CodeDigest(_digest(repr(parts)), tuple(parts))

    def _part(self, function: Any) -> tuple[str, str]:
        code = getattr(function, "__code__", None)
        text = function_name(function) if code is None else code_name(function) + code.co_code.hex()
        digest = _digest(text)
        self._texts[digest] = text
        return function_name(function), digest


def _digest(text: str) -> str:
    import xxhash

    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))

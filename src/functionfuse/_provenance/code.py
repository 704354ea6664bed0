"""Digests of code: a function with everything of the project that it reaches."""

from __future__ import annotations

import functools
import inspect
import sys
from dataclasses import dataclass, field
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any

from functionfuse._graph.decorators import undecorated
from functionfuse._provenance.code_names import function_name, module_name
from functionfuse._provenance.code_parts import render_parts
from functionfuse._provenance.code_walk import CodeWalk
from functionfuse._provenance.project_border import (
    ProjectBorder,
    code_root,
    distribution_version,
    home_roots,
    portable_name,
)
from functionfuse._provenance.source_text import code_text
from functionfuse._provenance.value_digests import ValueDigests
from functionfuse._provenance.wrappers import attributes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from functionfuse._provenance.code_parts import Part

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
        """Make the digests of one plan.

        Args:
            roots: Folders, files or packages whose code counts in addition to the project's.
            ignore: Qualified names of globals, attributes of classes, functions and classes that do not count.

        Raises:
            OptionError: A root is neither.
        """
        self._roots = tuple(map(code_root, roots))
        self._ignored = frozenset(_without_script(name) for name in ignore)
        self._values = ValueDigests(portable_name, self.text_digest)
        self._walks: dict[tuple[str, ...], CodeWalk] = {}
        self._texts: dict[str, str] = {}
        self._digests: dict[tuple[int, ...], tuple[CodeDigest, Any]] = {}

    @property
    def texts(self) -> Mapping[str, str]:
        """The normalized text of each part that was digested, by its digest."""
        return MappingProxyType(self._texts)

    def of(self, function: Callable[..., Any], reached: Iterable[Any] = ()) -> CodeDigest:
        """Digest a function, with further functions and classes that its arguments bring."""
        values = function, *reached
        key = tuple(map(id, values))
        if key not in self._digests:
            # the values are held, so that no id is used again
            self._digests[key] = self._digest(values), values
        return self._digests[key][0]

    def text_digest(self, function: Callable[..., Any]) -> str:
        """Digest the text of a lambda or local function alone, without what it reaches."""
        if not isinstance(function, FunctionType):
            return ""
        return _digest(code_text(function.__code__, function.__globals__).text)

    def _digest(self, values: Sequence[Any]) -> CodeDigest:
        walk = self._walk(values[0])
        found = [walk.root(value) for value in values]
        # what arguments bring of libraries counts by its name among the arguments
        roots = [part for part in found if part is found[0] or not part.is_foreign]
        rendered = render_parts(roots, walk.name_in_module)
        labels = {id(each.part): each.name_in_module for each in rendered}
        parts, contents = [], []
        for each in rendered:
            digest = _digest(each.text)
            self._texts[digest] = each.text
            parts.append((each.label, digest))
            contents.append((each.name_in_module, digest))
        # without modules: code that was moved is the same
        whole = [labels[id(root)] for root in roots], sorted(contents)
        return CodeDigest(
            digest=_digest(repr(whole)),
            parts=tuple(sorted(parts)),
            packages=_versions([*found, *(each.part for each in rendered)]),
            unknown=tuple(sorted({words for each in rendered for words in each.part.unknown})),
            notes=tuple(sorted({words for each in rendered for words in each.part.notes})),
        )

    def _walk(self, function: Any) -> CodeWalk:
        """The walk for the project of a function."""
        module, is_own = _home_of(undecorated(function))
        roots = home_roots(module, is_own=is_own)
        if roots not in self._walks:
            border = ProjectBorder((*self._roots, *roots))
            self._walks[roots] = CodeWalk(border, self._values, self._ignored)
        return self._walks[roots]


def _home_of(function: Any) -> tuple[str, bool]:
    """The module of a function or class, and whether the module decorates it."""
    while isinstance(function, functools.partial):
        function = function.func
    space = getattr(_unwrapped(function), "__globals__", None)
    module = space.get("__name__") if space else getattr(function, "__module__", None)
    module = module if isinstance(module, str) else "builtins"
    name = getattr(function, "__name__", "")
    found: Any = attributes_of(sys.modules.get(module)).get(name)
    return module, found is not undecorated(found) and undecorated(found) is function


def _unwrapped(function: Any) -> Any:
    try:
        return inspect.unwrap(function)
    except ValueError:  # it wraps itself
        return function


def _without_script(name: str) -> str:
    """A name in the running script, with the name of its file in place of `__main__`."""
    module, _, rest = name.partition(".")
    return f"{module_name(module)}.{rest}"


def _versions(parts: Iterable[Part]) -> dict[str, str]:
    tops = {top for part in parts for top in part.packages}
    found = {distribution_version(top) for top in tops}
    return dict(sorted(version for version in found if version is not None))


def _digest(text: str) -> str:
    import xxhash  # imported when the first digest is made

    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))

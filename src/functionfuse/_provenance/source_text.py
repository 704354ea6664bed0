"""Source text of functions, normalized: without comments, formatting, docstrings and annotations.

The text represents a code object only if a compilation of its file, as it is now, makes the same code.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import linecache
import threading
import weakref
from enum import Enum
from types import CodeType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse._provenance.normal_form import normalized, text_of
from functionfuse._provenance.references import (
    References,
    references_in_bytecode,
    references_in_source,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CodeText", "Origin", "code_text"]

_FUTURE: Final = sum(
    getattr(__future__, name).compiler_flag for name in set(__future__.all_feature_names)
)
_KINDS: Final = (  # flags that the body of a function does not show
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)
_HAS_DOCSTRING: Final = getattr(inspect, "CO_HAS_DOCSTRING", None)  # since Python 3.13
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
#: All that compiles to a code object of its own; equal ones on one line would be merged.
_SCOPES: Final = (
    *_FUNCTIONS,
    *(ast.ClassDef, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)


class Origin(Enum):
    """Where the text of a code object comes from."""

    SOURCE = "source"
    BYTECODE = "bytecode"  # there is no source
    CHANGED = "changed"  # bytecode, since the source compiles to other code


class CodeText(NamedTuple):
    """The text of a code object and what it refers to."""

    text: str
    references: References
    origin: Origin


def code_text(code: CodeType, module_globals: dict[str, Any]) -> CodeText:
    """Return the text of a function's code; it is made once for a code object of this process."""
    key = id(code)
    with _lock:
        known = _texts.get(key)
        if known is None or known[0]() is not code:
            try:
                found = _from_source(code, module_globals)
            except RecursionError:  # an expression of a thousand terms
                found = _from_bytecode(code, Origin.BYTECODE)
            # by identity: equal code objects may be of different files
            known = _texts[key] = weakref.ref(code, lambda _: _texts.pop(key, None)), found
        return known[1]


_lock: Final = threading.RLock()
_texts: Final[dict[int, tuple[weakref.ref[CodeType], CodeText]]] = {}


def _from_source(code: CodeType, module_globals: dict[str, Any]) -> CodeText:
    definitions = _definitions_of(code, module_globals)
    if definitions is None:
        return _from_bytecode(code, Origin.BYTECODE)
    wanted = _identity(code)
    candidates = definitions.get(code.co_qualname, [])
    same = [(each, node) for each, node in candidates if _identity(each) == wanted]
    # of several with the same bytecode, the one at its place
    for _, node in [*((each, node) for each, node in same if each == code), *same]:
        definition = normalized(node)
        return CodeText(text_of(definition), references_in_source(definition, code), Origin.SOURCE)
    return _from_bytecode(code, Origin.CHANGED)


def _from_bytecode(code: CodeType, origin: Origin) -> CodeText:
    text = "\n".join(f"# {line}" for line in _bytecode_lines(code))
    return CodeText(text, references_in_bytecode(code), origin)


# ---- definitions of a file ----

_MAX_FILES: Final = (
    100  # parsed at a time: one takes about a megabyte, and the texts of its functions stay
)
_Definitions = dict[str, list[tuple[CodeType, ast.AST]]]
_files: Final[dict[tuple[str, int], tuple[str, _Definitions]]] = {}


def _definitions_of(code: CodeType, module_globals: dict[str, Any]) -> _Definitions | None:
    """The functions in the file of a code object, by qualified name; None without a source."""
    file = code.co_filename
    linecache.checkcache(file)
    source = "".join(linecache.getlines(file, module_globals))
    if not source:
        return None
    flags = code.co_flags & _FUTURE | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    known = _files.get((file, flags))
    if known is None or known[0] != source:
        while len(_files) >= _MAX_FILES:
            del _files[next(iter(_files))]
        known = _files[file, flags] = source, _definitions_in(source, file, flags)
    return known[1]


def _definitions_in(source: str, file: str, flags: int) -> _Definitions:
    """Pair the functions that a source compiles to with their definitions."""
    definitions: _Definitions = {}
    try:
        tree = ast.parse(source)
        compiled = compile(tree, file, "exec", flags, dont_inherit=True)
        nodes = _number_functions(tree)
        numbered = compile(tree, file, "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):  # it is being edited
        return definitions
    for code, copy in _pairs(compiled, numbered):
        node = nodes.get(copy.co_firstlineno)
        if node is not None:
            definitions.setdefault(code.co_qualname, []).append((code, node))
    return definitions


def _number_functions(tree: ast.Module) -> dict[int, ast.AST]:
    """Give each scope a line number of its own, which tells which code object was made of which function."""
    nodes: dict[int, ast.AST] = {}
    count = 1
    waiting: list[tuple[ast.AST, int]] = [(tree, 1)]
    while waiting:
        node, number = waiting.pop()
        if isinstance(node, _SCOPES):
            count = number = count + 1
            if isinstance(node, _FUNCTIONS):
                nodes[number] = node
        if hasattr(node, "lineno"):
            positions: Any = node
            positions.lineno = positions.end_lineno = number
            positions.col_offset = positions.end_col_offset = 0
        waiting.extend((child, number) for child in ast.iter_child_nodes(node))
    return nodes


def _pairs(code: CodeType, copy: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """The code objects nested in a module, each with the one at the same place of another compilation."""
    inner, copies = (
        [each for each in module.co_consts if isinstance(each, CodeType)] for module in (code, copy)
    )
    for pair in zip(inner, copies, strict=True):
        yield pair
        yield from _pairs(*pair)


# ---- bytecode ----


def _identity(code: CodeType) -> tuple[Any, ...]:
    """What code does, whatever its lines: equal for code that differs by position and docstring only."""
    return (
        *(code.co_qualname, code.co_code, code.co_exceptiontable, code.co_flags & _KINDS),
        *(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
        *(code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars),
        tuple(map(_constant_identity, _constants(code))),
    )


def _constant_identity(constant: Any) -> Any:
    if isinstance(constant, CodeType):
        return _identity(constant)
    if isinstance(constant, tuple):
        return tuple(map(_constant_identity, constant))
    if isinstance(constant, frozenset):
        return tuple(sorted(map(repr, map(_constant_identity, constant))))
    return type(constant).__name__, repr(constant)


def _constants(code: CodeType) -> tuple[Any, ...]:
    """The constants of a function without its docstring."""
    constants = code.co_consts
    if not constants or type(constants[0]) is not str or not code.co_flags & inspect.CO_NEWLOCALS:
        return constants
    # before Python 3.13, the first constant of a function is its docstring or None
    if _HAS_DOCSTRING is not None and not code.co_flags & _HAS_DOCSTRING:
        return constants
    return (None, *constants[1:])


def _bytecode_lines(code: CodeType) -> Iterator[str]:
    yield f"bytecode of {code.co_qualname}"
    for part in _identity(code)[1:-1]:
        yield part.hex() if isinstance(part, bytes) else repr(part)
    for constant in _constants(code):
        if isinstance(constant, CodeType):
            yield from _bytecode_lines(constant)
        else:
            yield repr(_constant_identity(constant))

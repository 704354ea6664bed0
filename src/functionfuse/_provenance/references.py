"""References of a function: the global names that it loads, with their attributes, and its imports."""

from __future__ import annotations

import ast
import dis
from types import CodeType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Import", "References", "references_in_bytecode", "references_in_source"]

#: A name and the attributes that are read from it one after the other: `pkg.module.function`.
Chain = tuple[str, ...]

_GLOBAL_LOADS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
#: Functions that import the module of a name, and those that run the code of a text.
_IMPORTERS: Final = frozenset({"import_module", "__import__"})
_EVALUATORS: Final = frozenset({"eval", "exec"})
_ATTRIBUTE_LOADS: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})


class Import(NamedTuple):
    """An import inside a function."""

    module: str
    level: int  # of a relative import
    name: str | None  # after `from module import`
    alias: str  # the local name that it binds; empty if nothing is known of its use
    chains: tuple[
        Chain, ...
    ] = ()  # the attributes that are read from what it binds; none: all count

    @property
    def bound(self) -> str:
        """The module that an import without `from` binds: `import a.b` binds `a`, with `as` the module itself."""
        top = self.module.partition(".")[0]
        return top if self.alias == top else self.module


class References(NamedTuple):
    """What a function refers to outside of itself, sorted."""

    chains: tuple[Chain, ...]
    imports: tuple[Import, ...]
    lookups: tuple[str, ...] = ()  # functions called that find anything by a name that is computed


def references_in_source(node: ast.AST, code: CodeType) -> References:
    """Read the references of a definition without annotations; `code` tells which names are global."""
    visitor = _Visitor()
    for part in node.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else [node]:
        visitor.visit(part.body if isinstance(part, ast.Lambda) and part is node else part)
    loaded = frozenset(_loaded_globals(code))
    chains = {chain for chain in visitor.chains if chain[0] in loaded} | visitor.named
    imports = [_with_chains(each, visitor.chains) for each in visitor.imports]
    return References(
        tuple(sorted(chains)),
        tuple(sorted(set(imports), key=repr)),
        tuple(sorted(visitor.lookups & loaded)),
    )


def references_in_bytecode(code: CodeType) -> References:
    """Read the references of code without source; all of an imported module counts."""
    chains: set[Chain] = set()
    imports: set[Import] = set()
    for each in nested_codes(code):
        chains.update(_chains_in(each))
        imports.update(_imports_in(each))
    return References(tuple(sorted(chains)), tuple(sorted(imports, key=repr)))


def nested_codes(code: CodeType) -> Iterator[CodeType]:
    """A code object, and all that are nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested_codes(constant)


class _Visitor(ast.NodeVisitor):
    """Collects chains and imports of a definition and of all that is nested in it."""

    def __init__(self) -> None:
        self.chains: set[Chain] = set()
        self.imports: list[Import] = []
        self.named: set[Chain] = set()  # by texts: `globals()["name"]`
        self.lookups: set[str] = set()

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        text = _text_of(node.args[0]) if node.args else None
        if name in _IMPORTERS and text:
            module = text.lstrip(".")
            self.imports.append(Import(module, len(text) - len(module), None, ""))
        elif isinstance(node.func, ast.Name) and name in _EVALUATORS and not self._evaluates(text):
            self.lookups.add(name)

    def _evaluates(self, text: str | None) -> bool:
        """Visit the code in the argument of `eval`; tell whether the argument is a text."""
        try:
            tree = ast.parse(text.strip()) if text is not None else None
        except (SyntaxError, ValueError):
            return False
        if tree is not None:
            inner = _Visitor()
            inner.visit(tree)
            self.named |= inner.chains | inner.named
            self.imports += inner.imports
            self.lookups |= inner.lookups
        return tree is not None

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if _is_globals(node.value):
            text = _text_of(node.slice)
            if text is None:
                self.lookups.add("globals")
            else:
                self.named.add((text,))
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self.chains.add((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        names: list[str] = []
        part: ast.expr = node
        while isinstance(part, ast.Attribute):
            names.append(part.attr)
            part = part.value
        if isinstance(part, ast.Name):
            self.chains.add((part.id, *reversed(names)))
        else:
            self.visit(part)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            bound = alias.asname or alias.name.partition(".")[0]
            self.imports.append(Import(alias.name, 0, None, bound))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            bound = alias.asname or alias.name
            self.imports.append(Import(node.module or "", node.level, alias.name, bound))


def _is_globals(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "globals"
    )


def _text_of(node: ast.AST) -> str | None:
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return node.value if is_text else None  # type: ignore[attr-defined]


def _with_chains(each: Import, chains: set[Chain]) -> Import:
    used = sorted(chain[1:] for chain in chains if chain[0] == each.alias)
    return each._replace(chains=tuple(used))


def _loaded_globals(code: CodeType) -> Iterator[str]:
    for each in nested_codes(code):
        if each.co_names:
            for instruction in dis.get_instructions(each):
                if instruction.opname in _GLOBAL_LOADS:
                    yield instruction.argval


def _chains_in(code: CodeType) -> Iterator[Chain]:
    chain: list[str] = []
    for instruction in dis.get_instructions(code):
        if chain and instruction.opname in _ATTRIBUTE_LOADS:
            chain.append(instruction.argval)
            continue
        if chain:
            yield tuple(chain)
        chain = [instruction.argval] if instruction.opname in _GLOBAL_LOADS else []


def _imports_in(code: CodeType) -> Iterator[Import]:
    level, module, names = 0, "", 0
    previous: list[object] = [0, 0]
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            if module and not names:
                yield Import(module, level, None, "")
            level = previous[-2] if isinstance(previous[-2], int) else 0
            module, names = instruction.argval, 0
        elif instruction.opname == "IMPORT_FROM":
            names += 1
            yield Import(module, level, instruction.argval, "")
        previous.append(instruction.argval)
    if module and not names:
        yield Import(module, level, None, "")

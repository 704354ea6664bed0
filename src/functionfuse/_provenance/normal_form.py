"""Normal form of definitions: the syntax tree and text without what does not count."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["normalized", "text_of"]

_MARK: Final = "_functionfuse_is_normal"
_DECORATOR: Final = "workflow"
#: Annotations in classes that decide what a dataclass makes of a name.
_COUNTED: Final = ("ClassVar", "InitVar", "KW_ONLY")
_UNUSUAL: Final = frozenset("'\"\\{}")


def normalized(node: ast.AST) -> Any:
    """Remove docstrings, annotations and our decorator from a definition or a module, in place."""
    return _Normalizer().visit(node)


def text_of(node: ast.AST) -> str:
    """Return the text of a normalized definition."""
    return ast.unparse(node)


class _Normalizer(ast.NodeTransformer):
    """Removes what has no influence on what a function does."""

    def __init__(self) -> None:
        self._in_class = False

    def visit_Module(self, node: ast.Module) -> Any:
        return self._definition(node, in_class=False)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        return self._function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        return self._definition(node, in_class=True)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if self._in_class:  # a name with an annotation may be a field
            text = ast.unparse(node.annotation)
            if not any(counted in text for counted in _COUNTED):
                node.annotation = ast.Constant(...)
            return self.generic_visit(node)
        if node.value is None:
            return ast.Pass()
        return self.generic_visit(ast.Assign([node.target], node.value, lineno=1))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        node = self.generic_visit(node)  # type: ignore[assignment]
        return node if _is_usual(node) else _as_call(node)

    def _function(self, node: Any) -> Any:
        node.returns = None
        node.decorator_list = [each for each in node.decorator_list if not _is_ours(each)]
        return self._definition(node, in_class=False)

    def _definition(self, node: Any, *, in_class: bool) -> Any:
        if hasattr(node, _MARK):  # within a function that was normalized before this one
            return node
        setattr(node, _MARK, True)
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        if hasattr(node, "type_params"):
            node.type_params = []
        outer, self._in_class = self._in_class, in_class
        self.generic_visit(node)
        self._in_class = outer
        node.body = _without_passes(node.body)
        return node


def _without_passes(body: Iterable[ast.stmt]) -> list[ast.stmt]:
    return [each for each in body if not isinstance(each, ast.Pass)] or [ast.Pass()]


def _is_ours(decorator: ast.expr) -> bool:
    """Whether a decorator is `@workflow`, by its name."""
    name = decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", "")
    return name == _DECORATOR


def _is_usual(node: ast.JoinedStr) -> bool:
    """Whether all versions of Python write an f-string with the same quotes and escapes."""
    texts = [each.value for each in node.values if isinstance(each, ast.Constant)]
    nested = [each for each in node.values if isinstance(each, ast.FormattedValue)]
    return all(
        isinstance(text, str) and text.isprintable() and _UNUSUAL.isdisjoint(text) for text in texts
    ) and not any(
        isinstance(inner, ast.Constant) and isinstance(inner.value, str | bytes)
        for each in nested
        for inner in ast.walk(each.value)
    )


def _as_call(node: ast.JoinedStr) -> ast.AST:
    """Write an f-string as a call, which has one text in all of Python's versions."""
    return ast.Call(ast.Name("f"), [_as_argument(value) for value in node.values], [])


def _as_argument(value: ast.expr) -> ast.expr:
    if not isinstance(value, ast.FormattedValue):
        return value
    parts = [value.value, ast.Constant(value.conversion)]
    return ast.Tuple([*parts, value.format_spec or ast.Constant(None)], ast.Load())

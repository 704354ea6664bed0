"""Mypy plugin: decorated classes give instances with `set_name`, and their methods give nodes.

Mypy ignores what a class decorator returns, so that without the plugin a decorated class is the plain class.
Put it in the configuration of mypy: `plugins = ["functionfuse.mypy_plugin"]`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from mypy.nodes import TypeInfo
from mypy.plugin import Plugin
from mypy.typeops import bind_self
from mypy.types import CallableType, Instance, Overloaded, get_proper_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy.plugin import AttributeContext, ClassDefContext, FunctionContext
    from mypy.types import Type

__all__ = ["plugin"]

_DECORATORS: Final = frozenset({"functionfuse._graph.decorators.workflow", "functionfuse.task"})
_INSTANCE: Final = "functionfuse._graph.instances.Instance"
_NODE: Final = "functionfuse._graph.nodes.Node"
_COROUTINE: Final = "typing.Coroutine"
_ITERATORS: Final = frozenset(
    f"typing.{name}" for name in ("Generator", "Iterator", "AsyncGenerator", "AsyncIterator")
)
_DECORATED: Final = "functionfuse"  # the key in a class's metadata


class _Plugin(Plugin):
    def get_class_decorator_hook_2(self, fullname: str) -> Callable[[ClassDefContext], bool] | None:
        return _mark if fullname in _DECORATORS else None

    def get_function_hook(self, fullname: str) -> Callable[[FunctionContext], Type] | None:
        called = self._class(fullname)
        instance = self._class(_INSTANCE)
        if called is None or instance is None or _DECORATED not in called.metadata:
            return None
        return lambda context: Instance(instance, [context.default_return_type])

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        owner, _, name = fullname.rpartition(".")
        node = self._class(_NODE)
        return partial(_method, name, node) if owner == _INSTANCE and node else None

    def _class(self, fullname: str) -> TypeInfo | None:
        symbol = self.lookup_fully_qualified(fullname)
        return symbol.node if symbol and isinstance(symbol.node, TypeInfo) else None


def _mark(context: ClassDefContext) -> bool:
    context.cls.info.metadata[_DECORATED] = {}
    return True


def _method(name: str, node: TypeInfo, context: AttributeContext) -> Type:
    """What a method of an instance is: a function that gives a node of the method's result."""
    owner = get_proper_type(context.type)
    plain = get_proper_type(owner.args[0]) if isinstance(owner, Instance) and owner.args else None
    if not isinstance(plain, Instance):
        return context.default_attr_type
    symbol = plain.type.get(name)
    found = get_proper_type(symbol.type) if symbol else None
    if not isinstance(found, CallableType | Overloaded):
        context.api.fail(f'"{plain.type.name}" has no method "{name}"', context.context)
        return context.default_attr_type
    bound = bind_self(found, plain)
    variants = [
        each.copy_modified(ret_type=Instance(node, [_result(each.ret_type, context)]))
        for each in bound.items
    ]
    return variants[0] if isinstance(bound, CallableType) else Overloaded(variants)


def _result(returned: Type, context: AttributeContext) -> Type:
    """The result of a node: what a coroutine returns, and the list of what an iterator yields."""
    declared = get_proper_type(returned)
    if not isinstance(declared, Instance):
        return declared
    if declared.type.fullname == _COROUTINE:
        return declared.args[2]
    if declared.type.fullname in _ITERATORS:
        return context.api.named_generic_type("builtins.list", [declared.args[0]])
    return declared


def plugin(_version: str) -> type[Plugin]:
    """Give the plugin to mypy."""
    return _Plugin

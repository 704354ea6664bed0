"""Walk over live objects: from a function to all code and global values of the project that it reaches."""

from __future__ import annotations

import builtins
import logging
import sys
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.decorators import undecorated
from functionfuse._provenance.class_members import members_of, names_in
from functionfuse._provenance.code_names import (
    code_name,
    function_name,
    module_name,
    module_of,
    name_parts,
)
from functionfuse._provenance.code_parts import Part
from functionfuse._provenance.literal_text import literal_text
from functionfuse._provenance.module_text import (
    GLOBALS_OF_MODULES,
    MISSING,
    absolute_name,
    loaded_module,
    module_attribute,
    module_text,
    package_of,
)
from functionfuse._provenance.project_border import is_of_python, source_file
from functionfuse._provenance.source_text import Origin, code_text
from functionfuse._provenance.wrappers import (
    attributes_of,
    contents_of,
    held_by_foreign_function,
    held_by_wrapper,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from functionfuse._provenance.project_border import ProjectBorder
    from functionfuse._provenance.references import Chain, Import
    from functionfuse._provenance.value_digests import ValueDigests

__all__ = ["CodeWalk"]

#: Libraries whose objects count by their names.
_NAMED: Final = frozenset({"typing", "functionfuse"})
_FILE: Final = " (its file)"
#: Attributes of functions and classes that count where code reads them.
_READ: Final = frozenset({"__doc__", "__annotations__"})
_HEAP_TYPE: Final = 1 << 9  # of classes whose attributes can be set
_CHANGED: Final = "its source has changed since it was imported"


class CodeWalk:
    """Makes the parts of functions of one project, each once for a plan."""

    def __init__(
        self, border: ProjectBorder, values: ValueDigests, ignored: Collection[str]
    ) -> None:
        self._border = border
        self._values = values
        self._ignored = ignored
        self._modules: set[str] = set()  # the names of modules in names of parts
        self._parts: dict[Any, Part] = {}
        self._replaced: dict[int, tuple[type, list[tuple[str, Any]]]] = {}
        self._waiting: list[tuple[Part, Callable[[Part], None]]] = []

    def root(self, value: Any) -> Part:
        """Return the part of a function, class or other callable, with all that it reaches."""
        holder = Part("")
        self._modules.add(name_parts(value)[0])
        self._link(holder, "", value, function_name(value))
        while self._waiting:
            part, expand = self._waiting.pop()
            try:
                expand(part)
            except Exception as error:  # noqa: BLE001 - of the user's classes, whose attributes may raise anything
                part.unknown.append(f"{part.name}: {type(error).__name__}: {error}")
        target = holder.links[0][1]
        if isinstance(target, Part):
            return target
        holder.name = holder.text = target
        holder.is_foreign = True
        return holder

    def name_in_module(self, name: str) -> str:
        """The name of a part without its module, which may be renamed or moved."""
        if name.endswith(_FILE):
            return name.rpartition(".")[2]
        module = name.rpartition(".")[0]
        while module and module not in self._modules:
            module = module.rpartition(".")[0]
        return name.removeprefix(f"{module}.")

    # ---- what a name refers to ----

    def _link(self, part: Part, name: str, value: Any, place: str = "") -> None:
        place = place or f"{part.name}.{name}"
        part.link(name, self._target(part, undecorated(value), place))

    def _target(self, part: Part, value: Any, place: str) -> Part | str:
        kind = type(value)
        if place in self._ignored:
            return "ignored"
        if issubclass(kind, ModuleType):
            return self._module(part, attributes_of(value).get("__name__", ""))
        if issubclass(kind, FunctionType):
            return self._function(part, value)
        if issubclass(kind, type):
            return self._class(part, value)
        return self._object(part, value, place)

    def _object(self, part: Part, value: Any, place: str) -> Part | str:
        """What is neither a module nor a function nor a class."""
        kind = type(value)
        held = held_by_wrapper(value, is_project=self._border.has_module(module_of(kind)))
        if held is not None:
            name = f"{place} ({kind.__qualname__})"  # the function in it has the name of the place
            return self._made(value, name, lambda made: self._expand_wrapper(made, value, held))
        library = module_of(kind).partition(".")[0]
        if issubclass(kind, BuiltinFunctionType) or library in _NAMED:
            return self._foreign(part, value)
        if issubclass(kind, logging.Logger):  # its name is that of the module
            return "a logger"
        return self._value(part, value, place)

    def _module(self, part: Part, name: str) -> Part | str:
        """A module that is passed as a value: all of it counts."""
        if not self._border.has_module(name):
            part.packages.add(name.partition(".")[0])
            return f"module {name}"
        return self._file_of(name)

    def _function(self, part: Part, function: FunctionType) -> Part | str:
        code = function.__code__
        name = code_name(function)
        self._modules.add(name.removesuffix(f".{code.co_qualname}"))
        if name in self._ignored:
            return "ignored"
        space = function.__globals__
        module = space.get("__name__") or ""
        if self._border.has_module(module, space.get("__file__") or code.co_filename):
            return self._named(function, name, lambda made: self._expand_function(made, function))
        part.packages.add(module.partition(".")[0])
        held = held_by_foreign_function(function)
        if not held:
            return self._foreign(part, function)
        label = f"{module.partition('.')[0]}: {code.co_qualname}"
        return self._named(function, label, lambda made: self._expand_held(made, held))

    def _class(self, part: Part, kind: type) -> Part | str:
        name = function_name(kind)
        self._modules.add(name_parts(kind)[0])
        if name in self._ignored:
            return "ignored"
        if not self._border.has_module(module_of(kind)):
            return self._foreign_class(part, kind)
        return self._named(kind, name, lambda made: self._expand_class(made, kind))

    def _foreign_class(self, part: Part, kind: type) -> Part | str:
        """The name of a class of a library, or a part if the project replaced some of its methods."""
        name, held = self._foreign(part, kind), self._replaced_in(kind)
        return self._named(kind, name, lambda made: self._expand_held(made, held)) if held else name

    def _replaced_in(self, kind: Any) -> list[tuple[str, Any]]:
        """What the project put into a library's class: functions, and classes in descriptors."""
        if not issubclass(type(kind), type) or not kind.__flags__ & _HEAP_TYPE:
            return []
        known = self._replaced.get(id(kind))  # a metaclass may have another hash
        if known is None:
            members: dict[str, Any] = {}
            for base in reversed(kind.__mro__):
                members.update(vars(base))
            held = [
                (name, own)
                for name, value in sorted(members.items())
                for own in (value, *attributes_of(value).values())  # in an accessor of pandas
                if self._is_own(own)
            ]
            known = self._replaced[id(kind)] = kind, held
        return known[1]

    def _foreign(self, part: Part, value: Any) -> str:
        """The name of something that is not of the project, without the private modules of its library."""
        name = function_name(value)
        top = name.partition(".")[0]
        part.packages.add(top)
        named = getattr(value, "__qualname__", None)
        return f"{top}: {named if isinstance(named, str) else type(value).__qualname__}"

    def _value(self, part: Part, value: Any, place: str) -> Part | str:
        """Any other value; small literals are written where they are used."""
        text = literal_text(value, part.file)
        if text is not None:
            return text
        if callable(value):  # its class, or a function in it, may have the name of the place
            place = f"{place} ({type(value).__qualname__})"
        return self._made(value, place, lambda made: self._expand_value(made, value))

    # ---- making parts ----

    def _named(self, value: Any, name: str, expand: Callable[[Part], None]) -> Part:
        """The part of an object that has a name of its own."""
        return self._part(id(value), value, name, expand)

    def _made(self, value: Any, place: str, expand: Callable[[Part], None]) -> Part:
        """The part of an object that is named after its place."""
        return self._part((id(value), place), value, place, expand)

    def _part(self, key: Any, value: Any, name: str, expand: Callable[[Part], None]) -> Part:
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = Part(name, value)
            self._waiting.append((part, expand))
        return part

    def _expand_wrapper(self, part: Part, value: Any, held: list[tuple[str, Any]]) -> None:
        if issubclass(type(value), BuiltinFunctionType):
            part.text = f"# {value.__name__}"
        if self._border.has_module(module_of(type(value))):
            self._link(part, "type", type(value))
        self._expand_held(part, held)

    def _expand_held(self, part: Part, held: list[tuple[str, Any]]) -> None:
        for name, value in held:
            self._link(part, name, value)

    def _expand_value(self, part: Part, value: Any) -> None:
        found = self._values.of(value, part.name)
        part.text = f"# {type(value).__qualname__} {found.digest}"
        part.unknown.extend(found.unknown)
        for number, reached in enumerate(found.reached):
            target = self._target(part, undecorated(reached), f"{part.name}[{number}]")
            if isinstance(target, Part):
                part.link(f"reaches {number}", target)

    def _expand_function(self, part: Part, function: FunctionType) -> None:
        code, space = function.__code__, function.__globals__
        found = code_text(code, space)
        part.text = found.text
        part.file = space.get("__file__")
        if found.origin is Origin.CHANGED:
            part.text = f"# {_CHANGED}\n{part.text}"
            part.notes.append(f"{part.name}: {_CHANGED}")
        for chain in found.references.chains:
            self._global(part, space, chain)
        for each in found.references.imports:
            self._import(part, space, each)
        for lookup in found.references.lookups:
            part.unknown.append(f"{part.name}: {lookup}() finds code by a name that is computed")
        defaults = function.__defaults__ or ()
        names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
        for name, value in zip(names, defaults, strict=True):
            self._link(part, f"default {name}", value)
        for name, value in sorted((function.__kwdefaults__ or {}).items()):
            self._link(part, f"default {name}", value)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            self._link(part, f"closure {name}", contents_of(cell))
        for name, value in sorted(function.__dict__.items()):
            if name == "__wrapped__" or not name.startswith("__"):
                self._link(part, f"attribute {name}", value)

    def _expand_class(self, part: Part, kind: type) -> None:
        part.text = f"class {kind.__qualname__}:"
        part.file = source_file(module_of(kind))
        for number, base in enumerate(kind.__bases__):
            if base is not object:
                self._link(part, f"base {number}", base)
        metaclass = type(kind)
        if metaclass is not type:
            self._link(part, "metaclass", metaclass)
        reads_annotations = not (
            is_of_python(module_of(metaclass)) or self._border.has_module(module_of(metaclass))
        )
        for name, value in members_of(kind, reads_annotations=reads_annotations):
            self._link(part, name, value, f"{part.name}.{name}")
            if "__subclasses__" in names_in(value):
                self._link_subclasses(part, kind)

    # ---- globals and imports ----

    def _global(self, part: Part, space: dict[str, Any], chain: Chain) -> None:
        name = chain[0]
        if name in GLOBALS_OF_MODULES:
            return
        if name in space:
            module = self._module_label(space.get("__name__"))
            self._follow(part, name, space[name], f"{module}.{name}", chain[1:])
        elif not hasattr(builtins, name):
            part.link(name, "not defined")

    def _follow(self, part: Part, name: str, value: Any, place: str, attributes: Chain) -> None:
        """Read attributes of modules of the project up to something else."""
        for at, attribute in enumerate(attributes):
            module = self._project_module(value)
            if module is not None and attribute == "__dict__":  # anything of the module
                break
            if module is None:
                self._read_on(part, name, value, attributes[at:])
                break
            name, place = f"{name}.{attribute}", f"{self._module_label(module)}.{attribute}"
            value = module_attribute(value, attribute)
            if value is MISSING:
                self._missing(part, name, module, attribute)
                return
        self._link(part, name, value, place)

    def _read_on(self, part: Part, name: str, value: Any, attributes: Chain) -> None:
        """Look at attributes of a value that is not a module of the project."""
        first = attributes[0]
        if issubclass(type(value), ModuleType):
            inner = module_attribute(value, first)
            if self._is_own(inner) or self._replaced_in(inner):  # the project replaced something
                self._link(part, f"{name}.{first}", inner)
            elif attributes[1:] and inner is not MISSING:
                self._read_on(part, f"{name}.{first}", inner, attributes[1:])
        elif first == "__subclasses__" and issubclass(type(value), type):
            self._link_subclasses(part, value)
        elif first in _READ and issubclass(type(value), FunctionType | type):
            self._link(part, f"{name}.{first}", getattr(value, first))

    def _is_own(self, value: Any) -> bool:
        """Whether a function or class is of the project."""
        if issubclass(type(value), FunctionType):
            space = value.__globals__
            file = space.get("__file__") or value.__code__.co_filename
            return self._border.has_module(space.get("__name__") or "", file)
        return issubclass(type(value), type) and self._border.has_module(module_of(value))

    def _link_subclasses(self, part: Part, kind: type) -> None:
        """Link the classes of the project that `kind.__subclasses__()` finds."""
        subclasses: list[type] = type.__subclasses__(kind)
        for each in subclasses:
            if self._is_own(each):
                self._link(part, f"subclass {function_name(each)}", each)
                self._link_subclasses(part, each)

    def _project_module(self, value: Any) -> str | None:
        if not issubclass(type(value), ModuleType):
            return None
        name = str(attributes_of(value).get("__name__", ""))
        return name if self._border.has_module(name) else None

    def _missing(self, part: Part, name: str, module: str, attribute: str) -> None:
        """An attribute that a module has only when it is used: a module that is imported late, or anything."""
        submodule = f"{module}.{attribute}"
        if loaded_module(module) is None:
            part.link(name, self._file_of(module))
        elif source_file(submodule) is not None:
            loaded_module(submodule)
            part.link(name, self._file_of(submodule))
        elif (make := attributes_of(loaded_module(module)).get("__getattr__")) is not None:
            self._link(part, f"{name} from __getattr__", make)
            part.unknown.append(f"{module_name(module)}.{attribute}: made when it is used")
        else:
            part.link(name, "not defined")

    def _import(self, part: Part, space: dict[str, Any], each: Import) -> None:
        module = absolute_name(each.module, each.level, package_of(space))
        if not self._border.has_module(module):
            part.packages.add(module.partition(".")[0])
            return
        label = self._module_label(module)
        loaded = loaded_module(module)
        written = f"{'.' * each.level}{each.module}"
        if loaded is None or (each.name is None and not each.chains):
            part.link(f"import {written}", self._file_of(module))
        elif each.name is None:
            bound = each.bound if each.bound != each.module else module
            for chain in each.chains:
                self._follow(part, f"import {bound}", sys.modules[bound], module_name(bound), chain)
        else:
            for chain in each.chains or ((),):
                attributes = (each.name, *chain)
                self._follow(part, f"import {written}", loaded, label, attributes)

    def _module_label(self, name: str | None) -> str:
        label = module_name(name)
        self._modules.add(label)
        return label

    def _file_of(self, name: str) -> Part:
        label = f"{module_name(name)}{_FILE}"
        return self._part(("file", name), None, label, lambda made: self._expand_file(made, name))

    def _expand_file(self, part: Part, name: str) -> None:
        found = module_text(name)
        if found is None:
            part.text = "# without a file"
            return
        part.text = found.text
        for imported in found.imports:
            if not self._border.has_module(imported):
                part.packages.add(imported.partition(".")[0])
            elif source_file(imported) is not None:
                part.link(f"import {imported.rpartition('.')[2]}", self._file_of(imported))

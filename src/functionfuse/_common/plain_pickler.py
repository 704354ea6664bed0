"""Plain pickler: a third of the time of the cloudpickle-based one, with its reductions of exceptions, arrays and tensors."""

from __future__ import annotations

import copyreg
import io
import pickle
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.exception_reduction import reduce_exception
from functionfuse._common.recursion import deep_recursion
from functionfuse._common.script_objects import may_be_of_script
from functionfuse._common.script_references import is_global_object, reduce_script_object
from functionfuse._common.tensor_reduction import TensorReducer
from functionfuse._common.view_reduction import reduce_array

if TYPE_CHECKING:
    from functionfuse._common.pickler import KeepBuffer

__all__ = ["Pickler", "ReferencePickler", "dumps", "send_by_value"]

_by_value: Final = set[str]()


def send_by_value(module: str) -> None:
    """Refuse functions and classes of a module in this process, since the module has other contents in the reading process."""
    _by_value.add(module)


class Pickler(pickle.Pickler):
    """Pickles functions and classes by name; reduces exceptions, arrays, tensors and methods of shared generators."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take the arguments of `pickle.Pickler`."""
        super().__init__(*arguments, **options)
        self._reduce_tensor = TensorReducer()

    def dump(self, obj: Any) -> None:
        """Pickle a value, however deep it is."""
        with deep_recursion:
            super().dump(obj)

    def reducer_override(self, obj: Any) -> Any:
        """Reduce exceptions and methods; called for every object but those of a few builtin types."""
        kind = type(obj)
        if kind is FunctionType or issubclass(kind, type):
            return self.reduce_global(obj)
        if issubclass(kind, BaseException):
            return reduce_exception(obj, copyreg.dispatch_table.get(kind)) or NotImplemented
        if kind is MethodType or kind is BuiltinFunctionType:
            from functionfuse._common.global_references import reduce_method

            return reduce_method(obj) or NotImplemented
        if kind.__name__ == "ndarray":  # a name, so that numpy is not imported for a class
            return reduce_array(obj) or NotImplemented
        if kind.__name__ == "Tensor":
            return self._reduce_tensor(obj) or NotImplemented
        return self.reduce_other(obj, kind)

    def reduce_other(self, obj: Any, kind: type) -> Any:  # noqa: ARG002 - for subclasses
        """Reduce any other object; by default, as pickle does."""
        return NotImplemented

    def reduce_global(self, value: Any) -> Any:
        """Reduce a function or class; by default, by name.

        Raises:
            PicklingError: It has to be pickled by value.
        """
        if value.__module__ in _by_value:
            raise _not_by_name(value)
        return NotImplemented


class ReferencePickler(Pickler):
    """Pickles classes and functions of a script as references, which outlive the process."""

    def reduce_global(self, value: Any) -> Any:
        if not may_be_of_script(value):
            return NotImplemented
        reference = reduce_script_object(value)
        if reference is None:
            raise _not_by_name(value)
        return reference

    def reduce_other(self, obj: Any, kind: type) -> Any:
        """Refer to objects that pickle would find under a name in `__main__`."""
        if is_global_object(obj, kind) and (reference := reduce_script_object(obj)):
            return reference
        return NotImplemented


def _not_by_name(value: Any) -> pickle.PicklingError:
    return pickle.PicklingError(
        f"{value.__qualname__} of {value.__module__} has to be pickled by value"
    )


def dumps(
    value: Any, *, protocol: int | None = None, buffer_callback: KeepBuffer | None = None
) -> bytes:
    """Pickle a value; the arguments are those of `pickle.dumps`."""
    with io.BytesIO() as file:
        Pickler(file, protocol, buffer_callback=buffer_callback).dump(value)
        return file.getvalue()

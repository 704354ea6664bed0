"""PyTorch serializer: tensors and state dicts as safetensors, or in PyTorch's own format.

State dicts have no type of their own, so the serializer gets every dict of a value: a dict of tensors
under str keys becomes one file; every other dict is pickled, and its tensors are stored one by one.
Memory is stored once, however many tensors of a result have a view of it, and is shared again when it is read.
Safetensors stores numbers and shapes. Strides, gradients and conjugation are stored in addition;
sparse layouts and other devices in PyTorch's own format, which is read without running code.
Tensors of other classes are pickled.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse.errors import MissingExtraError, StorageError
from functionfuse.serializers.base import FOLDER_PROTOCOL
from functionfuse.serializers.checksummed_files import read_file, write_file

try:
    import torch
    from safetensors import torch as safetensors
except ImportError as error:
    message = "TorchSerializer needs PyTorch and safetensors: pip install torch safetensors"
    raise MissingExtraError(message) from error

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

    from functionfuse.serializers.base import ResultFolder

__all__ = ["TorchSerializer"]

_VERSION: Final = "1"
_VIEW_VERSION: Final = "2"  # of a tensor with the memory of another one
_SAFE, _TORCH = "safetensors", "pt"
_SAFE_VERSION: Final = (2, 6)  # of PyTorch: in earlier versions weights_only=True could run code
_ALONE: Final = "tensor"  # the name of a single tensor
_RESERVED: Final = "__metadata__"  # by safetensors
_DTYPES: Final = frozenset(
    {
        *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
        *(torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
    }
)


class _SavedTensors(NamedTuple):
    """The tensors of one save, which are kept alive so that no other object gets their ids."""

    #: By identity of the tensor.
    pids: dict[int, tuple[Any, tuple[Any, ...]]]
    #: By address of the memory: the pid of a tensor with this memory.
    storages: dict[int, tuple[Any, tuple[Any, ...]]]


class TorchSerializer:
    """Stores tensors and state dicts as safetensors, or in PyTorch's format if safetensors cannot."""

    serializer_class = (torch.Tensor, dict)
    name = "TorchSerializer"

    @classmethod
    def pickle(
        cls, obj: Any, protocols: MutableMapping[str, Any]
    ) -> tuple[str, tuple[Any, ...]] | None:
        """Write a tensor or a state dict; None for other dicts, and for tensors of other classes."""
        written = protocols.setdefault(cls.name, _SavedTensors({}, {}))
        if type(obj) in (dict, OrderedDict):
            pid = _write_dict(obj, protocols[FOLDER_PROTOCOL], written)
        elif id(obj) in written.pids:
            pid = written.pids[id(obj)][1]
        else:
            pid = _write_tensor(obj, protocols[FOLDER_PROTOCOL], written)
        return None if pid is None else (cls.name, pid)

    @classmethod
    def unpickle(cls, pid: Sequence[Any], protocols: MutableMapping[str, Any]) -> Any:
        """Read a tensor or a state dict, or a tensor of a state dict, or another one with the memory of these."""
        version, *rest = pid
        if version == _VIEW_VERSION:
            base, *form = rest
            return _view_memory(cls.unpickle(base, protocols), *form)
        name, digest, *of_dict = rest
        # by file, so that a tensor of a state dict stays the same object
        read = protocols.setdefault(cls.name, {})
        if name not in read:
            data = read_file(protocols[FOLDER_PROTOCOL], name, digest)
            read[name] = _read(data, name, *of_dict[:2])
        return read[name][of_dict[2]] if of_dict[2:] else read[name]

    @classmethod
    def remove(cls, pid: Sequence[Any], protocols: MutableMapping[str, Any]) -> None:
        """Remove the file of a tensor or state dict."""
        version, *rest = pid
        name = rest[0][1] if version == _VIEW_VERSION else rest[0]
        protocols[FOLDER_PROTOCOL].remove(name)


# ---- writing ----


def _write_tensor(
    tensor: Any, folder: ResultFolder, written: _SavedTensors
) -> tuple[Any, ...] | None:
    if not _is_tensor(tensor):
        return None
    pid: tuple[Any, ...]
    address = _address(tensor)
    base = written.storages.get(address, (None, None))[1]
    if _is_plain(tensor) and base is None:
        pid = _VERSION, *write_file(folder, _SAFE, safetensors.save({_ALONE: tensor}))
    elif address:
        pid = _write_view(tensor, base, folder, written)
    else:
        pid = _VERSION, *write_file(folder, _TORCH, _save_to_bytes(tensor))
    _note(tensor, pid, written)
    return pid


def _write_view(
    tensor: Any, base: Any, folder: ResultFolder, written: _SavedTensors
) -> tuple[Any, ...]:
    """Write the memory of a tensor, unless it is written already; returns the tensor's form in addition."""
    if base is None:
        plain = tensor.detach()
        if not _is_plain(plain):  # a part of its memory, or in another order
            plain = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
        base = _VERSION, *write_file(folder, _SAFE, safetensors.save({_ALONE: plain}))
        written.storages[_address(tensor)] = tensor, base
    return _VIEW_VERSION, base, *_form(tensor)


def _write_dict(
    tensors: dict[Any, Any], folder: ResultFolder, written: _SavedTensors
) -> tuple[Any, ...] | None:
    if not _is_state_dict(tensors):
        return None
    if any(
        id(tensor) in written.pids or _address(tensor) in written.storages
        for tensor in tensors.values()
    ):
        return None
    if _RESERVED in tensors or not _are_apart(tensors):
        file = write_file(folder, _TORCH, _save_to_bytes(tensors))
    else:
        file = write_file(folder, _SAFE, safetensors.save(tensors))
    # safetensors sorts its keys; the state dict of a module has versions as an attribute
    attributes = vars(tensors) if isinstance(tensors, OrderedDict) else None
    pid = (_VERSION, *file, tuple(tensors), attributes)
    for name, tensor in tensors.items():
        _note(tensor, (*pid, name), written)
    return pid


def _note(tensor: Any, pid: tuple[Any, ...], written: _SavedTensors) -> None:
    """Note that a tensor is written, for other references to it and for tensors with the same memory."""
    written.pids[id(tensor)] = tensor, pid
    if pid[0] != _VIEW_VERSION and (address := _address(tensor)):
        written.storages.setdefault(address, (tensor, pid))


def _is_tensor(value: Any) -> bool:
    """Whether PyTorch's own format stores a tensor completely, to be read without running code."""
    known = type(value) in (torch.Tensor, torch.nn.Parameter)
    return known and not vars(value) and value.device.type != "meta"


def _is_state_dict(value: dict[Any, Any]) -> bool:
    """Whether a dict has plain tensors under str keys; parameters of modules are stored one by one."""
    return bool(value) and all(
        type(name) is str and type(tensor) is torch.Tensor and _is_tensor(tensor)
        for name, tensor in value.items()
    )


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor consists of its numbers and its shape only."""
    return (
        type(tensor) is torch.Tensor
        and (tensor.layout, tensor.device.type) == (torch.strided, "cpu")
        and tensor.dtype in _DTYPES
        and not (tensor.requires_grad or tensor.is_nested or tensor.is_conj() or tensor.is_neg())
        and tensor.stride() == torch.empty(tensor.shape, device="meta").stride()
        and tensor.untyped_storage().nbytes() == tensor.nbytes
    )


def _address(tensor: Any) -> int:
    """The address of the memory of a tensor; 0 if it has none, or none that others may have a view of."""
    if tensor.layout is not torch.strided or tensor.device.type != "cpu":
        return 0
    if tensor.is_nested or tensor.is_quantized:
        return 0
    return int(tensor.untyped_storage().data_ptr())


def _are_apart(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether tensors are plain and share no memory."""
    if not all(map(_is_plain, tensors.values())):
        return False
    pointers = [tensor.data_ptr() for tensor in tensors.values() if tensor.nbytes]
    return len(pointers) == len(set(pointers)) and len({*map(id, tensors.values())}) == len(tensors)


def _as_dict(
    tensors: Mapping[str, torch.Tensor], order: Sequence[str], attributes: dict[str, Any] | None
) -> dict[str, torch.Tensor]:
    if attributes is None:
        return {name: tensors[name] for name in order}
    ordered = OrderedDict((name, tensors[name]) for name in order)
    vars(ordered).update(attributes)
    return ordered


def _read(data: bytes, name: str, *of_dict: Any) -> Any:
    if name.endswith(_TORCH):
        if torch.__version__ < _SAFE_VERSION:
            message = (
                f"PyTorch {torch.__version__} may run code from a stored tensor: "
                "pip install --upgrade torch"
            )
            raise StorageError(message)
        return torch.load(io.BytesIO(data), weights_only=True, map_location=_here)
    tensors = safetensors.load(data)
    return _as_dict(tensors, *of_dict) if of_dict else tensors[_ALONE]


def _form(tensor: Any) -> tuple[Any, ...]:
    """What a tensor is in addition to its memory, for `_view_memory`."""
    flags = {
        "parameter": type(tensor) is torch.nn.Parameter,
        "gradient": tensor.requires_grad,
        "conjugate": tensor.is_conj(),
        "negative": tensor.is_neg(),
    }
    return (
        str(tensor.dtype).removeprefix("torch."),
        (tuple(tensor.size()), tuple(tensor.stride()), tensor.storage_offset()),
        tuple(name for name, is_set in flags.items() if is_set),
    )


def _view_memory(
    base: Any, dtype: str, place: tuple[tuple[int, ...], tuple[int, ...], int], flags: Sequence[str]
) -> Any:
    """A tensor with the memory of another one."""
    size, stride, offset = place
    tensor = torch.empty(0, dtype=getattr(torch, dtype))
    tensor.set_(base.untyped_storage(), offset, size, stride)
    if "conjugate" in flags:
        tensor = tensor.conj()
    if "negative" in flags:
        tensor = torch._neg_view(tensor)  # noqa: SLF001 - nothing public sets the bit of is_neg()
    if "parameter" in flags:
        return torch.nn.Parameter(tensor, requires_grad="gradient" in flags)
    return tensor.requires_grad_() if "gradient" in flags else tensor


def _save_to_bytes(value: Any) -> bytes:
    sink = io.BytesIO()
    torch.save(value, sink)
    return sink.getvalue()


def _here(storage: Any, location: str) -> Any:
    """Map a tensor to its device, or to the CPU if the device is missing."""
    device = torch.device(location).type
    is_available = device == "cpu" or getattr(getattr(torch, device, None), "is_available", bool)()
    return None if is_available else storage

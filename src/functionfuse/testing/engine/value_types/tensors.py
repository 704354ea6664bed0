"""Tensors of torch: every dtype and layout, views, quantised and conjugate ones, and modules."""

from __future__ import annotations

from typing import Any, Final

import torch

from functionfuse.comparison.exact import difference
from functionfuse.testing.engine.value_types.table import LARGE, ValueType

__all__ = ["VALUE_TYPES"]

_DTYPES: Final = (
    *("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16"),
    *("float32", "float64", "complex64", "complex128", "float8_e4m3fn", "uint16"),
)
_MANY: Final = LARGE // 4


def _numbers(dtype: str) -> ValueType:
    return ValueType(f"tensor, {dtype}", lambda: torch.tensor([1, 0, 3]).to(getattr(torch, dtype)))


def _ones(*shape: int) -> Any:
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


def _sparse() -> Any:
    return torch.sparse_coo_tensor([[0, 2], [1, 0]], [1.0, 2.0], (3, 2)).coalesce()


def _shared_memory() -> Any:
    whole = _ones(4)
    return [whole, whole[1:3]]


def _same_memory(expected: Any, actual: Any) -> str:
    whole, part = actual
    if whole.untyped_storage().data_ptr() != part.untyped_storage().data_ptr():
        return "the view has a copy of the memory"
    return difference(expected, actual)


def _same_twice() -> Any:
    tensor = _ones(2)
    return {"a": tensor, "b": [tensor]}


def _module() -> Any:
    module = torch.nn.Linear(2, 1)
    for parameter in module.parameters():
        torch.nn.init.constant_(parameter, 0.5)
    return module


def _same_module(expected: Any, actual: Any) -> str:
    return difference(dict(expected.named_parameters()), dict(actual.named_parameters()))


VALUE_TYPES: Final = (
    *map(_numbers, _DTYPES),
    ValueType("tensor, 0-d", lambda: torch.tensor(-0.0)),
    ValueType("tensor, empty", lambda: torch.empty(0, 3, dtype=torch.bfloat16)),
    ValueType("tensor, transposed", lambda: _ones(2, 3).T),
    ValueType(
        "tensor, channels last", lambda: _ones(1, 2, 2, 3).to(memory_format=torch.channels_last)
    ),
    ValueType("tensor, part", lambda: _ones(6)[1:5:2]),
    ValueType("tensor, expanded", lambda: _ones(3).expand(2, 3)),
    ValueType("tensor, large", lambda: _ones(_MANY)),
    ValueType("tensor, large, bfloat16", lambda: _ones(_MANY).bfloat16()),
    ValueType("tensor, large, transposed", lambda: _ones(2, _MANY).T),
    ValueType("tensor, sparse COO", _sparse),
    ValueType("tensor, sparse CSR", lambda: _ones(2, 3).to_sparse_csr()),
    ValueType(
        "tensor, quantised", lambda: torch.quantize_per_tensor(_ones(3), 0.1, 5, torch.qint8)
    ),
    ValueType("tensor, conjugate view", lambda: torch.tensor([1 + 2j]).conj()),
    ValueType("tensor, negative view", lambda: torch.tensor([1 + 2j]).conj().imag),
    ValueType("tensor, with gradient", lambda: _ones(2).requires_grad_()),
    ValueType("tensor, parameter", lambda: torch.nn.Parameter(_ones(2))),
    ValueType("tensor, one in several places", _same_twice),
    ValueType("tensor, shared memory", _shared_memory, _same_memory),
    ValueType("tensor, in containers", lambda: {"a": [(_ones(2).bfloat16(), _sparse())]}),
    ValueType("module of torch", _module, _same_module),
    ValueType(
        "dtype and shape of torch", lambda: [torch.bfloat16, torch.Size([2]), torch.device("cpu")]
    ),
)

"""Tensors: what is read is exactly what was saved, as safetensors where that can be."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
from serializer_helpers import Kept, in_another_process, kept, local

from functionfuse.errors import CorruptResult

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from functionfuse.serializers.torch import TorchSerializer  # noqa: E402 - after its libraries

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["kept", "local"]

NUMBERS = torch.arange(6.0)
DTYPES = [
    *("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128", "float8_e4m3fn"),
]
FORMS: dict[str, tuple[Callable[[], Any], str]] = {
    "plain": (lambda: torch.arange(6.0).reshape(2, 3), "safetensors"),
    "number": (lambda: torch.tensor(2.5), "safetensors"),
    "empty": (lambda: torch.zeros(0, 3), "safetensors"),
    "transposed": (lambda: torch.arange(6.0).reshape(2, 3).T, "safetensors"),
    "odd strides": (lambda: torch.arange(6.0).as_strided((1, 3), (9, 1)), "safetensors"),
    "part": (lambda: torch.arange(6.0)[2:4], "safetensors"),
    "expanded": (lambda: torch.ones(1).expand(5), "safetensors"),
    "gradient": (lambda: torch.arange(6.0, requires_grad=True), "safetensors"),
    "parameter": (lambda: torch.nn.Parameter(torch.arange(6.0)), "safetensors"),
    "constant parameter": (
        lambda: torch.nn.Parameter(torch.ones(2), requires_grad=False),
        "safetensors",
    ),
    "negative": (lambda: torch.tensor([1 + 2j]).conj().imag, "safetensors"),
    "bits": (lambda: torch.arange(6.0).view(torch.int32), "safetensors"),
    "part of eight bits": (lambda: torch.ones(6).to(torch.float8_e4m3fn)[2:], "safetensors"),
    "part without items": (lambda: torch.arange(6.0)[3:3], "safetensors"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "pt"),
    "conjugate": (lambda: torch.tensor([1 + 2j]).conj(), "safetensors"),
    "attribute": (lambda: with_attribute(torch.arange(6.0)), ""),
    "buffer": (lambda: torch.nn.Buffer(torch.ones(2)), ""),
}


def with_attribute(tensor: Any) -> Any:
    """A tensor with something more to it, that PyTorch does not read without running code."""
    tensor.more = complex(1, 2)
    return tensor


def same(expected: Any, actual: Any) -> None:
    """Two tensors are the same in everything that one can tell."""
    assert type(expected) is type(actual)
    for name in ("dtype", "layout", "shape", "device", "requires_grad", "is_leaf"):
        assert getattr(expected, name) == getattr(actual, name)
    assert expected.is_conj() == actual.is_conj()
    assert expected.is_neg() == actual.is_neg()
    assert vars(expected) == vars(actual)
    if expected.layout is torch.strided:
        assert expected.stride() == actual.stride()
        assert expected.storage_offset() == actual.storage_offset()
        assert expected.untyped_storage().nbytes() == actual.untyped_storage().nbytes()
    assert torch.equal(expected.detach().to_dense(), actual.detach().to_dense())


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_is_kept(local: Kept, name: str) -> None:
    """As numbers that one can calculate with."""
    tensor = torch.tensor([0, 1, 1]).to(getattr(torch, name))
    found = local.round_trip(tensor, TorchSerializer)
    assert tensor.dtype == found.dtype
    assert tensor.tolist() == found.tolist()


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_every_form_is_kept(local: Kept, name: str) -> None:
    """Strides, memory, gradients, classes; each in the format that keeps it."""
    make, ending = FORMS[name]
    same(make(), local.round_trip(make(), TorchSerializer))
    assert ending == "".join(path.rpartition(".")[2] for path in local.objects())


def test_loaded_values_are_writable(kept: Kept) -> None:
    """Like the saved value, and the file stays unchanged."""
    storage = kept.storage(TorchSerializer)
    storage.save("w", "node", [NUMBERS])
    (found,) = storage.read_task("w", "node")
    found += 1
    assert torch.equal(NUMBERS + 1, found)
    assert torch.equal(NUMBERS, storage.read_task("w", "node")[0])


def model() -> Any:
    """A small model with parameters and buffers."""
    return torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))


@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_a_state_dict_is_one_file(kept: Kept, kind: Any) -> None:
    """A state dict is read in its order and type, with the version metadata of its module."""
    state = kind(model().state_dict())
    if kind is OrderedDict:
        state = model().state_dict()
    found = kept.round_trip({"epoch": 3, "state": state}, TorchSerializer)["state"]
    assert kind is type(found)
    assert list(state) == list(found)
    assert getattr(state, "_metadata", None) == getattr(found, "_metadata", None)
    for name, tensor in state.items():
        same(tensor, found[name])
    (file,) = kept.objects()
    assert file.endswith(".safetensors")
    model().load_state_dict(found)
    kept.storage(TorchSerializer).remove_task("w", "node")
    assert [] == kept.files()


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"a": NUMBERS, "b": NUMBERS},
        lambda: {"a": NUMBERS, "b": NUMBERS[:2]},
        lambda: OrderedDict(a=NUMBERS.view(2, 3), b=NUMBERS.view(3, 2)),
    ],
    ids=["same", "part", "views"],
)
def test_shared_memory_stays_shared(local: Kept, make: Callable[[], dict[str, Any]]) -> None:
    """Tied weights are tied again."""
    found = local.round_trip(make(), TorchSerializer)
    for name, tensor in make().items():
        same(tensor, found[name])
    found["a"].fill_(7)
    assert 7.0 == float(found["b"].min())
    assert (make()["a"] is make()["b"]) == (found["a"] is found["b"])


VIEWS: dict[str, Callable[[Any], list[Any]]] = {
    "batches": lambda tensor: list(tensor.split(10)),
    "whole and parts": lambda tensor: [tensor, tensor[:10], tensor.view(10, -1).T, tensor.detach()],
    "parts and whole": lambda tensor: [tensor[:10], tensor[5:], tensor],
    "dicts": lambda tensor: [{"x": part, "y": part[:2]} for part in tensor.split(10)],
    "state dict and parts": lambda tensor: [{"x": tensor, "y": torch.ones(2)}, tensor[:10]],
    "parts and state dict": lambda tensor: [tensor[:10], {"x": tensor, "y": torch.ones(2)}],
    "parameters": lambda tensor: [torch.nn.Parameter(part) for part in tensor.split(10)],
    "bits": lambda tensor: [tensor, tensor.view(torch.int32)[3:]],
    "dtypes": lambda tensor: list(tensor.to(torch.float8_e4m3fn).split(10)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_stored_once(kept: Kept, name: str) -> None:
    """The memory of all views is in one file, and is shared again."""
    expected = VIEWS[name](torch.arange(10_000.0))
    found = kept.round_trip(expected, TorchSerializer)
    pairs = list(zip(leaves(expected), leaves(found), strict=True))
    for one, other in pairs:
        same(one, other)
    memory = {tensor.untyped_storage().data_ptr() for tensor in leaves(found)}
    assert len({tensor.untyped_storage().data_ptr() for tensor in leaves(expected)}) == len(memory)
    size = sum(kept.filesystem.size(path) for path in kept.objects())
    assert size < 10_000 * 4 + 10_000
    for path in kept.objects():
        assert path.endswith(("safetensors", "pt"))
    kept.storage(TorchSerializer).remove_task("w", "node")
    assert [] == kept.files()


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("name", sorted(VIEWS.keys() - {"bits", "dtypes"}))
def test_views_are_pickled_once(local: Kept, name: str) -> None:
    """Without the serializer, too: except views of another dtype, and dtypes that PyTorch cannot unpickle."""
    expected = VIEWS[name](torch.arange(10_000.0))
    found = local.round_trip(expected)
    for one, other in zip(leaves(expected), leaves(found), strict=True):
        same(one, other)
    memory = {tensor.untyped_storage().data_ptr() for tensor in leaves(found)}
    assert len({tensor.untyped_storage().data_ptr() for tensor in leaves(expected)}) == len(memory)
    assert len(local.result()) < 10_000 * 4 + len(leaves(expected)) * 500


def leaves(values: list[Any]) -> list[Any]:
    """The tensors of a list, also those in dicts."""
    return [
        tensor
        for value in values
        for tensor in (value.values() if isinstance(value, dict) else [value])
    ]


def test_other_dicts_are_as_ever(local: Kept) -> None:
    """Not all tensors, not all texts, a name that safetensors takes for itself, a class of its own."""
    values: list[dict[Any, Any]] = [
        {},
        {"a": NUMBERS, "b": 1},
        {1: NUMBERS},
        {"__metadata__": NUMBERS},
        {"a": torch.nn.Parameter(NUMBERS)},
        State(a=NUMBERS),
    ]
    found = local.round_trip(values, TorchSerializer)
    assert [type(value) for value in values] == [type(value) for value in found]
    for one, other in zip(values, found, strict=True):
        assert list(one) == list(other)
        for key, value in one.items():
            assert repr(value) == repr(other[key])


class State(dict[str, Any]):
    """A dict of a class of its own."""


def test_a_model_is_kept(local: Kept) -> None:
    """As a whole: its parameters are parameters, also those that two layers share."""
    made = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    made[1].weight = made[0].weight
    found = local.round_trip(made, TorchSerializer)
    assert found[1].weight is found[0].weight
    assert isinstance(found[0].weight, torch.nn.Parameter)
    assert torch.equal(made(torch.ones(3)), found(torch.ones(3)))


def test_a_tensor_that_is_there_twice_is_one_again(local: Kept) -> None:
    """Alone, or in state dicts, whichever comes first."""
    tensor, other = torch.ones(3), torch.zeros(2)
    value = [tensor, (tensor,), {"a": other, "b": torch.ones(1)}, {"c": other, "d": tensor}, other]
    first, (second,), one, two, last = local.round_trip(value, TorchSerializer)
    assert first is second is two["d"]
    assert last is one["a"] is two["c"]
    assert 2 == len(local.objects())


@pytest.mark.parametrize(
    "tensor", [torch.ones(3), torch.eye(3).to_sparse()], ids=["safetensors", "pt"]
)
def test_a_damaged_tensor_is_not_read(kept: Kept, tensor: Any) -> None:
    """Not a byte other than was written."""
    storage = kept.storage(TorchSerializer)
    storage.save("w", "node", tensor)
    (file,) = kept.objects()
    content = bytearray(kept.filesystem.cat_file(file))
    content[-5] ^= 1
    kept.filesystem.pipe_file(file, bytes(content))
    with pytest.raises(CorruptResult, match="does not match its checksum"):
        storage.read_task("w", "node")


def test_reading_runs_no_code(local: Kept) -> None:
    """References of PyTorch's own format are read as data: allowed_types still holds."""
    storage = local.storage(TorchSerializer)
    storage.save("w", "node", [torch.ones(3)[:2], {"a": torch.ones(2)}])
    safe = local.storage(TorchSerializer, allowed_types=[])
    part, state = safe.read_task("w", "node")
    same(torch.ones(3)[:2], part)
    same(torch.ones(2), state["a"])


def test_a_tensor_of_a_device_that_is_not_here_is_read(local: Kept) -> None:
    """On the processor: a notebook has no such device."""
    storage = local.storage(TorchSerializer)
    in_another_process(_save_as_if_on_cuda, storage)
    assert [[1.0, 0.0], [0.0, 1.0]] == storage.read_task("w", "node").to_dense().tolist()


def _save_as_if_on_cuda(storage: Any) -> None:
    torch.serialization.register_package(0, lambda _: "cuda:0", lambda _, __: None)
    storage.save("w", "node", torch.eye(2).to_sparse())

"""Arrays and tensors in one safetensors part, by meaningless names."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skuq._utils._arrays import tensor_of
from skuq._utils._optional import import_optional
from skuq.exceptions import PersistenceError
from skuq.persistence import _json

__all__ = ["TensorReader", "TensorWriter", "header_of", "usual_order"]

_MOST_HEADER = 16 * 2**20
_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8,
    "F8_E4M3": 1, "F8_E5M2": 1, "F16": 2, "BF16": 2, "F32": 4, "F64": 8, "C64": 8,
}  # fmt: skip


_DTYPES = {
    torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32,
    torch.uint64, torch.int64, torch.float8_e4m3fn, torch.float8_e5m2, torch.float16,
    torch.bfloat16, torch.float32, torch.float64, torch.complex64,
}  # fmt: skip


def _safetensors() -> Any:
    return import_optional("safetensors.torch", "save", "saving and loading")


class TensorWriter:
    """Collects tensors for the file.

    A tensor is known by its index. `add` also records the order of its axes in memory, because
    bit-equal results depend on it.
    """

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._safetensors = _safetensors()  # fails here if it is missing, before any work

    def add(self, tensor: Tensor) -> dict[str, Any]:
        """Add a tensor; return its name, and the order of its axes if that is unusual."""
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
            raise PersistenceError(
                f"a tensor of layout {tensor.layout} and dtype {tensor.dtype} cannot be saved, "
                "only dense ones"
            )
        tensor = tensor.detach().resolve_conj().resolve_neg().cpu()
        if tensor.dtype == torch.complex128:  # which safetensors does not know
            return {**self.add(torch.view_as_real(tensor)), "complex": True}
        if tensor.dtype not in _DTYPES:
            raise PersistenceError(f"a tensor of {tensor.dtype} cannot be saved")
        strides = tensor.stride()
        order = sorted(range(tensor.ndim), key=lambda axis: (-strides[axis], axis))
        is_usual = order == list(range(tensor.ndim)) or tensor.is_contiguous()
        if not is_usual and not tensor.permute(order).is_contiguous():
            is_usual = True  # overlapping or with gaps: such a layout cannot be kept
        stored = tensor if is_usual else tensor.permute(order)
        name = f"t{len(self._tensors)}"
        self._tensors[name] = stored.clone(memory_format=torch.contiguous_format)
        return {"tensor": name} if is_usual else {"tensor": name, "order": order}

    def add_array(self, array: np.ndarray) -> dict[str, Any]:
        """Add an array of numbers, as a tensor of native byte order."""
        try:
            return self.add(tensor_of(array, only_read=True, order="K"))
        except TypeError:
            raise PersistenceError(f"an array of dtype {array.dtype} cannot be saved") from None

    def __len__(self) -> int:
        return len(self._tensors)

    def forget(self, n_kept: int) -> None:
        """Forget all tensors but the first `n_kept`."""
        for name in list(self._tensors)[n_kept:]:
            del self._tensors[name]

    def dump(self) -> bytes:
        """Make the safetensors part."""
        content: bytes = self._safetensors.save(self._tensors)
        return content


class TensorReader:
    """The tensors of a part, by name.

    Each has its own memory, and `get` returns each only once: a file of a megabyte must not become
    a gigabyte.
    """

    def __init__(self, part: bytes) -> None:
        header_of(part)
        try:
            self._tensors: dict[str, Tensor] = _safetensors().load(part)
        except ImportError:
            raise
        except Exception as error:  # the Rust library has its own types of errors
            raise PersistenceError(f"tensors.safetensors is malformed: {error}") from None

    def get(self, node: dict[str, Any]) -> Tensor:
        """Return the tensor that `TensorWriter.add` described."""
        name, order = node.get("tensor"), node.get("order")
        tensor = self._tensors.pop(name, None) if isinstance(name, str) else None
        if tensor is None:
            raise PersistenceError(
                f"tensor {str(name)[:80]!r} is referred to, but is not in the file, or not any more"
            )
        # A copy: in the file, tensors are not aligned, and kernels may round in another way.
        tensor = tensor.clone()
        tensor = tensor.permute(usual_order(range(tensor.ndim), order))
        return _complex(tensor) if node.get("complex") is True else tensor

    def get_array(self, node: dict[str, Any]) -> np.ndarray:
        tensor = self.get(node)
        try:
            return tensor.numpy()
        except TypeError:
            raise PersistenceError(f"dtype {tensor.dtype} is none of NumPy's") from None

    def check_all_used(self) -> None:
        """Refuse tensors that nothing refers to: `save` writes none."""
        if self._tensors:
            raise PersistenceError(
                "tensors.safetensors holds tensors that nothing refers to: "
                f"{sorted(self._tensors)[:5]}"
            )


def _complex(pairs: Tensor) -> Tensor:
    """Make complex numbers from real and imaginary parts, the last axis."""
    if pairs.dtype != torch.float64 or pairs.ndim == 0 or pairs.shape[-1] != 2:
        raise PersistenceError(
            f"a tensor of {pairs.dtype} and shape {tuple(pairs.shape)} holds no complex numbers"
        )
    return torch.complex(pairs[..., 0], pairs[..., 1])


def usual_order(axes: Sequence[int], order: Any) -> tuple[int, ...]:
    """Sort values that belong to axes from the stored order to the usual one."""
    if order is None:
        return tuple(axes)
    is_order = isinstance(order, list) and all(type(axis) is int for axis in order)
    if not is_order or sorted(order) != list(range(len(axes))):
        raise PersistenceError(f"a tensor has {len(axes)} axes, but their order is {order!r}"[:300])
    return tuple(axes[order.index(axis)] for axis in range(len(axes)))


def header_of(part: bytes) -> dict[str, tuple[str, list[int]]]:
    """Read the dtype and shape of each tensor, by name, and check all sizes.

    Raises
    ------
    PersistenceError
        Unless the tensors fill the part completely, one after the other.
    """
    what = "the header of tensors.safetensors"
    size = struct.unpack("<Q", part[:8])[0] if len(part) >= 8 else 0
    if not 0 < size <= min(len(part) - 8, _MOST_HEADER):
        raise PersistenceError(
            f"{what} declares {size} bytes, the part has {len(part)}, and at most {_MOST_HEADER} "
            "are accepted"
        )
    header = _json.parse(part[8 : 8 + size], what)
    if not isinstance(header, dict):
        raise PersistenceError(f"{what} is no JSON object")
    found, spans = {}, []
    for name, entry in header.items():
        dtype, shape, start, stop = _entry(name, entry)
        n_bytes = _ITEM_BYTES[dtype]
        for length in shape:
            n_bytes *= length
        if stop - start != n_bytes:
            raise PersistenceError(
                f"tensor {name[:80]!r} has shape {tuple(shape)[:8]} of {dtype}, {n_bytes:.4g} "
                f"bytes, but is given {stop - start}"
            )
        found[name] = dtype, shape
        spans.append((start, stop))
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise PersistenceError("tensors.safetensors has gaps, or tensors that overlap")
        end = stop
    if 8 + size + end != len(part):
        raise PersistenceError(
            f"tensors.safetensors has {len(part) - 8 - size} bytes of data, its header says {end}"
        )
    return found


def _entry(name: str, entry: Any) -> tuple[str, list[int], int, int]:
    if isinstance(entry, dict) and set(entry) == {"dtype", "shape", "data_offsets"}:
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        sound = isinstance(dtype, str) and dtype in _ITEM_BYTES
        sound = sound and isinstance(shape, list) and len(shape) <= 32
        sound = sound and isinstance(offsets, list) and len(offsets) == 2
        if sound and all(type(n) is int and 0 <= n < 2**63 for n in (*shape, *offsets)):
            return dtype, shape, *offsets
    raise PersistenceError(f"tensor {name[:80]!r} has a malformed entry: {str(entry)[:200]}")

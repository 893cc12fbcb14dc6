"""Move a module to another precision or device without a change of its numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skuq._utils._random import PrivateGlobals

__all__ = [
    "check_precision",
    "dtypes_that_change",
    "float_dtype",
    "is_usual",
    "moved",
    "not_finite",
]

_ORDINARY = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _dtype_in(tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of a tensor once its module has the precision `dtype`.

    Complex numbers stay complex. Integers, booleans and special storage dtypes (quantised, float8)
    stay as they are.
    """
    if tensor.is_complex():
        return dtype.to_complex()
    return dtype if tensor.dtype in _ORDINARY else tensor.dtype


def float_dtype(module: nn.Module) -> torch.dtype:
    """Return the dtype in which a module computes, from its first floating or complex tensor."""
    known = [t.dtype for t in (*module.parameters(), *module.buffers())]
    known = [dtype.to_real() if dtype.is_complex else dtype for dtype in known]
    return next((dtype for dtype in known if dtype in _ORDINARY), torch.float32)


def moved(module: nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> nn.Module:
    """Move all tensors of a module to a device and into a precision, in place.

    Unlike `nn.Module.to`, it keeps imaginary parts. It also moves tensors that are plain attributes
    of a layer, and widens them if they are narrower than the precision.

    Parameters
    ----------
    module : nn.Module
        The module, changed in place.
    device : torch.device
        The new device.
    dtype : torch.dtype, default=None
        float32 or float64. None keeps all dtypes.

    Returns
    -------
    nn.Module
        The same module.
    """

    def converted(tensor: Tensor) -> Tensor:
        return tensor.to(device, tensor.dtype if dtype is None else _dtype_in(tensor, dtype))

    def widened(tensor: Tensor) -> Tensor:
        wanted = tensor.dtype if dtype is None else _dtype_in(tensor, dtype)
        return tensor.to(device, torch.promote_types(tensor.dtype, wanted)).detach()

    module._apply(converted)
    known: dict[int, Tensor] = {}  # a tensor that several layers share stays one
    for layer in module.modules():
        for name, value in list(vars(layer).items()):
            if isinstance(value, Tensor):
                vars(layer)[name] = known.setdefault(id(value), widened(value))
    return module


@torch.no_grad()
def dtypes_that_change(module: nn.Module, dtype: torch.dtype) -> set[torch.dtype]:
    """Return the dtypes of parameters and buffers that a change to this precision changes."""
    tensors = [*module.parameters(), *module.buffers()]
    return {tensor.dtype for tensor in tensors if _dtype_in(tensor, dtype) != tensor.dtype}


def check_precision(
    probe: nn.Module, rows: Tensor, numerics: Any, tolerances: dict[torch.dtype, float]
) -> None:
    """Refuse a module whose outputs change with the precision.

    Parameters
    ----------
    probe : nn.Module
        A copy of the module in eval mode, some of whose dtypes change. It is moved.
    rows : Tensor of shape (n_rows, ...)
        Rows in the dtype of the module.
        numerics : Numerics
            The new device and precision.
    tolerances : dict of torch.dtype to float
        Allowed differences of outputs, relative to the largest output.

    Raises
    ------
    ValueError
        If outputs differ by more than the coarsest of the dtypes explains.
    """
    dtype = numerics.dtype
    changing = dtypes_that_change(probe, dtype)
    outputs = []
    for part in ("before", "again", "after"):
        if part == "after":
            moved(probe, numerics.device, dtype)
            rows = rows.to(numerics.device, dtype)
        with PrivateGlobals(0), numerics.without_autocast():
            output = probe(rows.clone())
        outputs.append(output[0] if isinstance(output, tuple | list) else output)
    if not all(isinstance(output, Tensor) for output in outputs):
        return
    before, again, after = (o.to(numerics.device).to(torch.complex128) for o in outputs)
    kinds = {dtype, *(kind.to_real() if kind.is_complex else kind for kind in changing)}
    # Numbers of 16 bits lose more to cancellation than small outputs keep.
    least = 1.0 if kinds & {torch.float16, torch.bfloat16} else 0.0
    largest = max([float(o.abs().max()) for o in (before, after) if o.isfinite().all()] or [1.0])
    limit = max(tolerances[kind] for kind in kinds) * (least + largest)
    repeats = torch.allclose(before, again, rtol=0, atol=limit)  # else refused elsewhere
    if repeats and not torch.allclose(before, after, rtol=0, atol=limit, equal_nan=True):
        had = ", ".join(sorted(map(str, changing)))
        widest = max(kinds, key=lambda kind: torch.finfo(kind).bits)
        raise ValueError(
            f"{type(probe).__name__} gives other outputs once its numbers, which are {had}, become "
            f"{dtype}: they change by up to {float((before - after).abs().max()):.3g} on three "
            f"rows. Set precision={str(widest).partition('.')[2]!r}, or let its forward compute "
            "with numbers that need fewer digits"
        )


def is_usual(tensor: Tensor) -> bool:
    """Return whether a tensor can be stacked and compared: dense, and of an ordinary dtype."""
    if tensor.layout is not torch.strided or tensor.is_quantized:
        return False
    return tensor.dtype in _ORDINARY or tensor.is_complex() or not tensor.is_floating_point()


def not_finite(module: nn.Module) -> str | None:
    """Find a parameter or buffer with invalid values; return its name, or None.

    NaN is invalid anywhere. Infinity is valid only in buffers that are no statistics of a
    normalisation, since a mask that is added to scores holds it on purpose.
    """
    for prefix, layer in module.named_modules():
        statistics = isinstance(layer, nn.modules.batchnorm._NormBase)
        for name, tensor in layer._parameters.items():
            if tensor is not None and not bool(torch.isfinite(_numbers(tensor)).all()):
                return f"{prefix}.{name}".lstrip(".")
        for name, tensor in layer._buffers.items():
            strange = (lambda t: ~torch.isfinite(t)) if statistics else torch.isnan
            if tensor is not None and bool(strange(_numbers(tensor)).any()):
                return f"{prefix}.{name}".lstrip(".")
    return None


def _numbers(tensor: Tensor) -> Tensor:
    """Return the values of a tensor in a dtype in which torch computes."""
    if not (tensor.is_floating_point() or tensor.is_complex()):  # which are finite
        return torch.zeros(1)
    tensor = tensor.detach()
    if tensor.layout is torch.sparse_coo:
        tensor = tensor._values()
    elif tensor.layout is not torch.strided:
        tensor = tensor.values()
    is_known = tensor.dtype in _ORDINARY or tensor.is_complex()
    return tensor if is_known else tensor.float()

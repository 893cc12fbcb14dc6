"""Collect the tensors of a module, and compare tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["agree", "tensors_of"]


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module, by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def agree(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Return whether a equals b, up to a tolerance times 1 + max |b|; NaN equals NaN."""
    if a.shape != b.shape:
        return False
    if not (b.is_floating_point() or b.is_complex()):
        return torch.equal(a, b)
    sizes = b.detach().abs()
    sizes = sizes[~sizes.isnan()]
    largest = float(sizes.max()) if sizes.numel() else 0.0
    return torch.allclose(a, b, rtol=0, atol=tolerance * (1 + largest), equal_nan=True)

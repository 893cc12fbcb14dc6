"""Checks of what users give as probabilities or moments of draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from skuq._utils._arrays import tensor_of

__all__ = ["checked_probabilities", "checked_tensor"]


def checked_tensor(values: Any, name: str, ndim: int) -> Tensor:
    """Make a float64 tensor of finite values; an error calls them `name`."""
    if not isinstance(values, Tensor):
        values = tensor_of(np.asarray(values, dtype=float))
    tensor: Tensor = values.double()
    if tensor.ndim < ndim or tensor.numel() == 0:
        raise ValueError(
            f"{name} must be a non-empty array of at least {ndim} dimensions, got shape "
            f"{tuple(tensor.shape)}"
        )
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} contains NaN or infinity")
    return tensor


def checked_probabilities(values: Any, name: str, ndim: int) -> Tensor:
    """Make a float64 tensor of probabilities that sum to 1 over axis ``ndim - 1``, the classes."""
    tensor, class_axis = checked_tensor(values, name, ndim), ndim - 1
    if bool((tensor < -1e-6).any()) or bool((tensor > 1 + 1e-6).any()):
        raise ValueError(f"{name} must lie in [0, 1], got values outside")
    total = tensor.sum(class_axis)
    worst = float((total.detach() - 1).abs().max())
    if worst > 1e-4:
        raise ValueError(
            f"{name} must sum to 1 over the classes (axis {class_axis}), got sums that differ from "
            f"1 by up to {worst:.3g}"
        )
    return tensor.clamp(0, 1)

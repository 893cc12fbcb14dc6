"""Collect the tensors of a module, and compare tensors."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["agree", "all_agree", "tensors_of"]


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module, by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def agree(a: Tensor, b: Tensor, tolerance: float, kinds: Sequence[Hashable] | None = None) -> bool:
    """Return whether a equals b, up to a tolerance relative to their largest absolute value.

    The unit of the values does not matter. NaN equals NaN, and an infinity only itself; they have
    no say in what is the largest value.

    Parameters
    ----------
    a, b : Tensor
        The tensors; those of different shapes are not equal, and integers must be the same.
    tolerance : float
        The largest difference, as a part of the largest absolute value in a and b.
    kinds : sequence, default=None
        A kind for each place of the second axis. Each kind has a largest value of its own, so that
        log-variances of −20 do not hide differences of means of 1e-6. None: all are of one kind.
    """
    if a.shape != b.shape:
        return False
    if not (b.is_floating_point() or b.is_complex()):
        return torch.equal(a, b)
    if kinds is None:
        return _differ_by_at_most(a, b, tolerance * max(_largest(a), _largest(b)))
    places: dict[Hashable, list[int]] = {}
    for place, kind in enumerate(kinds):
        places.setdefault(kind, []).append(place)
    return all(agree(a[:, own], b[:, own], tolerance) for own in places.values())


def all_agree(pairs: Sequence[tuple[Tensor, Tensor]], tolerance: float) -> bool:
    """Return whether tensors equal each other in pairs, relative to the largest value of all.

    For tensors some of which are 0 up to rounding, such as the gradient of a bias before a batch
    normalisation.
    """
    largest = max((_largest(tensor) for pair in pairs for tensor in pair), default=0.0)
    return all(
        a.shape == b.shape and _differ_by_at_most(a, b, tolerance * largest) for a, b in pairs
    )


def _largest(tensor: Tensor) -> float:
    """Return the largest finite absolute value, or 0 if there is none."""
    sizes = tensor.detach().abs()
    sizes = sizes[torch.isfinite(sizes)]
    return float(sizes.max()) if sizes.numel() else 0.0


def _differ_by_at_most(a: Tensor, b: Tensor, limit: float) -> bool:
    return torch.allclose(a, b, rtol=0, atol=limit, equal_nan=True)

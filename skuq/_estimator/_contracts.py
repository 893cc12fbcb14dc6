"""Check that posteriors and likelihoods, which users may write, return what they must."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from skuq._engine._draws import Draws
from skuq._networks._module import Numerics
from skuq.likelihoods import Likelihood
from skuq.posteriors import Posterior

__all__ = ["check_loss", "checked_draws"]

_FEW = 3  # rows on which a loss is tried


def checked_draws(draws: Any, posterior: Posterior, x: Tensor, numerics: Numerics) -> Draws:
    """Return the draws of a posterior, if they fit their module.

    Raises
    ------
    TypeError
        If they are no `Draws`.
    ValueError
        If a tensor has the name or the shape of none in the module.
    """
    name = type(posterior).__name__
    if not isinstance(draws, Draws):
        raise TypeError(
            f"{name}.fit returned {type(draws).__name__}, expected skuq.posteriors.Draws: return "
            "Draws(network) for one network, or Draws(network, {name: stacked tensor}) for several"
        )
    try:
        draws.check(x, numerics)
    except ValueError as error:
        raise ValueError(
            f"{name}.fit returned draws that do not fit their module: {error}"
        ) from None
    return draws


def check_loss(likelihood: Likelihood, encoded: np.ndarray, numerics: Numerics) -> None:
    """Raise a ValueError unless a likelihood gives one loss for each row.

    A mean, or a column, would be multiplied by the weights of the rows without an error.
    """
    target = torch.as_tensor(encoded[:_FEW])
    target = target.to(numerics.dtype if target.is_floating_point() else torch.int64)
    output = torch.zeros(len(target), likelihood.n_outputs_, dtype=numerics.dtype)
    for name in ("loss", "negative_log_likelihood"):
        loss = getattr(likelihood, name)(output, target)
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        if shape != (len(target),):
            raise ValueError(
                f"{type(likelihood).__name__}.{name} returned {shape} for {len(target)} rows, "
                f"expected a tensor of shape ({len(target)},), one loss for each row: sum over the "
                "last axis with .sum(-1), and take no mean over rows"
            )

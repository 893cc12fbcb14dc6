"""Quantiles of an equal mixture of distributions, one component per draw."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

__all__ = ["mixture_quantile"]

_MAX_STEPS = 200


def mixture_quantile(components: Distribution, q: float) -> Tensor:
    """Where the mean of the components' distribution functions is `q`.

    The quantiles of the components bracket that of the mixture; inside, Newton's steps, or
    bisection where they leave the bracket or do not shrink it. Each element stops by itself, so
    the result for a row does not depend on the others.

    Parameters
    ----------
    components : Distribution of batch shape (n_draws, ...), with `cdf`, `icdf`, `log_prob`
    q : float in (0, 1)

    Returns
    -------
    Tensor of shape (...)
    """
    level = torch.full_like(components.mean, q)
    single = components.icdf(level)
    low, high = single.amin(0), single.amax(0)
    resolution = 1e-13 * (components.stddev.amin(0) + low.abs() + high.abs())
    x = single.mean(0)
    done = high - low <= resolution
    for step in range(_MAX_STEPS):
        if bool(done.all()):
            break
        excess = components.cdf(x).mean(0) - q
        low = torch.where((excess < 0) & ~done, x, low)
        high = torch.where((excess >= 0) & ~done, x, high)
        newton = x - excess / components.log_prob(x).exp().mean(0)
        bisect = ~((newton > low) & (newton < high)) | (step % 3 == 2)  # NaN bisects, too
        moved = torch.where(bisect, (low + high) / 2, newton)
        finished = ((moved - x).abs() <= resolution) | (high - low <= resolution)
        x = torch.where(done, x, moved)
        done = done | finished
    return x

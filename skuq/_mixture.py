"""Mixtures of distributions, one component per draw.

Components have batch shape (n_draws, ...) and give `mean`, `variance`, `cdf`, `icdf`, `log_prob`.
Those with `is_discrete` are over the integers. Those of `skuq._derived` know themselves how the
quantiles and scores of their mixtures come from those of what they are made of.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from skuq._distributions import invert, least_integer

__all__ = [
    "LEVELS",
    "NODES",
    "SHARES",
    "device_of",
    "is_discrete",
    "mixture_cdf",
    "mixture_crps",
    "mixture_log_prob",
    "mixture_quantile",
    "normal_mixture_crps",
]

# Levels Φ(t) for integrals over (0, 1): the trapezoid rule in t converges geometrically there.
NODES = torch.linspace(-8, 8, 129, dtype=torch.float64)
LEVELS = torch.special.ndtr(NODES).clamp(1e-15, 1 - 2e-16)
SHARES = torch.softmax(-0.5 * NODES.square(), 0)
_LATTICE = 1024  # integers that a sum visits at most


def mixture_quantile(components: Distribution, q: float | Tensor) -> Tensor:
    """Where the mean of the components' distribution functions is `q`.

    The quantiles of the components bracket that of the mixture. Each element is searched by
    itself, so the result for a row does not depend on the others. Of discrete components it is
    the least integer that reaches `q`.

    Parameters
    ----------
    components : Distribution of batch shape (n_draws, ...)
    q : float in (0, 1), or Tensor of shape (...) of them, with further axes before

    Returns
    -------
    Tensor of shape (...), with the further axes of q before
    """
    level = torch.as_tensor(q, dtype=torch.float64, device=device_of(components))
    if hasattr(components, "quantile_of_mixture"):
        return components.quantile_of_mixture(level)
    n_draws, *shape = components.batch_shape
    axis = -1 - len(shape)  # of the draws
    level = level.expand(*level.shape[: max(0, level.ndim - len(shape))], *shape)
    single = components.icdf(level.unsqueeze(axis))
    if n_draws == 1:
        return single.squeeze(axis)
    low, high = single.amin(axis), single.amax(axis)

    def cdf(x: Tensor) -> Tensor:
        return components.cdf(x.unsqueeze(axis)).mean(axis)

    def density(x: Tensor) -> Tensor:
        return components.log_prob(x.unsqueeze(axis)).exp().mean(axis)

    if is_discrete(components):
        return least_integer(cdf, level, low - 1, high)
    resolution = 1e-13 * (components.stddev.amin(0) + low.abs() + high.abs())
    return invert(cdf, density, level, single.mean(axis), low, high, resolution)


def mixture_cdf(components: Distribution, y: Tensor) -> Tensor:
    """P(Y ≤ y) under the mixture, for y of shape (...)."""
    return components.cdf(y).mean(0)


def mixture_log_prob(components: Distribution, y: Tensor) -> Tensor:
    """Log density of all targets together: components of batch shape (n_draws, n_rows, n_targets).

    Targets are independent given the draw, so their densities multiply inside of the mean.
    """
    joint = components.log_prob(y).sum(-1)
    return joint.logsumexp(0) - math.log(len(joint))


def mixture_crps(components: Distribution, y: Tensor) -> Tensor:
    """Continuous ranked probability score of the mixture, for y of shape (...)."""
    if isinstance(components, Normal):
        return normal_mixture_crps(y, components.mean, components.stddev)
    if hasattr(components, "crps_of_mixture"):
        return components.crps_of_mixture(y)
    if is_discrete(components):
        return _discrete_crps(components, y)
    score = torch.zeros_like(y)  # 2 ∫ pinball loss dq
    for level, share in zip(LEVELS.tolist(), SHARES.tolist()):
        excess = y - mixture_quantile(components, level)
        score += 2 * share * torch.maximum(level * excess, (level - 1) * excess)
    return score


def _discrete_crps(components: Distribution, y: Tensor) -> Tensor:
    """Σ_k (F(k) − 1{y ≤ k})² over the integers, exactly where they are not too many.

    Else every h-th of them counts for h, with the ends of the sums on both sides of y halved: the
    Euler-Maclaurin formula of a smooth F. Between integers the score is linear in y.
    """
    ends = LEVELS[[0, -1]].tolist()
    low = mixture_quantile(components, ends[0]) - 1
    high = mixture_quantile(components, ends[1]) + 1
    inside = y.clamp(low, high)
    score = (y - inside).abs()  # beyond them F is 0 or 1
    floor = inside.floor()
    step = ((high - low) / _LATTICE).ceil()
    for k, share in ((floor, floor + 1 - inside), (floor + 1, inside - floor)):
        if bool((share > 0).any()):
            score = score + share * _sum_about(components, k, low, high, step)
    return score


def _sum_about(
    components: Distribution, y: Tensor, low: Tensor, high: Tensor, step: Tensor
) -> Tensor:
    """Of F² below an integer y, and of (1 − F)² from it on."""
    at = mixture_cdf(components, y)
    total = (step - 1) / 2 * at.square() + (step + 1) / 2 * (1 - at).square()
    for j in range(1, int(torch.maximum((y - low) / step, (high - y) / step).max()) + 1):
        below = mixture_cdf(components, y - j * step).square()
        above = (1 - mixture_cdf(components, y + j * step)).square()
        total = total + step * (below + above)
    return total


def normal_mixture_crps(y: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """E|Y − y| − ½ E|Y − Y'| in closed form; a component of std 0 is a point.

    Parameters
    ----------
    y : Tensor of shape (...)
    mean, std : Tensor of shape (n_draws, ...)

    Returns
    -------
    Tensor of shape (...)
    """
    n_draws, variance = len(mean), std.square()
    score = _mean_distance(mean - y, std).mean(0)
    within = _mean_distance(torch.zeros_like(mean), (2 * variance).sqrt()).sum(0)
    for m in range(1, n_draws):
        pairs = _mean_distance(mean[m] - mean[:m], (variance[m] + variance[:m]).sqrt())
        within = within + 2 * pairs.sum(0)
    return score - within / (2 * n_draws**2)


def _mean_distance(mean: Tensor, std: Tensor) -> Tensor:
    """E|Z| of a normal Z."""
    z = torch.where(std > 0, mean / std, 0.0)
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    spread = 2 * std * density + mean * torch.special.erf(z / math.sqrt(2))
    return torch.where(std > 0, spread, mean.abs())


def is_discrete(distribution: Distribution) -> bool:
    """Whether it is over the integers."""
    return getattr(distribution, "is_discrete", False)


def device_of(distribution: Distribution) -> torch.device:
    """Where its parameters lie."""
    while hasattr(distribution, "base"):  # of `skuq._derived`, whose mean is an integral
        distribution = distribution.base
    return distribution.mean.device

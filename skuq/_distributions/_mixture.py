"""Mixtures of distributions, one component per draw.

Components have batch shape (n_draws, ...) and give `mean`, `variance`, `cdf`, `icdf`, `log_prob`.
Components with `is_discrete` are over the integers. The distributions of `_derived.py` compute the
quantiles and scores of their mixtures themselves, from their `base`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from skuq._distributions._families import invert, least_integer

__all__ = [
    "LEVELS",
    "NODES",
    "SHARES",
    "cdf_at",
    "crps_on",
    "device_of",
    "discrete_crps",
    "is_discrete",
    "mixture_cdf",
    "mixture_crps",
    "mixture_log_prob",
    "mixture_quantile",
    "nodes_of",
    "normal_mixture_crps",
]

# Levels Φ(t) for integrals over (0, 1): the trapezoid rule in t converges geometrically there.
# Φ(8) is less than 1 in float64, too.
LAST = 8.0
NODES = torch.linspace(-LAST, LAST, 129, dtype=torch.float64)
LEVELS = torch.special.ndtr(NODES).clamp(min=1e-15)
SHARES = torch.softmax(-0.5 * NODES.square(), 0)
_N_NODES = 256  # for all draws together
_LATTICE = 1024  # most integers of a sum


def mixture_quantile(components: Distribution, q: float | Tensor) -> Tensor:
    """Find where the mean of the components' distribution functions is `q`.

    The quantiles of the components bracket the quantile of the mixture. Each element is searched by
    itself, so the result for a row does not depend on other rows. For discrete components it is the
    least integer that reaches `q`.

    Parameters
    ----------
    components : Distribution of batch shape (n_draws, ...)
        One component for each draw.
    q : float in (0, 1), or Tensor of shape (...)
        The level, or a level for each element; a tensor may have further axes in front.

    Returns
    -------
    Tensor of shape (...)
        The quantiles, with the further axes of q in front.
    """
    level = torch.as_tensor(q, dtype=torch.float64, device=device_of(components))
    if hasattr(components, "quantile_of_mixture"):
        quantile: Tensor = components.quantile_of_mixture(level)
        return quantile
    n_draws, *shape = components.batch_shape
    axis = -1 - len(shape)  # of the draws
    level = level.expand(*level.shape[: max(0, level.ndim - len(shape))], *shape)
    if n_draws == 1:
        return components.icdf(level.unsqueeze(axis)).squeeze(axis)
    single = _quantiles_of_parts(components, level.unsqueeze(axis))
    low, high = single.amin(axis), single.amax(axis)

    def cdf(x: Tensor) -> Tensor:
        return components.cdf(x.unsqueeze(axis)).mean(axis)

    def density(x: Tensor) -> Tensor:
        return components.log_prob(x.unsqueeze(axis)).exp().mean(axis)

    if is_discrete(components):
        return least_integer(cdf, level, low - 1, high)
    return invert(cdf, density, level, single.mean(axis), low, high)


def _quantiles_of_parts(components: Distribution, level: Tensor) -> Tensor:
    """Return quantiles of each draw, which bracket the quantile of the mixture.

    If draws are mixtures themselves, quantiles of their parts do, and no equation is solved.
    """
    parts = getattr(components, "component_distribution", None)
    if parts is None:
        return components.icdf(level)
    single = parts.icdf(level.unsqueeze(-1))
    return torch.cat([single.amin(-1), single.amax(-1)], dim=-1 - len(components.batch_shape[1:]))


def mixture_cdf(components: Distribution, y: Tensor) -> Tensor:
    """Compute P(Y ≤ y) under the mixture, for y of shape (...)."""
    return components.cdf(y).mean(0)


def mixture_log_prob(components: Distribution, y: Tensor) -> Tensor:
    """Compute the joint log density of all targets.

    Components have batch shape (n_draws, n_rows, n_targets). Targets are independent given the
    draw, so their densities multiply before the mean over draws.
    """
    each = components.log_prob(y)
    # An impossible target makes the row impossible, even beside an infinite density.
    joint = torch.where((each == -math.inf).any(-1), -math.inf, each.sum(-1))
    return joint.logsumexp(0) - math.log(len(joint))


def mixture_crps(components: Distribution, y: Tensor) -> Tensor:
    """Compute the continuous ranked probability score of the mixture, for y of shape (...)."""
    if type(components) is Normal:
        return normal_mixture_crps(y, components.mean, components.stddev)
    if hasattr(components, "crps_of_mixture"):
        crps: Tensor = components.crps_of_mixture(y)
        return crps
    if is_discrete(components):
        return discrete_crps(components, y)
    return crps_on(nodes_of(components), lambda x: cdf_at(components, x), y)


def nodes_of(components: Distribution) -> Tensor:
    """Choose increasing points, of shape (n_nodes, ...), where the components have their mass.

    They are quantiles of the components, each at levels between the levels of the others. No
    equation is solved, and the points are dense where components agree.
    """
    if hasattr(components, "nodes"):
        nodes: Tensor = components.nodes()
        return nodes
    source = getattr(components, "component_distribution", components)  # if the draws are mixtures
    n_draws = components.batch_shape[0]
    n_levels = max(6, _N_NODES // n_draws)
    width = 2 * LAST / n_levels
    device = device_of(components)
    offsets = (torch.arange(n_draws, dtype=torch.float64) + 0.5) / n_draws
    starts = -LAST + width * offsets.reshape(-1, *(1 for _ in source.batch_shape[1:])).to(device)
    ts = [starts + width * k for k in range(n_levels)]
    ts = [torch.full_like(starts, -LAST), *ts, torch.full_like(starts, LAST)]
    levels = [torch.special.ndtr(t).clamp(min=1e-15).expand(source.batch_shape) for t in ts]
    nodes = torch.stack([source.icdf(level) for level in levels])
    if source is not components:
        nodes = nodes.movedim(-1, 0).flatten(0, 1)
    return nodes.flatten(0, 1).sort(0).values


def cdf_at(components: Distribution, nodes: Tensor) -> Tensor:
    """Compute the mean distribution function at points of shape (n_nodes, ...)."""
    return torch.cat([components.cdf(x[:, None]).mean(1) for x in nodes.split(16)])


def crps_on(nodes: Tensor, cdf: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """Integrate (F(x) − 1{y ≤ x})² over x by Simpson's rule between nodes; y is one more node.

    The weights of the rule are positive and F increases, so each part lies between its bounds for
    any distance of the nodes.

    Parameters
    ----------
    nodes : Tensor of shape (n_nodes, ...)
        Increasing x.
    cdf : function of tensors (n, ...)
        The distribution function F.
    y : Tensor of shape (...)
        The observed values.
    """
    left, right, below = nodes[:-1], nodes[1:], cdf(nodes)
    values = below[:-1], cdf(left + (right - left) / 2), below[1:]
    whole = torch.where(right <= y, _simpson(left, right, *values), 0.0)
    above = _simpson(left, right, *(1 - value for value in values))
    score = (whole + torch.where(left >= y, above, 0.0)).sum(0)
    index = ((nodes <= y).sum(0, keepdim=True) - 1).clamp(0, len(nodes) - 2)  # where y is inside
    a, b = nodes.gather(0, index)[0], nodes.gather(0, index + 1)[0]
    low, high = below.gather(0, index)[0], below.gather(0, index + 1)[0]
    before, at, after = cdf(torch.stack([a + (y - a) / 2, y, y + (b - y) / 2]))
    split = _simpson(a, y, low, before, at) + _simpson(y, b, 1 - at, 1 - after, 1 - high)
    outside = (nodes[0] - y).clamp(min=0) + (y - nodes[-1]).clamp(min=0)
    return score + torch.where((a < y) & (y < b), split, 0.0) + outside


def _simpson(left: Tensor, right: Tensor, low: Tensor, middle: Tensor, high: Tensor) -> Tensor:
    """Integrate the square of a function with these three values."""
    return (right - left) * (low.square() + 4 * middle.square() + high.square()) / 6


def discrete_crps(components: Distribution, y: Tensor) -> Tensor:
    """Sum (F(k) − 1{y ≤ k})² over the integers k, exactly unless there are too many.

    With too many, every h-th integer counts h times, and the ends of the sums on both sides of y
    count half: the Euler-Maclaurin formula for a smooth F. Between integers the score is linear.
    """
    ends = LEVELS[[0, -1]].tolist()
    low = mixture_quantile(components, ends[0]) - 1
    high = mixture_quantile(components, ends[1]) + 1
    inside = y.clamp(low, high)
    score = (y - inside).abs()  # outside, F is 0 or 1
    floor = inside.floor()
    step = ((high - low) / _LATTICE).ceil()
    for k, share in ((floor, floor + 1 - inside), (floor + 1, inside - floor)):
        if bool((share > 0).any()):
            score = score + share * _sum_about(components, k, low, high, step)
    return score


def _sum_about(
    components: Distribution, y: Tensor, low: Tensor, high: Tensor, step: Tensor
) -> Tensor:
    """Sum F² below an integer y, and (1 − F)² from y on."""
    at = mixture_cdf(components, y)
    total = (step - 1) / 2 * at.square() + (step + 1) / 2 * (1 - at).square()
    for j in range(1, int(torch.maximum((y - low) / step, (high - y) / step).max()) + 1):
        below = mixture_cdf(components, y - j * step).square()
        above = (1 - mixture_cdf(components, y + j * step)).square()
        total = total + step * (below + above)
    return total


def normal_mixture_crps(y: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Compute E|Y − y| − ½ E|Y − Y'| in closed form; a component of std 0 is a point.

    Parameters
    ----------
    y : Tensor of shape (...)
        The observed values.
    mean, std : Tensor of shape (n_draws, ...)
        Moments of the normal components.

    Returns
    -------
    Tensor of shape (...)
        The score of each value.
    """
    n_draws = len(mean)
    score = _mean_distance(mean - y, std).mean(0)
    within = _mean_distance(torch.zeros_like(mean), math.sqrt(2) * std).sum(0)
    for m in range(1, n_draws):
        pairs = _mean_distance(mean[m] - mean[:m], torch.hypot(std[m], std[:m]))
        within = within + 2 * pairs.sum(0)
    return score - within / (2 * n_draws**2)


def _mean_distance(mean: Tensor, std: Tensor) -> Tensor:
    """Compute E|Z| for a normal Z."""
    z = torch.where(std > 0, mean / std, 0.0)
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    spread = 2 * std * density + mean * torch.special.erf(z / math.sqrt(2))
    return torch.where(std > 0, spread, mean.abs())


def is_discrete(distribution: Distribution) -> bool:
    """Return whether a distribution is over the integers."""
    return getattr(distribution, "is_discrete", False)


def device_of(distribution: Distribution) -> torch.device:
    """Return the device of the parameters."""
    while hasattr(distribution, "base"):  # in `_derived.py`, where a mean costs an integral
        distribution = distribution.base
    return distribution.mean.device

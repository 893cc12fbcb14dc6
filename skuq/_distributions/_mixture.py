"""Mixtures of distributions, one component per draw.

Components have batch shape (n_draws, ...) and give `mean`, `variance`, `cdf`, `icdf`, `log_prob`.
Those with `is_discrete` are over the integers. Those of `_derived.py` know themselves how the
quantiles and scores of their mixtures come from those of what they are made of.
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
_N_NODES = 256  # of all draws together
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
    """Between the least and the largest of which a quantile of the mixture lies, for each draw.

    Of draws that are mixtures themselves those of their parts will do: no equation is solved.
    """
    parts = getattr(components, "component_distribution", None)
    if parts is None:
        return components.icdf(level)
    single = parts.icdf(level.unsqueeze(-1))
    return torch.cat([single.amin(-1), single.amax(-1)], dim=-1 - len(components.batch_shape[1:]))


def mixture_cdf(components: Distribution, y: Tensor) -> Tensor:
    """P(Y ≤ y) under the mixture, for y of shape (...)."""
    return components.cdf(y).mean(0)


def mixture_log_prob(components: Distribution, y: Tensor) -> Tensor:
    """Log density of all targets together: components of batch shape (n_draws, n_rows, n_targets).

    Targets are independent given the draw, so their densities multiply inside of the mean.
    """
    each = components.log_prob(y)
    # A target that cannot be is decisive, also beside one whose density is infinite.
    joint = torch.where((each == -math.inf).any(-1), -math.inf, each.sum(-1))
    return joint.logsumexp(0) - math.log(len(joint))


def mixture_crps(components: Distribution, y: Tensor) -> Tensor:
    """Continuous ranked probability score of the mixture, for y of shape (...)."""
    if type(components) is Normal:
        return normal_mixture_crps(y, components.mean, components.stddev)
    if hasattr(components, "crps_of_mixture"):
        return components.crps_of_mixture(y)
    if is_discrete(components):
        return discrete_crps(components, y)
    return crps_on(nodes_of(components), lambda x: cdf_at(components, x), y)


def nodes_of(components: Distribution) -> Tensor:
    """Increasing points, of shape (n_nodes, ...), that lie where the components have their mass.

    They are quantiles of the components, of which each gives its share at levels between those of
    the others: no equation is solved, and where components are alike the points are dense.
    """
    if hasattr(components, "nodes"):
        return components.nodes()
    source = getattr(components, "component_distribution", components)  # of a mixture by itself
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
    """The mean distribution function at points of shape (n_nodes, ...)."""
    return torch.cat([components.cdf(x[:, None]).mean(1) for x in nodes.split(16)])


def crps_on(nodes: Tensor, cdf: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """∫ (F(x) − 1{y ≤ x})² dx by Simpson's rule between nodes, y a node of its own.

    The rule's weights are positive and F increases, so each part lies between its bounds, however
    far the nodes are apart.

    Parameters
    ----------
    nodes : Tensor of shape (n_nodes, ...)
        Increasing x.
    cdf : function of tensors (n, ...)
        F.
    y : Tensor of shape (...)
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
    """The integral of the square of what has these three values."""
    return (right - left) * (low.square() + 4 * middle.square() + high.square()) / 6


def discrete_crps(components: Distribution, y: Tensor) -> Tensor:
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
    n_draws = len(mean)
    score = _mean_distance(mean - y, std).mean(0)
    within = _mean_distance(torch.zeros_like(mean), math.sqrt(2) * std).sum(0)
    for m in range(1, n_draws):
        pairs = _mean_distance(mean[m] - mean[:m], torch.hypot(std[m], std[:m]))
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
    while hasattr(distribution, "base"):  # of `_derived.py`, whose mean is an integral
        distribution = distribution.base
    return distribution.mean.device

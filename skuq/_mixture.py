"""Mixtures of distributions, one component per draw, and distributions made from others.

Components have batch shape (n_draws, ...) and give `mean`, `variance`, `cdf`, `icdf`, `log_prob`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

__all__ = [
    "Recalibrated",
    "Transformed",
    "affine",
    "mixture_cdf",
    "mixture_crps",
    "mixture_log_prob",
    "mixture_quantile",
    "normal_mixture_crps",
]

_MAX_STEPS = 200
# Levels Φ(t) for integrals over (0, 1): the trapezoid rule in t converges geometrically there.
_T = torch.linspace(-8, 8, 129, dtype=torch.float64)
_LEVELS = torch.special.ndtr(_T).clamp(1e-15, 1 - 2e-16)
_SHARES = torch.softmax(-0.5 * _T.square(), 0)
_TRUSTED = 3  # transforms must be defined and monotone for |t| up to this


def mixture_quantile(components: Distribution, q: float | Tensor) -> Tensor:
    """Where the mean of the components' distribution functions is `q`.

    The quantiles of the components bracket that of the mixture; inside, Newton's steps, or
    bisection where they leave the bracket or do not shrink it. Each element stops by itself, so
    the result for a row does not depend on the others.

    Parameters
    ----------
    components : Distribution of batch shape (n_draws, ...)
    q : float in (0, 1), or Tensor of shape (...) of them, with further axes before

    Returns
    -------
    Tensor of shape (...), with the further axes of q before
    """
    if isinstance(components, Transformed):  # quantiles move with a monotone map
        level = torch.as_tensor(q, dtype=torch.float64, device=_device(components))
        level = torch.where(components.decreasing[0], 1 - level, level)
        return components.defined(components.forward(mixture_quantile(components.base, level)))
    level = torch.as_tensor(q, dtype=torch.float64, device=_device(components))
    n_draws, *shape = components.batch_shape
    axis = -1 - len(shape)  # of the draws
    level = level.expand(*level.shape[: max(0, level.ndim - len(shape))], *shape)
    single = components.icdf(level.unsqueeze(axis))
    if n_draws == 1:
        return single.squeeze(axis)
    low, high = single.amin(axis), single.amax(axis)
    resolution = 1e-13 * (components.stddev.amin(0) + low.abs() + high.abs())
    x = single.mean(axis)
    done = high - low <= resolution
    for step in range(_MAX_STEPS):
        if bool(done.all()):
            break
        excess = components.cdf(x.unsqueeze(axis)).mean(axis) - level
        low = torch.where((excess < 0) & ~done, x, low)
        high = torch.where((excess >= 0) & ~done, x, high)
        newton = x - excess / components.log_prob(x.unsqueeze(axis)).exp().mean(axis)
        bisect = ~((newton > low) & (newton < high)) | (step % 3 == 2)  # NaN bisects, too
        moved = torch.where(bisect, (low + high) / 2, newton)
        finished = ((moved - x).abs() <= resolution) | (high - low <= resolution)
        x = torch.where(done, x, moved)
        done = done | finished
    return x


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
    score = torch.zeros_like(y)  # 2 ∫ pinball loss dq
    for level, share in zip(_LEVELS.tolist(), _SHARES.tolist()):
        excess = y - mixture_quantile(components, level)
        score += 2 * share * torch.maximum(level * excess, (level - 1) * excess)
    return score


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


# ---------------------------------------------------------------------------------------------
# Distributions made from others


class _Integrated(Distribution):
    """Mean and variance from an integral that is taken once, for what has no closed form."""

    arg_constraints: dict = {}

    def __init__(self, batch_shape: torch.Size) -> None:
        super().__init__(batch_shape, validate_args=False)
        self._moments: tuple[Tensor, Tensor] | None = None

    def _integrate(self) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} does not implement _integrate")

    def _mean_and_variance(self) -> tuple[Tensor, Tensor]:
        if self._moments is None:
            self._moments = self._integrate()
        return self._moments

    @property
    def mean(self) -> Tensor:
        return self._mean_and_variance()[0]

    @property
    def variance(self) -> Tensor:
        return self._mean_and_variance()[1]


class Transformed(_Integrated):
    """y = forward(z), monotone in each target by itself, for components of z.

    Quantiles are pushed through; mean and variance come from a grid of them. Where the map is not
    defined or turns around far out in a tail (beyond 3 standard normal deviations), the last good
    value of the grid stands for what lies beyond.

    Parameters
    ----------
    base : Distribution of batch shape (n_draws, n_rows, n_targets)
    forward, inverse : functions of tensors (..., n_rows, n_targets)
        From z to y and back.
    """

    def __init__(
        self,
        base: Distribution,
        forward: Callable[[Tensor], Tensor],
        inverse: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(base.batch_shape)
        self.base = base
        self.forward = forward
        self.inverse = inverse
        self.decreasing = self._direction()
        self._check_targets_apart()

    def _direction(self) -> Tensor:
        """Whether the map decreases, for each element; it must be monotone and defined."""
        levels = torch.special.ndtr(torch.arange(-_TRUSTED, _TRUSTED + 1, dtype=torch.float64))
        levels = levels.to(_device(self)).reshape(-1, *(1 for _ in self.batch_shape))
        steps = torch.stack(
            [self.defined(self.forward(self.base.icdf(q.expand(self.batch_shape)))) for q in levels]
        ).diff(dim=0)
        decreasing = (steps <= 0).all(0) & (steps < 0).any(0)
        if not bool((decreasing | (steps >= 0).all(0)).all()):
            raise ValueError(
                "the inverse of the target transformer is not monotone where the prediction has "
                "much of its mass, so the transformer is not invertible there"
            )
        return decreasing

    def _check_targets_apart(self) -> None:
        n_targets = self.batch_shape[-1]
        if n_targets == 1:
            return
        level = torch.full(self.batch_shape, 0.25, dtype=torch.float64, device=_device(self))
        lower, upper = self.base.icdf(level), self.base.icdf(1 - level)
        at_lower = self.forward(lower)
        for target in range(n_targets):
            moved = lower.clone()
            moved[..., target] = upper[..., target]
            others = torch.arange(n_targets) != target
            if not torch.equal(self.forward(moved)[..., others], at_lower[..., others]):
                raise ValueError(
                    "the target transformer mixes targets, so their uncertainty cannot be carried "
                    "back one by one; use a transformer that maps each target by itself"
                )

    def defined(self, values: Tensor) -> Tensor:
        """The values, if none is NaN."""
        if bool(values.isnan().any()):
            raise ValueError(
                "the inverse of the target transformer gives NaN where the prediction has much of "
                "its mass; clip inside of the inverse, or use a transformer that is defined there"
            )
        return values

    def _base_levels(self, q: Tensor) -> Tensor:
        return torch.where(self.decreasing, 1 - q, q)

    def icdf(self, q: Tensor) -> Tensor:
        return self.defined(self.forward(self.base.icdf(self._base_levels(q))))

    def cdf(self, y: Tensor) -> Tensor:
        below = self.base.cdf(self.inverse(y))
        return torch.where(self.decreasing, 1 - below, below)

    def log_prob(self, y: Tensor) -> Tensor:
        step = 1e-6 * (y.abs() + 1)
        slope = (self.inverse(y + step) - self.inverse(y - step)) / (2 * step)
        return self.base.log_prob(self.inverse(y)) + slope.abs().log()

    def _integrate(self) -> tuple[Tensor, Tensor]:
        """Over levels Φ(t), from the median outwards."""
        middle = len(_T) // 2
        median = self.icdf(self._level(middle))
        first, second = torch.zeros_like(median), torch.zeros_like(median)
        for side in (-1, 1):
            last = median
            for step in range(1, middle + 1):
                index = middle + side * step
                value = self.forward(self.base.icdf(self._base_levels(self._level(index))))
                outward = side * (value - last) >= 0  # levels are those of y: it increases
                last = torch.where(outward, value, last)  # NaN is not outward
                first += _SHARES[index] * (last - median)
                second += _SHARES[index] * (last - median).square()
        return median + first, (second - first.square()).clamp(min=0)

    def _level(self, index: int) -> Tensor:
        return _LEVELS[index].to(_device(self)).expand(self.batch_shape)


def _device(distribution: Distribution) -> torch.device:
    while not isinstance(distribution, Normal):
        inner = "base" if isinstance(distribution, Transformed) else "components"
        distribution = getattr(distribution, inner)
    return distribution.loc.device


def affine(base: Distribution, location: Tensor, scale: Tensor) -> Distribution:
    """The distribution of location + scale · z, scale > 0."""
    location, scale = location.to(_device(base)), scale.to(_device(base))
    if isinstance(base, Normal):
        return Normal(location + scale * base.mean, scale * base.stddev, validate_args=False)
    return Transformed(base, lambda z: location + scale * z, lambda y: (y - location) / scale)


class Recalibrated(_Integrated):
    """One distribution in place of a mixture, whose distribution function is mapped: R(F(y)).

    Parameters
    ----------
    components : Distribution of batch shape (n_draws, n_rows, n_targets)
    levels, frequencies : list of ndarray, one per target
        The knots of R, from (0, 0) to (1, 1), increasing; linear between them.
    """

    def __init__(
        self, components: Distribution, levels: list[np.ndarray], frequencies: list[np.ndarray]
    ) -> None:
        super().__init__(torch.Size((1, *components.batch_shape[1:])))
        self.components = components
        self.levels = levels
        self.frequencies = frequencies

    def _density(self, target: int, below: np.ndarray) -> np.ndarray:
        """Slope of R, over about √n knots at once: between neighbours it is noise."""
        knots = np.arange(len(self.levels[target]))
        some = np.append(knots[: -1 : math.isqrt(len(knots))], knots[-1])
        levels, frequencies = self.levels[target][some], self.frequencies[target][some]
        cell = np.searchsorted(levels, below, side="right") - 1
        return (np.diff(frequencies) / np.diff(levels))[cell.clip(0, len(levels) - 2)]

    def _map(self, values: Tensor, xs: list[np.ndarray], ys: list[np.ndarray]) -> Tensor:
        """Piecewise linear maps of each target, the last axis."""
        columns = [
            torch.from_numpy(np.interp(values[..., d].cpu().numpy(), xs[d], ys[d]))
            for d in range(values.shape[-1])
        ]
        return torch.stack(columns, -1).to(values.device)

    def cdf(self, y: Tensor) -> Tensor:
        below = mixture_cdf(self.components, y)
        return self._map(below, self.levels, self.frequencies)[None]

    def icdf(self, q: Tensor) -> Tensor:
        level = self._map(q.squeeze(-3), self.frequencies, self.levels)
        tiny = np.finfo(float).eps
        return mixture_quantile(self.components, level.clamp(tiny, 1 - tiny)).unsqueeze(-3)

    def _integrate(self) -> tuple[Tensor, Tensor]:
        """E[y] = u − ∫ G and E[y²] = u² − 2 ∫ y G, up to u far above, by the trapezoid rule.

        The nodes are means of the components' quantiles: no equation is solved. The standard
        deviation is right to 0.1 % where draws are alike, to 3 % where their noise differs tenfold.
        """
        nodes = torch.stack([self.components.icdf(self._level(i)).mean(0) for i in range(len(_T))])
        below = torch.cat([self.components.cdf(x[:, None]).mean(1) for x in nodes.split(16)])
        mapped = self._map(below, self.levels, self.frequencies)
        centre = nodes[len(_T) // 2]
        x, top = nodes - centre, nodes[-1] - centre
        first = top - torch.trapezoid(mapped, x, dim=0)
        second = top.square() - 2 * torch.trapezoid(x * mapped, x, dim=0)
        return (centre + first)[None], (second - first.square()).clamp(min=0)[None]

    def _level(self, index: int) -> Tensor:
        return _LEVELS[index].to(_device(self)).expand(self.components.batch_shape)

    def log_prob(self, y: Tensor) -> Tensor:
        below = mixture_cdf(self.components, y)
        slopes = [self._density(d, below[..., d].cpu().numpy()) for d in range(y.shape[-1])]
        slope = torch.from_numpy(np.stack(slopes, -1)).to(y.device)
        density = self.components.log_prob(y).logsumexp(0) - math.log(len(self.components.mean))
        return (slope.log() + density)[None]

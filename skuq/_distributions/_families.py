"""Distributions that torch lacks, or for which it lacks the distribution function or quantiles.

Each gives `mean`, `variance`, `stddev`, `log_prob`, `cdf` and `icdf` element by element. A
distribution with `is_discrete` is over the integers: its `icdf` is the least integer that reaches
the level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import scipy.special
import torch
from torch import Tensor, distributions

__all__ = [
    "MixtureOfNormals",
    "PoissonCounts",
    "QuantileKnots",
    "StudentTQuantiles",
    "by_scipy",
    "invert",
    "least_integer",
    "whole_below",
]

_MAX_STEPS = 200
_EPS = torch.finfo(torch.float64).eps
_STIRLING = 16.0  # from this k on, the series for log k! is exact to the last bit


def invert(
    cdf: Callable[[Tensor], Tensor],
    density: Callable[[Tensor], Tensor],
    level: Tensor,
    start: Tensor,
    low: Tensor,
    high: Tensor,
) -> Tensor:
    """Find where an increasing `cdf` is `level`, between `low` and `high`.

    The search takes Newton's steps, and bisects where a step leaves the bracket or does not shrink
    by half. Each element stops by itself, when its level is reached or when the ends of its bracket
    are neighbouring numbers; so it does not depend on the others. No tolerance is in the unit of x,
    which may be any unit, far from 0.
    """
    tail = torch.minimum(level, 1 - level)
    enough = torch.maximum(1e-10 * tail, (1e-6 * level).clamp(max=1.2e-16))  # then one last step
    x, done = torch.minimum(torch.maximum(start, low), high), low >= high
    before = high - low  # the last step
    for _ in range(_MAX_STEPS):
        if bool(done.all()):
            break
        excess = cdf(x) - level
        low = torch.where((excess < 0) & ~done, x, low)
        high = torch.where((excess >= 0) & ~done, x, high)
        newton = x - excess / density(x)
        reached = excess.abs() <= enough
        inside = (newton >= low) & (newton <= high)  # NaN is not
        shrinks = (newton - x).abs() <= before / 2
        bisected = torch.where(reached, x, low + (high - low) / 2)
        moved = torch.where(inside & (reached | shrinks), newton, bisected)
        before = (moved - x).abs()
        narrow = high - low <= 2 * _EPS * torch.maximum(low.abs(), high.abs())
        x = torch.where(done, x, moved)
        done = done | reached | narrow
    return x


def least_integer(
    cdf: Callable[[Tensor], Tensor], level: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Find the least integer k with cdf(k) >= level, given cdf(low) < level <= cdf(high)."""
    for _ in range(_MAX_STEPS):
        middle = ((low + high) / 2).floor()
        open_ = high - low > 1
        if not bool(open_.any()):
            break
        reached = cdf(middle) >= level
        high = torch.where(open_ & reached, middle, high)
        low = torch.where(open_ & ~reached, middle, low)
    return high


def by_scipy(function: Any, *arguments: Tensor) -> Tensor:
    """Evaluate a function on the CPU, in float64, without a gradient."""
    arrays = [a.detach().cpu().double().numpy() for a in torch.broadcast_tensors(*arguments)]
    return torch.as_tensor(function(*arrays)).to(arguments[0])


def whole_below(value: Tensor) -> Tensor:
    """Return the largest integers at or below values.

    A value that rounding left just below an integer counts as that integer.
    """
    nearest = value.round()
    rounded = (nearest - value).abs() <= 1e-9 + 4 * _EPS * value.abs()
    return torch.where(rounded, nearest, value.floor())


class StudentTQuantiles(distributions.StudentT):
    """torch's Student t, with distribution function and quantiles (without a gradient).

    Parameters
    ----------
    df, loc, scale : Tensor of the batch shape
        Degrees of freedom, location and scale.
    """

    def __init__(self, df: Tensor, loc: Tensor, scale: Tensor) -> None:
        super().__init__(df, loc, scale, validate_args=False)

    def cdf(self, value: Tensor) -> Tensor:
        return by_scipy(lambda t, df: scipy.special.stdtr(df, t), self._standard(value), self.df)

    def icdf(self, value: Tensor) -> Tensor:
        z = by_scipy(lambda p, df: scipy.special.stdtrit(df, p), value.to(self.loc), self.df)
        return self.loc + self.scale * z

    def _standard(self, value: Tensor) -> Tensor:
        return (value - self.loc) / self.scale


class PoissonCounts(distributions.Poisson):
    """torch's Poisson distribution, with distribution function and quantiles.

    Parameters
    ----------
    rate : Tensor of the batch shape
        The mean count.
    """

    is_discrete = True

    def __init__(self, rate: Tensor) -> None:
        super().__init__(rate, validate_args=False)

    def cdf(self, value: Tensor) -> Tensor:
        k = whole_below(value)
        return torch.where(k < 0, 0.0, torch.special.gammaincc(k.clamp(min=0) + 1, self.rate))

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute log p; for large counts by Loader's saddle point, which avoids cancellation.

        C. Loader, "Fast and Accurate Computation of Binomial Probabilities", 2000: log p(k) =
        −½ log 2πk − δ(k) − [k log(k/λ) + λ − k], δ the error of Stirling's formula.
        """
        value, rate = torch.broadcast_tensors(value, self.rate)
        small = value.xlogy(rate) - rate - (value + 1).lgamma()
        k = value.clamp(min=_STIRLING)
        apart = (rate - k) / k
        inverse = 1 / k.square()
        error = (1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse / 1680))) / k
        large = -0.5 * (2 * math.pi * k).log() - error - k * (apart - apart.log1p())
        log_p = torch.where(value < _STIRLING, small, large)
        return torch.where(value < 0, -math.inf, log_p)

    def icdf(self, value: Tensor) -> Tensor:
        level, rate = torch.broadcast_tensors(value, self.rate)
        high = (rate + 40 * rate.sqrt() + 80).ceil()  # the mass beyond is below the last bit of 1
        return least_integer(self.cdf, level, torch.full_like(rate, -1.0), high)


class MixtureOfNormals(distributions.MixtureSameFamily):
    """torch's mixture of normal distributions, with quantiles.

    Parameters
    ----------
    logits, mean, std : Tensor of shape (*batch_shape, n_components)
        Logits of the weights, means and standard deviations of the components.
    """

    def __init__(self, logits: Tensor, mean: Tensor, std: Tensor) -> None:
        weights = distributions.Categorical(logits=logits, validate_args=False)
        normals = distributions.Normal(mean, std, validate_args=False)
        super().__init__(weights, normals, validate_args=False)

    def cdf(self, value: Tensor) -> Tensor:
        normal: Any = self.component_distribution
        below = torch.special.ndtr((value.unsqueeze(-1) - normal.loc) / normal.scale)
        cdf: Tensor = (self.mixture_distribution.probs * below).sum(-1)
        return cdf

    def density(self, value: Tensor) -> Tensor:
        """Compute the density, which is faster than its logarithm."""
        normal: Any = self.component_distribution
        z = (value.unsqueeze(-1) - normal.loc) / normal.scale
        weight = self.mixture_distribution.probs / (math.sqrt(2 * math.pi) * normal.scale)
        density: Tensor = (weight * torch.exp(-0.5 * z.square())).sum(-1)
        return density

    def icdf(self, value: Tensor) -> Tensor:
        single = self.component_distribution.icdf(value.unsqueeze(-1))
        low, high = single.amin(-1), single.amax(-1)
        start = (self.mixture_distribution.probs * single).sum(-1)
        return invert(self.cdf, self.density, value.expand_as(low), start, low, high)


class QuantileKnots(distributions.Distribution):
    """The distribution with given quantiles: uniform between them, exponential beyond.

    An exponential tail begins at the outermost quantile, and goes through the quantile nearest to
    the median. So the tails of a Laplace distribution are exact.

    Parameters
    ----------
    levels : Tensor of shape (n_levels,), n_levels >= 2
        Increasing levels, in (0, 1).
    quantiles : Tensor of shape (*batch_shape, n_levels)
        The quantiles, strictly increasing on the last axis.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(self, levels: Tensor, quantiles: Tensor) -> None:
        super().__init__(quantiles.shape[:-1], validate_args=False)
        self.levels = levels
        self.quantiles = quantiles
        last = len(levels) - 1
        middle = int((levels - 0.5).abs().argmin())
        inner, outer = max(middle, 1), min(middle, last - 1)
        q = quantiles
        above = 1 - levels
        lower = (q[..., inner] - q[..., 0]) / (levels[inner] / levels[0]).log()
        upper = (q[..., last] - q[..., outer]) / (above[outer] / above[last]).log()
        # Rounding can make quantiles equal. The tolerance does not depend on their unit.
        info = torch.finfo(q.dtype)
        least = (info.eps * q.abs().amax(-1)).clamp(min=info.tiny)
        self.lower, self.upper = torch.maximum(lower, least), torch.maximum(upper, least)

    @property
    def mean(self) -> Tensor:
        return self.quantiles[..., 0] + self._centred_moments()[0]

    @property
    def variance(self) -> Tensor:
        first, second = self._centred_moments()
        return second - first.square()

    def _centred_moments(self) -> tuple[Tensor, Tensor]:
        """Return the means of x − c and of its square, where c is the lowest quantile."""
        x, p = self.quantiles - self.quantiles[..., :1], self.levels.diff()
        a, b, top = x[..., :-1], x[..., 1:], x[..., -1]
        below, above = self.levels[0], 1 - self.levels[-1]
        first = (p * (a + b)).sum(-1) / 2 - below * self.lower + above * (top + self.upper)
        tail = top.square() + 2 * top * self.upper + 2 * self.upper.square()
        second = (p * (a.square() + a * b + b.square())).sum(-1) / 3
        return first, second + 2 * below * self.lower.square() + above * tail

    def _cell(self, knots: Tensor, value: Tensor) -> Tensor:
        """Count the knots at or below the value, from 0 to n_levels."""
        return (value.unsqueeze(-1) >= knots).sum(-1)

    def _between(self, cell: Tensor, shape: torch.Size) -> tuple[Tensor, ...]:
        """Return the ends of the inner cells, as quantiles and as levels."""
        index = (cell - 1).clamp(0, len(self.levels) - 2).unsqueeze(-1)
        q = self.quantiles.expand(*shape, len(self.levels))
        ends = q.gather(-1, index).squeeze(-1), q.gather(-1, index + 1).squeeze(-1)
        levels = self.levels[index.squeeze(-1)], self.levels[index.squeeze(-1) + 1]
        return *ends, *levels

    def icdf(self, value: Tensor) -> Tensor:
        value = value.to(self.quantiles).expand(
            torch.broadcast_shapes(value.shape, self.batch_shape)
        )
        cell = self._cell(self.levels, value)
        left, right, low, high = self._between(cell, value.shape)
        inside = left + (right - left) * (value - low) / (high - low)
        first, last = self.quantiles[..., 0], self.quantiles[..., -1]
        below = first + self.lower * (value / self.levels[0]).log()
        above = last - self.upper * ((1 - value) / (1 - self.levels[-1])).log()
        return torch.where(cell == 0, below, torch.where(value >= self.levels[-1], above, inside))

    def cdf(self, value: Tensor) -> Tensor:
        value = value.expand(torch.broadcast_shapes(value.shape, self.batch_shape))
        cell = self._cell(self.quantiles, value)
        left, right, low, high = self._between(cell, value.shape)
        inside = low + (high - low) * (value - left) / (right - left)
        below = self.levels[0] * ((value - self.quantiles[..., 0]) / self.lower).clamp(max=0).exp()
        beyond = ((self.quantiles[..., -1] - value) / self.upper).clamp(max=0).exp()
        above = 1 - (1 - self.levels[-1]) * beyond
        outside = torch.where(cell == 0, below, above)
        return torch.where((cell > 0) & (cell < len(self.levels)), inside, outside)

    def log_prob(self, value: Tensor) -> Tensor:
        value = value.expand(torch.broadcast_shapes(value.shape, self.batch_shape))
        cell = self._cell(self.quantiles, value)
        left, right, low, high = self._between(cell, value.shape)
        inside = (high - low).log() - (right - left).log()
        first, last = self.quantiles[..., 0], self.quantiles[..., -1]
        below = (self.levels[0] / self.lower).log() + ((value - first) / self.lower).clamp(max=0)
        beyond = ((last - value) / self.upper).clamp(max=0)
        above = ((1 - self.levels[-1]) / self.upper).log() + beyond
        outside = torch.where(cell == 0, below, above)
        return torch.where((cell > 0) & (cell < len(self.levels)), inside, outside)

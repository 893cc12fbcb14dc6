"""The distribution of y = forward(z), for a monotone map of each target."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from skuq._distributions._derived import Integrated
from skuq._distributions._mixture import (
    LEVELS,
    NODES,
    SHARES,
    cdf_at,
    crps_on,
    device_of,
    discrete_crps,
    is_discrete,
    mixture_quantile,
    nodes_of,
)
from skuq._distributions._monotone import MonotoneMap
from skuq._utils._messages import warn

__all__ = ["Transformed"]

_PROBES = (-8.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 8.0)  # levels Φ(t) of z
_REST = 0.02  # largest share of a moment that may come from the outermost value
_LITTLE = 0.00135  # Φ(−3): moments may neglect where so little mass lies


class Transformed(Integrated):
    """The distribution of y = forward(z), monotone in each target, for components of z.

    The map transforms quantiles directly. Beyond the ends of the map (see `MonotoneMap`), y is the
    limit of the map, which may be infinite. Mean and variance are integrals over z. They are
    infinite if y is infinite with a probability above Φ(−3), 0.1 %; below, the last finite value
    replaces infinite ones.

    Parameters
    ----------
    base : Distribution of batch shape (n_draws, n_rows, n_targets)
        The distribution of z.
    forward, inverse : functions of tensors (..., n_targets)
        The map from z to y, and the map back.

    Raises
    ------
    ValueError
        If the map is not monotone within 3 standard normal deviations, is defined nowhere, or
        mixes targets.
    """

    def __init__(
        self,
        base: Distribution,
        forward: Callable[[Tensor], Tensor],
        inverse: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(base.batch_shape)
        self.base = base
        self.is_discrete = is_discrete(base)
        levels = torch.special.ndtr(torch.tensor(_PROBES, dtype=torch.float64))
        levels = levels.clamp(min=1e-15).to(device_of(base))
        z = torch.stack([base.icdf(level.expand(self.batch_shape)) for level in levels])
        self._check_targets_apart(z[3], z[5], forward)
        self.map = MonotoneMap(forward, inverse, z.flatten(0, -2))
        self.unit = (z[5] - z[3]).amin(0) / 2  # one standard deviation of a normal z
        self.decreasing = self._direction(z[1:-1])

    def is_bounded(self) -> bool:
        """Return whether y stays on one side of a bound for all z, as exp(z) does."""
        far = torch.tensor([-1e3, -1e2, 1e2, 1e3], dtype=torch.float64, device=device_of(self.base))
        low, below, above, high = self._pushed(far[:, None] * self.unit.amax(0))
        span = (above - below).abs()
        return not bool((((below - low).abs() > span) & ((high - above).abs() > span)).all())

    def _direction(self, z: Tensor) -> Tensor:
        """Return whether the map decreases, for each element."""
        y = self._pushed(z)
        up, down = (y[1:] >= y[:-1]).all(0), (y[1:] <= y[:-1]).all(0)
        if not bool((up | down).all()):
            raise ValueError(
                "the inverse of the target transformer is not monotone where the prediction has "
                "much of its mass, so the transformer is not invertible there"
            )
        falls = down & ~up  # elements beyond an end follow the rest of their target
        return falls | (down & falls.flatten(0, -2).any(0))

    def _check_targets_apart(
        self, lower: Tensor, upper: Tensor, forward: Callable[[Tensor], Tensor]
    ) -> None:
        n_targets = self.batch_shape[-1]
        at_lower = forward(lower) if n_targets > 1 else lower
        for target in range(n_targets if n_targets > 1 else 0):
            moved = lower.clone()
            moved[..., target] = upper[..., target]
            others = torch.arange(n_targets) != target
            now, before = forward(moved)[..., others], at_lower[..., others]
            if not bool(((now == before) | (now.isnan() & before.isnan())).all()):
                raise ValueError(
                    "the target transformer mixes targets, so the uncertainty of each target "
                    "cannot be transformed; use a transformer that maps each target by itself"
                )

    def _pushed(self, z: Tensor) -> Tensor:
        y = self.map.forward(z)
        if bool(y.isnan().any()):
            raise ValueError(
                "the inverse of the target transformer gives NaN where the prediction has much of "
                "its mass; clip inside of the inverse, or use a transformer that is defined there"
            )
        return y

    def _base_levels(self, q: Tensor) -> Tensor:
        return torch.where(self.decreasing, 1 - q, q)

    def quantile_of_mixture(self, level: Tensor) -> Tensor:
        """Transform the quantiles of the base."""
        level = torch.where(self.decreasing[0], 1 - level, level)
        return self._pushed(mixture_quantile(self.base, level))

    def icdf(self, q: Tensor) -> Tensor:
        return self._pushed(self.base.icdf(self._base_levels(q)))

    def cdf(self, y: Tensor) -> Tensor:
        z = self.map.inverse(y)
        below, above = self.map.outside(y, z)
        known = torch.where(z.isnan(), 0.0, z)
        share = self.base.cdf(known)
        share = torch.where(self.decreasing, 1 - share, share)
        return torch.where(below, 0.0, torch.where(above, 1.0, share))

    def log_prob(self, y: Tensor) -> Tensor:
        """Compute log p: −inf outside of the values of the map, +inf where its slope is 0."""
        z = self.map.inverse(y)
        below, above = self.map.outside(y, z)
        nowhere = below | above | ~z.isfinite()
        known = torch.where(nowhere, 0.0, z)
        density = self.base.log_prob(known)
        if not self.is_discrete:
            slope = self.map.log_slope(y, z, self.unit)
            nowhere = nowhere | (density == -math.inf)
            density = density + torch.where(nowhere, 0.0, slope)
        return torch.where(nowhere, -math.inf, density)

    def nodes(self) -> Tensor:
        """Choose points where the mass lies, for `skuq._distributions._mixture.nodes_of`."""
        y = self._pushed(nodes_of(self.base)).sort(0).values
        finite = y.isfinite()
        least = torch.where(finite, y, math.inf).amin(0)
        most = torch.where(finite, y, -math.inf).amax(0)
        some = finite.any(0)
        return torch.where(some, torch.minimum(torch.maximum(y, least), most), 0.0)

    def crps_of_mixture(self, y: Tensor) -> Tensor:
        if self.is_discrete:
            return discrete_crps(self, y)
        score = crps_on(self.nodes(), lambda x: cdf_at(self, x), y)
        return torch.where(self.lost.mean(0) > _LITTLE, math.inf, score)

    @property
    def lost(self) -> Tensor:
        """The probability that y is infinite, of batch shape."""
        return sum(mass for mass, _ in self._infinite_ends())  # type: ignore[return-value]

    def _infinite_ends(self) -> list[tuple[Tensor, Tensor]]:
        """Return, for both ends, the mass beyond an end where y is infinite, and that y."""
        found = []
        for end, limit, side in (
            (self.map.low, self.map.at_low, -1),
            (self.map.high, self.map.at_high, 1),
        ):
            mass = torch.zeros(self.batch_shape, dtype=torch.float64, device=end.device)
            if bool((infinite := limit.isinf()).any()):
                below = self.base.cdf(torch.where(infinite, end, 0.0))
                mass = torch.where(infinite, below if side < 0 else 1 - below, mass)
            found.append((mass, limit))
        return found

    # -- moments ---------------------------------------------------------------------------------

    def _parts(self) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """Return quantiles and weights of the components of z, on a first axis.

        Quantiles of components need no equation to be solved.
        """
        if not hasattr(self.base, "component_distribution"):
            one = torch.ones((1, *self.batch_shape), dtype=torch.float64, device=device_of(self))
            return lambda level: self.base.icdf(level.expand(self.batch_shape))[None], one
        base: Any = self.base
        parts = base.component_distribution
        weights = base.mixture_distribution.probs.movedim(-1, 0)
        return lambda level: parts.icdf(level.expand(parts.batch_shape)).movedim(-1, 0), weights

    def _integrate(self) -> tuple[Tensor, Tensor]:
        """Integrate over levels Φ(t) of each part, from its median outwards."""
        quantile, weights = self._parts()
        levels, middle = LEVELS.to(device_of(self)), len(NODES) // 2
        start = self._pushed(quantile(levels[middle]))
        typical = self._pushed(self.base.icdf(levels[middle].expand(self.batch_shape)))
        start = torch.where(start.isfinite(), start, typical)
        first, size, second = (torch.zeros_like(start) for _ in range(3))
        diverges = torch.zeros_like(start, dtype=torch.bool)
        for side in (-1, 1):
            last = start
            for index in range(middle + side, middle + side * (middle + 1), side):
                z = quantile(levels[index])
                value = self._pushed(z)
                beyond = value.isinf() & ((z < self.map.low) | (z > self.map.high))
                last = torch.where(beyond, last, value)
                part = SHARES[index] * (last - start)
                first, size = first + part, size + part.abs()
                square = SHARES[index] * (last - start).square()
                second = second + square
            # If the outermost value adds much, values further out would add more.
            diverges |= (part.abs() > _REST * size) | (square > _REST * second)
        mean = (weights * (start + first)).sum(0)
        variance = (second - first.square()).clamp(min=0) + (start + first - mean).square()
        variance = (weights * variance).sum(0)
        return self._at_infinite_ends(mean, variance, (diverges & (weights > 0)).any(0))

    def _at_infinite_ends(
        self, mean: Tensor, variance: Tensor, diverges: Tensor
    ) -> tuple[Tensor, Tensor]:
        diverges = diverges | ~mean.isfinite() | ~variance.isfinite()
        if bool((diverges & (self.lost <= _LITTLE)).any()):
            raise ValueError(
                "the mean or the variance of y is too large or does not exist: the inverse of the "
                "target transformer grows too fast for the tails of the prediction. Predict "
                "quantiles or intervals, or use a likelihood with lighter tails."
            )
        if not bool((infinite := self.lost > _LITTLE).any()):
            return mean, variance
        warn(
            f"the mean and the variance of y are infinite in {int(infinite.any(0).any(-1).sum())} "
            f"of {self.batch_shape[1]} rows, where the prediction goes beyond the end of the "
            "inverse of the target transformer, where y is infinite. Predict quantiles or "
            "intervals, or use another transformer.",
            UserWarning,
        )
        for mass, limit in self._infinite_ends():
            mean = torch.where(mass > _LITTLE / 2, limit, mean)
        return mean, torch.where(infinite, math.inf, variance)

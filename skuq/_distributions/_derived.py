"""Distributions made from those of draws: scaled, recalibrated.

Each has the distributions that it is made of, of batch shape (n_draws, n_rows, n_targets), as
`base`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from skuq._distributions._mixture import (
    cdf_at,
    crps_on,
    device_of,
    discrete_crps,
    is_discrete,
    mixture_cdf,
    mixture_crps,
    mixture_quantile,
    nodes_of,
)

__all__ = ["Affine", "Integrated", "Recalibrated", "affine", "recalibrated"]


class Integrated(Distribution):
    """Mean and variance from an integral that is taken once, for what has no closed form."""

    arg_constraints: dict[str, Any] = {}

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


class Affine(Distribution):
    """The distribution of location + scale · z, for components of z.

    Parameters
    ----------
    base : Distribution of batch shape (n_draws, n_rows, n_targets)
    location, scale : Tensor of shape (n_targets,) or (n_rows, n_targets), scale > 0
        The same for all draws.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(self, base: Distribution, location: Tensor, scale: Tensor) -> None:
        super().__init__(base.batch_shape, validate_args=False)
        self.base = base
        self.location = location
        self.scale = scale

    def quantile_of_mixture(self, level: Tensor) -> Tensor:
        return self.location + self.scale * mixture_quantile(self.base, level)

    def crps_of_mixture(self, y: Tensor) -> Tensor:
        return self.scale * mixture_crps(self.base, self.undo(y))

    def undo(self, y: Tensor) -> Tensor:
        return (y - self.location) / self.scale

    @property
    def mean(self) -> Tensor:
        return self.location + self.scale * self.base.mean

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * self.base.variance

    def cdf(self, y: Tensor) -> Tensor:
        return self.base.cdf(self.undo(y))

    def icdf(self, q: Tensor) -> Tensor:
        return self.location + self.scale * self.base.icdf(q)

    def log_prob(self, y: Tensor) -> Tensor:
        density = self.base.log_prob(self.undo(y))
        return density if is_discrete(self.base) else density - self.scale.log()


def affine(base: Distribution, location: Tensor, scale: Tensor) -> Distribution:
    """The distribution of location + scale · z, scale > 0."""
    location, scale = location.to(device_of(base)), scale.to(device_of(base))
    if type(base) is Normal:  # a subclass may have quantiles of its own
        return Normal(location + scale * base.mean, scale * base.stddev, validate_args=False)
    return Affine(base, location, scale)


class Recalibrated(Integrated):
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
        self.base = components
        self.levels = levels
        self.frequencies = frequencies
        self.is_discrete = is_discrete(components)

    def _density(self, target: int, below: np.ndarray) -> np.ndarray:
        """Slope of R, over about √n knots at once: between neighbours it is noise."""
        knots = np.arange(len(self.levels[target]))
        some = np.append(knots[: -1 : math.isqrt(len(knots))], knots[-1])
        levels, frequencies = self.levels[target][some], self.frequencies[target][some]
        cell = np.searchsorted(levels, below, side="right") - 1
        slope: np.ndarray = (np.diff(frequencies) / np.diff(levels))[cell.clip(0, len(levels) - 2)]
        return slope

    def _map(self, values: Tensor, xs: list[np.ndarray], ys: list[np.ndarray]) -> Tensor:
        """Piecewise linear maps of each target, the last axis."""
        columns = [
            torch.from_numpy(np.interp(values[..., d].cpu().numpy(), xs[d], ys[d]))
            for d in range(values.shape[-1])
        ]
        return torch.stack(columns, -1).to(values.device)

    def cdf(self, y: Tensor) -> Tensor:
        below = mixture_cdf(self.base, y)
        return self._map(below, self.levels, self.frequencies)[None]

    def icdf(self, q: Tensor) -> Tensor:
        level = self._map(q.squeeze(-3), self.frequencies, self.levels)
        tiny = np.finfo(float).eps
        return mixture_quantile(self.base, level.clamp(tiny, 1 - tiny)).unsqueeze(-3)

    def _integrate(self) -> tuple[Tensor, Tensor]:
        """E[y] = u − ∫ G and E[y²] = u² − 2 ∫ y G, up to u far above, by the trapezoid rule.

        The standard deviation is right to 0.1 % where draws are alike, to 3 % where their noise
        differs tenfold.
        Over the integers: E[y] = u − Σ G and E[y²] = u² − Σ (2y + 1) G, of the integers below u.
        """
        nodes = nodes_of(self.base)
        nodes = nodes.floor() if self.is_discrete else nodes
        mapped = self._map(cdf_at(self.base, nodes), self.levels, self.frequencies)
        centre = nodes[len(nodes) // 2]
        x, top = nodes - centre, nodes[-1] - centre
        if self.is_discrete:
            first = top - _lattice_sum(mapped, x)
            second = top.square() - _lattice_sum((2 * x + 1) * mapped, x)
        else:
            first = top - torch.trapezoid(mapped, x, dim=0)
            second = top.square() - 2 * torch.trapezoid(x * mapped, x, dim=0)
        return (centre + first)[None], (second - first.square()).clamp(min=0)[None]

    def crps_of_mixture(self, y: Tensor) -> Tensor:
        if self.is_discrete:
            return discrete_crps(self, y)

        def cdf(x: Tensor) -> Tensor:
            return self._map(cdf_at(self.base, x), self.levels, self.frequencies)

        return crps_on(nodes_of(self.base), cdf, y)

    def log_prob(self, y: Tensor) -> Tensor:
        if self.is_discrete:
            return (self.cdf(y) - self.cdf(y - 1)).clamp(min=np.finfo(float).tiny).log()
        below = mixture_cdf(self.base, y)
        slopes = [self._density(d, below[..., d].cpu().numpy()) for d in range(y.shape[-1])]
        slope = torch.from_numpy(np.stack(slopes, -1)).to(y.device)
        density = self.base.log_prob(y).logsumexp(0) - math.log(len(self.base.mean))
        return (slope.log() + density)[None]


def _lattice_sum(values: Tensor, nodes: Tensor) -> Tensor:
    """Over the integers from the first node to before the last, linear between the nodes."""
    return torch.trapezoid(values, nodes, dim=0) - (values[-1] - values[0]) / 2


def recalibrated(
    components: Distribution, levels: list[np.ndarray], frequencies: list[np.ndarray]
) -> Distribution:
    """`Recalibrated`, inside of a scaling: the integers stay integers."""
    if type(components) is Affine:
        inner = recalibrated(components.base, levels, frequencies)
        return Affine(inner, components.location, components.scale)
    return Recalibrated(components, levels, frequencies)

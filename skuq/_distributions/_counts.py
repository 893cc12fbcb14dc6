"""Counts that vary more than Poisson's: the negative binomial distribution."""

from __future__ import annotations

import math
from typing import Any

import scipy.special
import torch
from torch import Tensor, distributions

from skuq._distributions._families import by_scipy, least_integer, whole_below

__all__ = ["NegativeBinomialCounts", "log_rising"]

_LARGE = 16.0  # from this size on, Stirling's series is exact to the last bit of float32


def log_rising(y: Tensor, size: Tensor) -> Tensor:
    """Compute log Γ(y + r) − log Γ(r) − y log r, without cancellation for large sizes r.

    With Stirling's log Γ(x) = (x − ½) log x − x + ½ log 2π + S(x) it is (y + r − ½) log(1 + y/r)
    − y + S(y + r) − S(r). It is log Π (1 + k/r) over k < y, so 0 for y = 0, and near it for r ≫ y².
    """
    y, size = torch.broadcast_tensors(y, size)
    few = size.clamp(max=_LARGE)
    direct = (y + few).lgamma() - few.lgamma() - y * few.log()
    many = size.clamp(min=_LARGE)
    ratio = y / many
    # (y + r) log(1 + y/r) − y = r [(1 + x) log(1 + x) − x], which cancels for small x = y/r.
    bent = (1 + ratio) * ratio.log1p() - ratio
    small = ratio.square() * (0.5 - ratio * (1 / 6 - ratio * (1 / 12 - ratio / 20)))
    bent = torch.where(ratio < 1e-3, small, bent)
    series = many * bent - 0.5 * ratio.log1p() + _stirling(y + many) - _stirling(many)
    return torch.where(size < _LARGE, direct, series)


def _stirling(x: Tensor) -> Tensor:
    inverse = 1 / x.square()
    return (1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse / 1680))) / x


class NegativeBinomialCounts(distributions.Distribution):
    """The negative binomial distribution of a mean μ and a dispersion α: variance μ + α μ².

    Parameters
    ----------
    mean : Tensor of the batch shape
        The mean count.
    dispersion : Tensor of the batch shape
        The dispersion, positive.
    """

    _mean: Tensor
    dispersion: Tensor
    arg_constraints: dict[str, Any] = {}
    is_discrete = True

    def __init__(self, mean: Tensor, dispersion: Tensor) -> None:
        self._mean, self.dispersion = torch.broadcast_tensors(mean, dispersion)
        super().__init__(self._mean.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def variance(self) -> Tensor:
        return self._mean + self.dispersion * self._mean.square()

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute log p of counts, and by the same formula between them."""
        value, mean, dispersion = torch.broadcast_tensors(value, self._mean, self.dispersion)
        y = value.clamp(min=0)
        size = 1 / dispersion
        log_p = (
            log_rising(y, size)
            - (y + 1).lgamma()
            + y.xlogy(mean)
            - (y + size) * torch.log1p(dispersion * mean)
        )
        return torch.where(value < 0, -math.inf, log_p)

    def cdf(self, value: Tensor) -> Tensor:
        """Compute P(Y ≤ y) by the regularised incomplete beta function (without a gradient)."""
        k = whole_below(value)
        share = 1 / (1 + self.dispersion * self._mean)
        below = by_scipy(scipy.special.betainc, 1 / self.dispersion, k.clamp(min=0) + 1, share)
        return torch.where(k < 0, 0.0, below)

    def icdf(self, value: Tensor) -> Tensor:
        level, mean = torch.broadcast_tensors(value, self._mean)
        # The tail falls at least like that of a geometric distribution of mean α μ.
        steps = 40 * self.stddev + 80 * (1 + self.dispersion * self._mean) + 80
        high = (mean + steps).ceil()
        return least_integer(self.cdf, level, torch.full_like(mean, -1.0), high)

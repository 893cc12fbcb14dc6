"""Join the distributions that the views of a draw predict, and measure how much they differ."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from skuq._distributions._families import invert, least_integer
from skuq._distributions._mixture import is_discrete, mixture_crps, mixture_quantile
from skuq._distributions._softmax import TRUSTED, Softmax, mean_of_draws
from skuq._reductions import DECOMPOSED, OF_EACH_DRAW
from skuq.uncertainty import _moments

__all__ = [
    "ClassMean",
    "NestedUncertainty",
    "OverViews",
    "TargetMixture",
    "nested_of_classes",
    "nested_of_targets",
    "side_by_side",
]


class NestedUncertainty(NamedTuple):
    """Total uncertainty in three parts: ``total = within_views + between_views + epistemic``.

    Attributes
    ----------
    total : array
        The sum of the other three.
    within_views : array
        The uncertainty of a single view of a single draw, on average.
    between_views : array
        The disagreement of the views of a draw, on average over the draws. The sum of this and
        `within_views` is the aleatoric uncertainty.
    epistemic : array
        The disagreement of the draws, each averaged over its views.
    """

    total: Any
    within_views: Any
    between_views: Any
    epistemic: Any


# ---------------------------------------------------------------------------------------------
# Classes


class ClassMean:
    """Averages the probabilities of views one by one, so memory does not grow with the views.

    It sums probabilities until one could underflow. From then on it sums their logarithms, which
    takes several times as long.

    Parameters
    ----------
    measure : str, default=None
        The measure of uncertainty within the views, if `nested_of_classes` will need it.
    """

    def __init__(self, measure: str | None = None) -> None:
        self._measure = measure
        self._n_views = 0
        self._sum: Any = 0.0  # of the probabilities, or
        self._log_sum: Tensor | None = None
        self._within: Any = 0.0
        self._alike: Any = True

    def add(self, predictive: Softmax) -> None:
        self._add_probabilities(predictive)
        if self._measure is not None:
            if self._n_views == 0:
                self._first = predictive.probs
            self._within = self._within + OF_EACH_DRAW[self._measure](predictive)
            self._alike = self._alike & (predictive.probs == self._first).all(-1)
        self._n_views += 1

    def _add_probabilities(self, predictive: Softmax) -> None:
        probs = predictive.probs
        # The check would make a GPU wait, and a GPU is fast with logarithms, too.
        if self._log_sum is None and not probs.is_cuda and float(probs.min()) > TRUSTED:
            self._sum = self._sum + probs
        elif self._n_views == 0:
            self._log_sum = predictive.logits
        else:
            before = self._sum.log() if self._log_sum is None else self._log_sum
            self._log_sum = torch.logaddexp(before, predictive.logits)

    def result(self) -> Softmax:
        log_sum = self._sum.log() if self._log_sum is None else self._log_sum
        mean = Softmax(log_sum - math.log(self._n_views))
        if self._measure is not None:
            mean.within_views = self._within / self._n_views  # type: ignore[attr-defined]
            mean.views_are_alike = self._alike  # type: ignore[attr-defined]
        return mean


def nested_of_classes(measure: str) -> Callable[[Softmax], NestedUncertainty]:
    """Make the reduction of the result of `ClassMean` with this measure."""
    if measure not in DECOMPOSED:
        known = ", ".join(map(repr, DECOMPOSED))
        raise ValueError(f"kind='nested' needs a measure that decomposes: {known}, got {measure!r}")

    def reduction(predictive: Softmax) -> NestedUncertainty:
        parts = DECOMPOSED[measure](predictive)
        if not hasattr(predictive, "within_views"):  # only the identity
            between = torch.zeros_like(parts.total)
        else:
            excess = OF_EACH_DRAW[measure](predictive) - predictive.within_views
            # If views agree exactly, the part between them is exactly 0.
            nothing = predictive.views_are_alike | (excess < 0)  # type: ignore[attr-defined]
            between = mean_of_draws(torch.where(nothing, 0.0, excess))
        within = (parts.aleatoric - between).clamp(min=0)
        return NestedUncertainty(parts.total, within, between, parts.epistemic)

    return reduction


# ---------------------------------------------------------------------------------------------
# Real targets


class TargetMixture:
    """Collects the distributions of all views, which quantiles need together."""

    def __init__(self) -> None:
        self._views: list[Distribution] = []

    def add(self, predictive: Distribution) -> None:
        self._views.append(predictive)

    def result(self) -> OverViews:
        return OverViews(self._views)


class OverViews(Distribution):
    """For each draw, the mixture in equal parts of the distributions of its views.

    Parameters
    ----------
    views : list of Distribution of batch shape (n_draws, n_rows, n_targets)
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(self, views: list[Distribution]) -> None:
        super().__init__(views[0].batch_shape, validate_args=False)
        self.views = views
        self.base = views[0]  # by which `skuq._distributions._mixture.device_of` finds the device
        self.is_discrete = is_discrete(views[0])
        means = torch.stack([view.mean for view in views])
        # Differences from the first view: views that agree exactly have a variance of exactly 0.
        apart = means - means[0]
        self._mean = means[0] + apart.mean(0)
        self.between = (apart - apart.mean(0)).square().mean(0)
        self.within = torch.stack([view.variance for view in views]).mean(0)

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def variance(self) -> Tensor:
        """Variance by the law of total variance over the views, E[Var y] + Var E[y]."""
        return self.within + self.between

    def cdf(self, y: Tensor) -> Tensor:
        return torch.stack([view.cdf(y) for view in self.views]).mean(0)

    def log_prob(self, y: Tensor) -> Tensor:
        densities = torch.stack([view.log_prob(y) for view in self.views])
        return densities.logsumexp(0) - math.log(len(self.views))

    def icdf(self, q: Tensor) -> Tensor:
        single = torch.stack([view.icdf(q) for view in self.views])
        low, high = single.amin(0), single.amax(0)
        level = q.expand_as(low)
        if self.is_discrete:
            return least_integer(self.cdf, level, low - 1, high)
        return invert(self.cdf, lambda y: self.log_prob(y).exp(), level, single.mean(0), low, high)

    def quantile_of_mixture(self, level: Tensor) -> Tensor:
        """Compute quantiles over draws and views together, as one mixture."""
        return mixture_quantile(side_by_side(self.views), level)

    def crps_of_mixture(self, y: Tensor) -> Tensor:
        return mixture_crps(side_by_side(self.views), y)


def side_by_side(views: list[Distribution]) -> Distribution:
    """Count every view of every draw as a draw, on the first axis of n_views · n_draws."""
    if all(type(view) is Normal for view in views):
        means, stds = (torch.cat([getattr(v, name) for v in views]) for name in ("mean", "stddev"))
        return Normal(means, stds, validate_args=False)
    return _SideBySide(views)


class _SideBySide(Distribution):
    arg_constraints: dict[str, Any] = {}

    def __init__(self, views: list[Distribution]) -> None:
        n_draws, *shape = views[0].batch_shape
        super().__init__(torch.Size((len(views) * n_draws, *shape)), validate_args=False)
        self._views = views
        self.base = views[0]
        self.is_discrete = is_discrete(views[0])

    @property
    def mean(self) -> Tensor:
        return torch.cat([view.mean for view in self._views])

    @property
    def variance(self) -> Tensor:
        return torch.cat([view.variance for view in self._views])

    def _each(self, method: str, value: Tensor) -> Tensor:
        """Call a method of every view; axis −3 of `value`, if any, holds one entry or all draws."""
        apart = value.ndim >= 3 and value.shape[-3] == self.batch_shape[0]
        values = value.chunk(len(self._views), -3) if apart else [value] * len(self._views)
        parts = (getattr(view, method)(v) for view, v in zip(self._views, values))
        return torch.cat(list(parts), -3)

    def cdf(self, y: Tensor) -> Tensor:
        return self._each("cdf", y)

    def icdf(self, q: Tensor) -> Tensor:
        return self._each("icdf", q)

    def log_prob(self, y: Tensor) -> Tensor:
        return self._each("log_prob", y)


def nested_of_targets(predictive: Distribution) -> NestedUncertainty:
    """Reduce the result of `TargetMixture`, or plain distributions if there is only one view."""
    total, aleatoric, epistemic = _moments(predictive.mean, predictive.variance)
    if not isinstance(predictive, OverViews):  # only the identity
        return NestedUncertainty(total, aleatoric, torch.zeros_like(total), epistemic)
    within, between = mean_of_draws(predictive.within), mean_of_draws(predictive.between)
    return NestedUncertainty(within + between + epistemic, within, between, epistemic)

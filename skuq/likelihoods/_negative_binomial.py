"""Counts that vary more than Poisson's, by the negative binomial distribution."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from skuq._distributions._counts import NegativeBinomialCounts, log_rising
from skuq._utils._sklearn_compat import Interval
from skuq.likelihoods._base import Likelihood, refuse_extremes
from skuq.likelihoods._links import LINEAR_FROM, positive
from skuq.likelihoods._poisson import checked_counts

__all__ = ["NegativeBinomial"]


class NegativeBinomial(Likelihood):
    """Counts that vary more than Poisson's: a mean and a dispersion for each target [1]_.

    Outputs are [z_1 … z_D, s_1 … s_D]. The mean of y is μ = c e(z), with the mean c of the target
    in training, and its variance μ + α μ², with the dispersion α = e(s). Here e is exp up to 4, and
    its tangent beyond. For α → 0 it is `Poisson`, for α = 1 the geometric distribution. It is a
    Poisson distribution whose rate varies by a gamma distribution of variance α μ². The loss is

        −log Γ(y + 1/α) + log Γ(1/α) − y log(α μ) + (y + 1/α) log(1 + α μ),

    summed over the targets: the negative log-likelihood without log y!. Targets are independent
    given x.

    Parameters
    ----------
    min_rate : float, default=1e-6
        Smallest mean μ, in units of the mean of the target.
    min_dispersion : float, default=1e-4
        Smallest dispersion α.
    standardise : bool, default=True
        Whether c is the mean of the target. False sets it to 1 and e to exp: the outputs are
        logarithms of means and dispersions of y itself, for networks that were trained elsewhere.

    Notes
    -----
    Aleatoric variance μ + α μ² grows with the square of the mean, as in counts of events that come
    in clusters. As in `Poisson`, y >= 0 need not be integers; quantiles are. The Fisher information
    of the dispersion has no closed form, so `LastLayerLaplace` does not take this likelihood.

    References
    ----------
    .. [1] J. Hilbe, "Negative Binomial Regression", Cambridge University Press, 2nd edition, 2011,
       doi:10.1017/CBO9780511973420.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skuq.likelihoods import NegativeBinomial
    >>> likelihood = NegativeBinomial(min_dispersion=1e-9).fit(np.array([[1.0], [3.0]]))
    >>> predictive = likelihood.predictive(torch.tensor([[0.0, 0.0]]))  # geometric, of mean 2
    >>> round(float(predictive.mean), 3), round(float(predictive.variance), 3)
    (2.0, 6.0)
    >>> float(predictive.icdf(torch.tensor(0.95)))
    7.0
    """

    task = "regression"
    # The mean of the target, where the network gives means of y itself.
    _rate_unit: np.ndarray | None
    _linear_from: float | None
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "min_rate": [Interval(Real, 0, 1, closed="neither")],
        "min_dispersion": [Interval(Real, 0, 1, closed="neither")],
        "standardise": ["boolean"],
    }

    def __init__(
        self, min_rate: float = 1e-6, min_dispersion: float = 1e-4, standardise: bool = True
    ) -> None:
        self.min_rate = min_rate
        self.min_dispersion = min_dispersion
        self.standardise = standardise

    def update_tags(self, tags: Any) -> None:
        tags.target_tags.positive_only = True

    def fit(
        self,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        n_classes: int | None = None,
        seed: int = 0,
    ) -> Self:
        self._linear_from = LINEAR_FROM if self.standardise else None
        self.n_targets_ = y.shape[1]
        self.n_outputs_ = 2 * self.n_targets_
        refuse_extremes(np.abs(y).max(axis=0), "largest value", least=0.0)
        mean = np.average(checked_counts(y, "NegativeBinomial"), axis=0, weights=sample_weight)
        unit = np.where(mean > 0, mean, 1.0)
        self.scale_ = unit if self.standardise else np.ones_like(unit)
        self._rate_unit = None if self.standardise else unit
        return self

    def explain_outputs(self) -> str:
        return (
            f"the logarithm of a mean for each of {self.n_targets_} targets, and then that of a "
            "dispersion"
        )

    def links(self) -> list[str]:
        return ["exp"] * self.n_outputs_

    def encode(self, y: np.ndarray) -> np.ndarray:
        return checked_counts(y, "NegativeBinomial") / self.scale_

    def decode(self, y: np.ndarray) -> np.ndarray:
        decoded: np.ndarray = self.scale_ * y
        return decoded

    def _parts(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return means, in units of y, and dispersions."""
        raw_mean, raw_dispersion = output.split(self.n_targets_, dim=-1)
        mean = positive(raw_mean, self._linear_from, self._rate_unit)
        least = self.min_rate if self._rate_unit is None else self.min_rate * self._rate_unit
        mean = (mean + mean.new_tensor(least)) * mean.new_tensor(self.scale_)
        dispersion = positive(raw_dispersion, self._linear_from) + self.min_dispersion
        return mean, dispersion

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        mean, dispersion = self._parts(output)
        y, size = target * output.new_tensor(self.scale_), 1 / dispersion
        constant = log_rising(y, size) + y * mean.log()
        return ((y + size) * torch.log1p(dispersion * mean) - constant).sum(-1)

    def negative_log_likelihood(self, output: Tensor, target: Tensor) -> Tensor:
        y = target * output.new_tensor(self.scale_)
        return self.loss(output, target) + (y + 1).lgamma().sum(-1)

    def predictive(self, output: Tensor) -> NegativeBinomialCounts:
        return NegativeBinomialCounts(*self._parts(output))

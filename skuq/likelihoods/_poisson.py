"""Counts, by the Poisson distribution."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from skuq._distributions._families import PoissonCounts
from skuq._utils._sklearn_compat import Interval
from skuq.likelihoods._base import Likelihood, refuse_extremes
from skuq.likelihoods._links import LINEAR_FROM, positive, positive_slope

__all__ = ["Poisson", "checked_counts"]


def checked_counts(y: np.ndarray, name: str) -> np.ndarray:
    """Refuse targets below 0."""
    if (y < 0).any():
        raise ValueError(
            f"{name} needs counts, y >= 0, got {y.min():.4g}: use Gaussian() or another "
            "likelihood of real targets"
        )
    return y


class Poisson(Likelihood):
    """Counts: the outputs are the logarithms of rates.

    Targets are independent given x. The rate of each of D targets is λ = c e(z), where z is its
    output, e(z) = exp(z) up to z = 4, and c the mean of the target in training. In units of c the
    loss is

        λ/c − (y/c) log(λ/c),

    summed over the targets: 1/c times the negative log-likelihood λ − y log λ + log y!, without
    terms that depend only on y. For a given set of y the best rate is their mean. Mean and variance
    of y are both λ, so the aleatoric uncertainty equals the predicted rate. Counts that vary more
    are not Poisson: `NegativeBinomial` also learns by how much.

    Parameters
    ----------
    min_rate : float, default=1e-6
        Smallest rate λ, in units of the mean of the target.
    standardise : bool, default=True
        Whether c is the mean of the target. False sets it to 1: the outputs are logarithms of the
        rates of y itself, for networks that were trained elsewhere.

    Notes
    -----
    Beyond z = 4 the link e(z) goes on as its tangent, up to 10⁴ c: rows far from the training data
    then have a rate that is large, and not absurd.

    As in scikit-learn's `PoissonRegressor`, y >= 0 need not be integers (rates, with exposures as
    `sample_weight`). The likelihood then follows the same formula, and predicted quantiles are
    integers in any case.

    References
    ----------
    .. [1] P. McCullagh, J. Nelder, "Generalized Linear Models", Chapman and Hall, 1989,
       doi:10.1007/978-1-4899-3242-6.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skuq.likelihoods import Poisson
    >>> likelihood = Poisson().fit(np.array([[1.0], [3.0]]))
    >>> predictive = likelihood.predictive(torch.tensor([[0.0]]))
    >>> round(float(predictive.mean), 3), float(predictive.icdf(torch.tensor(0.95)))
    (2.0, 5.0)
    """

    task = "regression"
    _linear_from: float | None = None  # of likelihoods fitted before there was a linear part
    # The mean, where the network gives rates of y itself; those fitted before this unit lack it.
    _rate_unit: np.ndarray | None = None
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "min_rate": [Interval(Real, 0, 1, closed="neither")],
        "standardise": ["boolean"],
    }

    def __init__(self, min_rate: float = 1e-6, standardise: bool = True) -> None:
        self.min_rate = min_rate
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
        self.n_targets_ = self.n_outputs_ = y.shape[1]
        refuse_extremes(np.abs(y).max(axis=0), "largest value", least=0.0)
        mean = np.average(checked_counts(y, "Poisson"), axis=0, weights=sample_weight)
        unit = np.where(mean > 0, mean, 1.0)
        self.scale_ = unit if self.standardise else np.ones_like(unit)
        self._rate_unit = None if self.standardise else unit
        return self

    def explain_outputs(self) -> str:
        return f"the logarithm of a rate for each of {self.n_targets_} targets"

    def links(self) -> list[str]:
        return ["exp"] * self.n_outputs_

    def encode(self, y: np.ndarray) -> np.ndarray:
        return checked_counts(y, "Poisson") / self.scale_

    def decode(self, y: np.ndarray) -> np.ndarray:
        decoded: np.ndarray = self.scale_ * y
        return decoded

    def _rate(self, output: Tensor) -> Tensor:
        """Return rates in units of `scale_`."""
        rate = positive(output, self._linear_from, self._rate_unit)
        if self._rate_unit is None:
            return rate + self.min_rate
        return rate + output.new_tensor(self.min_rate * self._rate_unit)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        rate = self._rate(output)
        return (rate - target * rate.log()).sum(-1)

    def negative_log_likelihood(self, output: Tensor, target: Tensor) -> Tensor:
        y = target * output.new_tensor(self.scale_)
        return -self.predictive(output).log_prob(y).sum(-1)

    def fisher(self, output: Tensor) -> Tensor:
        rate = self._rate(output)
        slope = positive_slope(output, self._linear_from, self._rate_unit)
        return torch.diag_embed(output.new_tensor(self.scale_) * slope.square() / rate)

    def predictive(self, output: Tensor) -> PoissonCounts:
        return PoissonCounts(self._rate(output) * output.new_tensor(self.scale_))

"""The base of likelihoods of real targets, which are trained in standardised units."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from torch import Tensor, distributions

from skuq.likelihoods._base import refuse_extremes
from skuq.likelihoods._links import LINEAR_FROM, positive, positive_slope

__all__ = ["Standardised"]


class Standardised:
    """Mixin: targets become (y − location_) / scale_, by their weighted mean and deviation.

    A likelihood gives ``_outputs_per_target`` and ``_distribution(output, location, scale)``, the
    distribution of location + scale · z for outputs about z. The loss is then the negative
    log-likelihood of z.
    """

    n_outputs_: int
    # From where the link of the noise is linear; likelihoods fitted before there was one lack it.
    _linear_from: float | None = None

    @property
    def _outputs_per_target(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} does not implement _outputs_per_target")

    def _distribution(
        self, output: Tensor, location: Any = 0.0, scale: Any = 1.0
    ) -> distributions.Distribution:
        raise NotImplementedError(f"{type(self).__name__} does not implement _distribution")

    def fit(
        self,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        n_classes: int | None = None,
        seed: int = 0,
    ) -> Self:
        self._linear_from = LINEAR_FROM
        self.n_targets_ = y.shape[1]
        self.n_outputs_ = self.n_targets_ * self._outputs_per_target
        refuse_extremes(np.abs(y).max(axis=0), "largest value", least=0.0)
        self.location_ = np.average(y, axis=0, weights=sample_weight)
        apart = np.abs(y - self.location_)
        unit = 2.0 ** np.frexp(apart.max(axis=0))[1]  # squares in any other may vanish
        deviation = unit * np.sqrt(np.average((apart / unit) ** 2, axis=0, weights=sample_weight))
        constant = deviation <= 10 * np.finfo(float).eps * np.abs(self.location_)
        size = np.where(self.location_ == 0, 1.0, np.minimum(1.0, np.abs(self.location_)))
        self.scale_ = refuse_extremes(np.where(constant, size, deviation), "standard deviation")
        return self

    def links(self) -> list[str]:
        """Name a location for each target; all other outputs are logarithms."""
        others = self.n_outputs_ - self.n_targets_
        return ["location"] * self.n_targets_ + ["exp"] * others

    def _scale_of(self, raw: Tensor) -> Tensor:
        """The scale of a log-scale s, the root of the variance that belongs to 2 s."""
        if self._linear_from is None:
            return positive(raw, None)
        return positive(2 * raw, self._linear_from).sqrt()

    def _slope_of_scale(self, raw: Tensor) -> Tensor:
        if self._linear_from is None:
            return positive_slope(raw, None)
        return positive_slope(2 * raw, self._linear_from) / self._scale_of(raw)

    def encode(self, y: np.ndarray) -> np.ndarray:
        encoded: np.ndarray = (y - self.location_) / self.scale_
        return encoded

    def decode(self, y: np.ndarray) -> np.ndarray:
        decoded: np.ndarray = self.location_ + self.scale_ * y
        return decoded

    def _log_density(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the joint log density of the standardised targets."""
        return self._distribution(output).log_prob(target).sum(-1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return -self._log_density(output, target)

    def negative_log_likelihood(self, output: Tensor, target: Tensor) -> Tensor:
        return output.new_tensor(np.log(self.scale_)).sum() - self._log_density(output, target)

    def predictive(self, output: Tensor) -> distributions.Distribution:
        return self._distribution(
            output, output.new_tensor(self.location_), output.new_tensor(self.scale_)
        )

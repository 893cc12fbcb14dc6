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

    A likelihood with a parameter `standardise` of False keeps targets as they are; of a pair, it
    takes location and scale from there.

    A likelihood gives ``_outputs_per_target`` and ``_distribution(output, location, scale)``, the
    distribution of location + scale · z for outputs about z. The loss is then the negative
    log-likelihood of z.
    """

    standardise: Any = True
    n_outputs_: int
    # From where the link of the noise is linear; likelihoods fitted before there was one lack it.
    _linear_from: float | None = None
    # The standard deviation of encoded targets, where these have given units. Likelihoods fitted
    # before the noise was bounded in this unit lack it.
    _noise_unit: np.ndarray | None = None

    def validate(self) -> None:
        super().validate()  # type: ignore[misc]
        if self._is_pair:
            _checked_pair(self.standardise)

    @property
    def _is_pair(self) -> bool:
        return isinstance(self.standardise, tuple | list)

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
        self._linear_from = LINEAR_FROM if self.standardise is True else None  # given units: exp
        self.n_targets_ = y.shape[1]
        self.n_outputs_ = self.n_targets_ * self._outputs_per_target
        refuse_extremes(np.abs(y).max(axis=0), "largest value", least=0.0)
        location, deviation = _moments(y, sample_weight)
        if self._is_pair or not self.standardise:
            self.location_, self.scale_ = self._given_units()
            self.spread_ = self._noise_unit = deviation / self.scale_
        else:
            self.location_, self.scale_ = location, deviation
            self.spread_, self._noise_unit = np.ones(self.n_targets_), None
        return self

    def output_units(self) -> np.ndarray:
        others = np.ones(self.n_outputs_ - self.n_targets_)
        return np.concatenate([self.spread_, others])

    def _given_units(self) -> tuple[np.ndarray, np.ndarray]:
        """Location and scale of each target, where they do not come from y."""
        if not self._is_pair:
            return np.zeros(self.n_targets_), np.ones(self.n_targets_)
        location, scale = _checked_pair(self.standardise)
        for values in (location, scale):
            if values.ndim and values.shape != (self.n_targets_,):
                raise ValueError(
                    f"standardise={self.standardise!r} has values of shape {values.shape}; "
                    f"expected numbers, or arrays of shape ({self.n_targets_},), one for each "
                    "target in y"
                )
        shape = (self.n_targets_,)
        return np.broadcast_to(location, shape).copy(), np.broadcast_to(scale, shape).copy()

    @property
    def _location_link(self) -> str:
        """Where targets are as they are, an output of short range may suit them."""
        return "location" if self._is_pair or self.standardise else "free"

    def links(self) -> list[str]:
        """Name a location for each target; all other outputs are logarithms."""
        others = self.n_outputs_ - self.n_targets_
        return [self._location_link] * self.n_targets_ + ["exp"] * others

    def _noise_units(self, power: int, parts: bool = False) -> np.ndarray | None:
        """Return the unit of scales (power 1) or variances (2) in encoded units; None is 1.

        It has a last axis for the parts of a target (components, quantiles) if there are any.
        """
        if self._noise_unit is None:
            return None
        unit: np.ndarray = self._noise_unit**power
        return unit[:, None] if parts else unit

    def _least_noise(self, value: float, power: int) -> float | np.ndarray:
        """Return a floor of scales (power 1) or variances (2), in encoded units."""
        unit = self._noise_units(power)
        return value if unit is None else value * unit

    def _floor(self, value: float, power: int, like: Tensor, parts: bool = False) -> Any:
        """Return the same floor, to add to a tensor."""
        unit = self._noise_units(power, parts)
        return value if unit is None else value * like.new_tensor(unit)

    def _scale_of(self, raw: Tensor) -> Tensor:
        """Compute the scale of a log-scale s, the root of the variance that belongs to 2 s."""
        if self._linear_from is None:
            return positive(raw, None, self._noise_unit)
        return positive(2 * raw, self._linear_from).sqrt()

    def _slope_of_scale(self, raw: Tensor) -> Tensor:
        if self._linear_from is None:
            return positive_slope(raw, None, self._noise_unit)
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


def _moments(y: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and standard deviation of each target; a constant target gets a substitute."""
    location = np.average(y, axis=0, weights=weight)
    apart = np.abs(y - location)
    unit = 2.0 ** np.frexp(apart.max(axis=0))[1]  # squares in any other may vanish
    deviation = unit * np.sqrt(np.average((apart / unit) ** 2, axis=0, weights=weight))
    constant = deviation <= 10 * np.finfo(float).eps * np.abs(location)
    size = np.where(location == 0, 1.0, np.minimum(1.0, np.abs(location)))
    return location, refuse_extremes(np.where(constant, size, deviation), "standard deviation")


def _checked_pair(pair: Any) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale as arrays, of one number or of one for each target."""
    try:
        location, scale = (np.asarray(values, dtype=float) for values in pair)
        sound = np.isfinite(location).all() and np.isfinite(scale).all() and (scale > 0).all()
    except (TypeError, ValueError):
        sound = False
    if not sound or max(location.ndim, scale.ndim) > 1:
        shown = tuple(v.item() if isinstance(v, np.generic) else v for v in pair)
        raise ValueError(
            "standardise must be True, False or a pair (location, scale) of finite numbers or "
            f"arrays of one for each target, scales above 0; got {shown!r}"
        )
    return location, scale

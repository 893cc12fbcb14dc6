"""Noise in the inputs of a regressor, by the slope of its mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_consistent_length
from torch import Tensor
from torch.distributions import Distribution, Normal

from skuq._composition import predictions
from skuq._data._checks import CheckedRows
from skuq._differentiable import predictive_function
from skuq._distributions._mixture import is_discrete
from skuq._distributions._softmax import mean_of_draws
from skuq._meta import innermost
from skuq._predict import RegressorPredictions
from skuq._utils._sklearn_compat import _num_samples
from skuq.augmentation._evaluation import as_rows
from skuq.augmentation._mixing import OverViews
from skuq.inputs._parts import InputUncertainty
from skuq.uncertainty import _moments

__all__ = ["LinearisedTargets", "check_family", "slopes", "widened"]

_ROWS = 256  # whose slopes are computed at a time
_N_SHIFTS = 16  # copies of a distribution that is not normal
_BY_SAMPLES = "use method='monte_carlo', which needs no slope"


def slopes(estimator: Any, X: Any, reduce: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Compute a function of the slopes of the mean in x, for every draw and target.

    Parameters
    ----------
    estimator : fitted regressor
        A skuq regressor, or what `uncertainty_function` sees through.
    X : array-like of shape (n_rows, ...)
        Rows, as the estimator takes them.
    reduce : callable
        Maps slopes of shape (n_rows, n_features) to what is kept of them, (n_rows, ...).

    Returns
    -------
    ndarray of shape (n_rows, n_draws, n_targets, ...)
    """
    leaf, inner = innermost(estimator, X)
    if hasattr(leaf, "_check_rows"):
        leaf._check_rows(inner)  # refuses what is no row, as `predict` does
    try:
        predictive = predictive_function(estimator)
    except TypeError as error:
        raise TypeError(f"the slope of the mean is not known ({error}): {_BY_SAMPLES}") from error
    rows = X.tensor if isinstance(X, CheckedRows) else as_rows(X)
    return np.concatenate([_slopes(predictive[0], x, reduce) for x in rows.split(_ROWS)])


def _slopes(
    predictive: Callable[[Tensor], Distribution], x: Tensor, reduce: Callable[[Tensor], Tensor]
) -> np.ndarray:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        try:
            mean = predictive(x).mean
        except RuntimeError as error:  # a calibrator may interpolate arrays
            raise TypeError(
                f"the slope of the mean is not known ({error}): {_BY_SAMPLES}"
            ) from None
        if not mean.requires_grad:
            raise TypeError(f"the predicted mean has no slope: {_BY_SAMPLES}")
        n_draws, _, n_targets = mean.shape
        kept = [
            [
                reduce(
                    torch.autograd.grad(mean[m, :, d].sum(), x, retain_graph=True)[0]
                    .flatten(1)
                    .double()
                )
                for d in range(n_targets)
            ]
            for m in range(n_draws)
        ]
    stacked = torch.stack([torch.stack(of_draw, 1) for of_draw in kept], 1)
    found: np.ndarray = stacked.cpu().numpy()
    return found


def check_family(predictive: Distribution) -> None:
    """Refuse counts, which no shift of a distribution keeps whole."""
    base = predictive
    while True:
        if is_discrete(base):
            raise ValueError(
                f"InputNoise cannot move a distribution of counts by the slope of its mean: "
                f"{_BY_SAMPLES}"
            )
        if not hasattr(base, "base"):
            return
        base = base.base


class Shifted(Distribution):
    """The distribution of z + shift.

    Parameters
    ----------
    base : Distribution of batch shape (n_draws, n_rows, n_targets)
        The distribution of z.
    shift : Tensor of shape (n_draws, n_rows, n_targets)
        What is added.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(self, base: Distribution, shift: Tensor) -> None:
        super().__init__(base.batch_shape, validate_args=False)
        self.base = base
        self.shift = shift

    @property
    def mean(self) -> Tensor:
        return self.base.mean + self.shift

    @property
    def variance(self) -> Tensor:
        return self.base.variance

    def cdf(self, y: Tensor) -> Tensor:
        return self.base.cdf(y - self.shift)

    def icdf(self, q: Tensor) -> Tensor:
        return self.base.icdf(q) + self.shift

    def log_prob(self, y: Tensor) -> Tensor:
        return self.base.log_prob(y - self.shift)


def widened(predictive: Distribution, variance: Tensor, factor: float = 1.0) -> Distribution:
    """Add independent normal noise to every draw.

    Normal distributions stay normal. Others become a mixture of 16 shifted copies, whose shifts are
    the means of the sixteenths of a normal distribution, scaled to the right variance.

    Parameters
    ----------
    predictive : Distribution of batch shape (n_draws, n_rows, n_targets)
        The distributions of the draws.
    variance : Tensor of the same shape
        The variance of the noise.
    factor : float, default=1.0
        Factor of the variance of normal distributions, before.
    """
    if type(predictive) is Normal:
        total = factor * predictive.variance + variance
        return Normal(predictive.mean, total.sqrt(), validate_args=False)
    check_family(predictive)
    levels = (torch.arange(_N_SHIFTS + 1, dtype=torch.float64) / _N_SHIFTS).clamp(1e-15, 1 - 1e-15)
    heights = torch.exp(-0.5 * torch.special.ndtri(levels).square())
    shifts = heights[:-1] - heights[1:]  # in proportion to the means of the parts
    shifts = shifts / shifts.square().mean().sqrt()
    deviation = variance.sqrt()
    return OverViews([Shifted(predictive, float(shift) * deviation) for shift in shifts])


class LinearisedTargets(RegressorPredictions):
    """A regressor whose draws have the noise J Σ Jᵀ besides their own.

    Parameters
    ----------
    estimator : fitted regressor
        The regressor.
    scale : ndarray of shape (n_features,) or (n_features, n_features)
        Standard deviations of the inputs, or their covariance matrix Σ.
    noise_factor : float
        Factor of the regressor's own noise.
    """

    def __init__(self, estimator: Any, scale: np.ndarray, noise_factor: float) -> None:
        self._estimator = estimator
        self._scale = torch.from_numpy(scale)
        self._noise_factor = noise_factor
        self._target_shape: tuple[int, ...] = ()  # set by each prediction

    def _variance(self, slope: Tensor) -> Tensor:
        scale = self._scale.to(slope.device)
        if scale.ndim == 1:
            return (slope * scale).square().sum(1)
        return ((slope @ scale) * slope).sum(1).clamp(min=0)

    def _with_variance(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        """Reduce distributions and the variances that the inputs add to each draw."""
        if aligned:
            check_consistent_length(X, *aligned)
        asked, inner = predictions(self._estimator, X)
        self._target_shape = getattr(asked, "_target_shape", ())
        if not _num_samples(X):
            return asked._reduce(inner, reduction, *aligned)  # which says that there are no rows
        variance = slopes(self._estimator, X, self._variance)

        def with_variance(predictive: Distribution, added: Tensor, *rows: Tensor) -> Any:
            return reduction(predictive, added.movedim(1, 0).to(predictive.mean), *rows)

        return asked._reduce(inner, with_variance, variance, *aligned)

    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        def noisy(predictive: Distribution, added: Tensor, *rows: Tensor) -> Any:
            return reduction(widened(predictive, added, self._noise_factor), *rows)

        return self._with_variance(X, noisy, *aligned)

    def predict_uncertainty(self, X: Any, kind: str = "total") -> Any:
        if kind != "nested":
            return super().predict_uncertainty(X, kind)

        def parts(predictive: Distribution, added: Tensor) -> InputUncertainty:
            check_family(predictive)
            _, noise, epistemic = _moments(predictive.mean, predictive.variance)
            noise, extra = self._noise_factor * noise, mean_of_draws(added)
            return InputUncertainty(noise + extra + epistemic, noise, extra, epistemic)

        return InputUncertainty(*map(self._like_target, self._with_variance(X, parts)))

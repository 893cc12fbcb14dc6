"""Learn how noisy the inputs are, by the likelihood of rows that trained nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.utils.validation import check_array
from torch import Tensor
from torch.distributions import Distribution, Normal

from skuq._composition import predictions
from skuq._reductions import of_targets
from skuq.calibration._base import Calibrator
from skuq.inputs._linear import slopes

__all__ = ["ScaleLearner"]

_SMALLEST = 1e-6  # of the factor of the noise


class ScaleLearner(Calibrator):
    """Learns the variance of the noise of each feature, and a factor of the regressor's own noise.

    They maximise the likelihood of y under the mixture over the draws m of normal distributions
    with the variances a σ²_m + Σ_f s_f² J²_mf, on rows that the estimator was not fitted on.

    Attributes
    ----------
    scale_ : ndarray of shape (n_features,)
        The standard deviations s.
    noise_factor_ : float
        The factor a.
    """

    _classifies: ClassVar[bool] = False

    def _read_targets(self, y: Any) -> np.ndarray:
        target: np.ndarray = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        return target

    def _evidence(self, estimator: Any, X: Any, y: np.ndarray) -> np.ndarray:
        """Return (n_rows, n_draws, n_targets, 2 + n_features): error², variance and slopes²."""
        squares = slopes(estimator, X, lambda slope: slope.square())
        asked, inner = predictions(estimator, X)

        def reduction(predictive: Distribution, y: Tensor) -> tuple[Tensor, Tensor]:
            if type(predictive) is not Normal:
                raise ValueError(
                    "scale='fit' needs a normal distribution of y, as Gaussian() gives it, got "
                    f"{type(predictive).__name__}: give the standard deviations of the inputs"
                )
            parts = (y - predictive.mean).square(), predictive.variance
            return tuple(part.movedim(0, 1) for part in parts)  # type: ignore[return-value]

        error, variance = asked._reduce(inner, of_targets(reduction), y.reshape(len(y), -1))
        return np.concatenate([error[..., None], variance[..., None], squares], axis=-1)

    def _learn(self, evidence: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> None:
        if not len(evidence):
            raise ValueError("scale='fit' needs rows of positive weight to learn from, got none")
        unit = evidence[..., 1].mean()  # of the variance
        found = torch.from_numpy(evidence / unit)
        error, noise, squares = found[..., 0], found[..., 1], found[..., 2:]
        typical = squares.mean(dim=(0, 1, 2))
        known = typical > 0  # other features change nothing
        squares = squares[..., known] / typical[known]
        n_known = squares.shape[-1]
        shares = torch.ones(len(error)) if weight is None else torch.from_numpy(weight)
        shares = shares.double() / shares.double().sum()

        def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
            parameters = torch.tensor(values, requires_grad=True)
            variance = parameters[0] * noise + squares @ parameters[1:]
            density = -0.5 * (variance.log() + error / variance).sum(-1)
            total = -(shares * (density.logsumexp(1) - np.log(density.shape[1]))).sum()
            (slope,) = torch.autograd.grad(total, parameters)
            return total.item(), slope.numpy()

        start = np.concatenate([[0.5], np.full(n_known, 0.5 / max(1, n_known))])
        best = _least(loss, start, n_known)
        self.noise_factor_ = float(best[0])
        self.scale_ = np.zeros(len(typical))
        self.scale_[known.numpy()] = np.sqrt(best[1:] / typical[known].numpy())

    def _calibrated(self, predictive: Any) -> Distribution:
        distribution: Distribution = predictive  # its user widens it
        return distribution


def _least(
    loss: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, n_known: int
) -> np.ndarray:
    """Minimise from the given start, and from the regressor as it is, where no input is noisy."""
    bounds = [(_SMALLEST, None), *[(0.0, None)] * n_known]
    plain = np.concatenate([[1.0], np.full(n_known, 1e-3)])
    results = [
        minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=bounds)
        for begin in (start, plain)
    ]
    best: np.ndarray = min(results, key=lambda result: float(result.fun)).x
    return best

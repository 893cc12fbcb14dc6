"""Regressors with a posterior in closed form, which know the part of the noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skuq._distributions._members import Belief
from skuq._utils._arrays import tensor_of

__all__ = ["gaussian_process", "linear_bayes"]

_BLOCK = 256
_SMALLEST_STD = 1e-150  # a Gaussian process can be certain


def gaussian_process(process: Any, X: Any) -> Belief:
    """Return the predictive distribution; noise is what the kernel has only on its diagonal."""
    check_is_fitted(process, "kernel_")  # it predicts from its prior before
    mean, std = process.predict(X, return_std=True)
    kernel, noise = process.kernel_, np.empty(len(mean))
    rows = np.asarray(X, dtype=float) if kernel.requires_vector_input else X
    for start in range(0, len(mean), _BLOCK):
        some = slice(start, start + _BLOCK)
        together = np.diagonal(kernel(rows[some], rows[some]))
        noise[some] = kernel.diag(rows[some]) - together
    noise = noise.clip(min=0).reshape(-1, *(1 for _ in mean.shape[1:])) * process._y_train_std**2
    return _belief(mean, std, noise)


def linear_bayes(model: Any, X: Any) -> Belief:
    """Return the predictive distribution; the precision `alpha_` of the noise is known."""
    mean, std = model.predict(X, return_std=True)
    return _belief(mean, std, 1 / model.alpha_)


def _belief(mean: np.ndarray, std: np.ndarray, noise: Any) -> Belief:
    shape = (1, len(mean), -1)
    doubt = (np.asarray(std, float) ** 2 - noise).clip(min=0)
    moments = (tensor_of(np.array(part, float)).reshape(shape) for part in (mean, std, doubt))
    centre, spread, function_variance = moments
    return Belief(centre, spread.clamp(min=_SMALLEST_STD), function_variance)

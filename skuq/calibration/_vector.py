"""A scale and a bias for each class, at the level of arrays."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from skuq._utils._messages import warn
from skuq._utils._typing import ArrayLike
from skuq.calibration._logits import Logits, check_logits
from skuq.calibration._temperature import _COLDEST, _HOTTEST, search_temperature

__all__ = ["VectorSearch", "fit_vector_scaling", "search_scales"]


class VectorSearch(NamedTuple):
    """The result of `search_scales`."""

    scale: np.ndarray
    bias: np.ndarray
    n_iter: int
    loss: float  # mean negative log-likelihood, without the penalty


def fit_vector_scaling(
    logits: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    sample_weight: ArrayLike | Tensor | None = None,
    *,
    l2: float = 2.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Find a and b for which softmax(a ⊙ logits + b) describes the labels best.

    `VectorScaler` explains the penalty.

    Parameters
    ----------
    logits, y : as in `fit_temperature`
        Logits and labels of rows that did not train the network.
    sample_weight : array-like of shape (n_samples,) or of the shape of y, default=None
        A weight of 2 is the same as the row twice. So weights that add up to less than the number
        of rows strengthen the penalty.
    l2 : float >= 0, default=2.0
        Strength of the penalty that pulls a towards one common value and b towards 0, in rows.

    Returns
    -------
    scale, bias : ndarray of shape (n_classes,)
        The factors a and the offsets b, of mean 0.

    Warns
    -----
    ConvergenceWarning
        If there is no optimum, as on separable data.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.calibration import fit_vector_scaling
    >>> logits = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    >>> scale, bias = fit_vector_scaling(logits, [0, 0, 1, 1])
    >>> scale.shape, bias.shape
    ((2,), (2,))
    """
    if not 0 <= l2 < math.inf:
        raise ValueError(f"l2 must be a finite number >= 0, got {l2!r}")
    found = search_scales(check_logits(logits, y, sample_weight), l2)
    return found.scale, found.bias


def search_scales(logits: Logits, l2: float) -> VectorSearch:
    """Search by L-BFGS from the best temperature; the objective is convex for one draw."""
    n_classes, strength = logits.draws.shape[-1], l2 / logits.size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bound is as good to begin at
        beta = 1 / search_temperature(logits).temperature
    at_bound = beta in (1 / _COLDEST, 1 / _HOTTEST)
    start = np.concatenate([np.full(n_classes, beta), np.zeros(n_classes)])

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = _loss_and_gradient(logits, parameters)
        scale, bias = np.split(parameters, 2)
        apart = scale - scale.mean()
        penalty = strength * (apart @ apart + bias @ bias)
        return loss + penalty, gradient + 2 * strength * np.concatenate([apart, bias])

    found = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 1000, "gtol": 1e-8, "ftol": 1e-14},
    )
    scale, bias = np.split(found.x, 2)
    endless = _falls_for_ever(objective, found.x, found.fun, l2, at_bound)
    if endless or found.status == 1:  # 1: too many iterations
        warn(
            "the vector scaling has no optimum: the calibration data may be separable, or their "
            "logits mislead; use more or other calibration data",
            ConvergenceWarning,
        )
    loss, _ = _loss_and_gradient(logits, found.x)
    return VectorSearch(scale, bias - bias.mean(), int(found.nit), loss)


def _falls_for_ever(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
    best: np.ndarray,
    least: float,
    l2: float,
    at_bound: bool,
) -> bool:
    """Return whether the loss is no larger a thousand times farther out, without the penalty.

    This holds if every row is classified right. Otherwise, such large logits cost a lot.
    """
    scale, bias = np.split(best, 2)
    if l2:
        farther = np.concatenate([scale + 999 * scale.mean(), bias])
    else:
        farther = 1000 * best
    there, _ = objective(farther)
    # If even the best temperature is at its bound, the search begins there, and rounding decides.
    rounding = 1e-12 if at_bound else -1e-9
    return there <= least + rounding * abs(least)


def _loss_and_gradient(logits: Logits, parameters: np.ndarray) -> tuple[float, np.ndarray]:
    """Compute the mean of −log mean_m softmax(a ⊙ z_m + b)_y, and its gradient."""
    device = logits.weight.device
    scale, bias = torch.from_numpy(parameters).to(device).chunk(2)
    total = torch.zeros((), dtype=torch.float64, device=device)
    gradient = torch.zeros(2, len(scale), dtype=torch.float64, device=device)
    for draws, y, w in logits.blocks():
        z = draws.double()
        log_proba = (z * scale + bias).log_softmax(-1)
        of_label = log_proba.gather(-1, y.expand(len(z), -1)[..., None])[..., 0]
        total += w @ (math.log(len(z)) - of_label.logsumexp(0))
        share = of_label.softmax(0) * w  # of each draw in the likelihood of the row
        residual = log_proba.exp()  # less 1 at the label
        residual[:, torch.arange(len(y), device=device), y] -= 1
        residual *= share[..., None]
        gradient[0] += (residual * z).sum((0, 1))
        gradient[1] += residual.sum((0, 1))
    return float(total), gradient.reshape(-1).cpu().numpy()

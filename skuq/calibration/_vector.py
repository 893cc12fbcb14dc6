"""A scale and a bias for each class, at the level of arrays."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import OptimizeResult, minimize
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from skuq._utils._messages import warn
from skuq._utils._typing import ArrayLike
from skuq.calibration._logits import Logits, check_logits, check_penalty
from skuq.calibration._temperature import _COLDEST, _HOTTEST, search_temperature

__all__ = [
    "VectorSearch",
    "best_temperature",
    "fit_vector_scaling",
    "loss_and_residual",
    "search_scales",
    "warn_if_endless",
]

_SCALE_COST = 20.0  # of a scale, in units of a bias
_WIDEST = 100.0  # of the logits over T, if the best temperature lies above its bound


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
    l2: float = 5.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Find a and b for which softmax(a ⊙ logits + b) describes the labels best.

    `VectorScaler` explains the penalty. A number that is added to all logits of a row changes the
    result; `VectorScaler` has log-probabilities as logits, whose logsumexp is 0.

    Parameters
    ----------
    logits, y : as in `fit_temperature`
        Logits and labels of rows that did not train the network.
    sample_weight : array-like of shape (n_samples,) or of the shape of y, default=None
        A weight of 2 is the same as the row twice. So weights that add up to less than the number
        of rows strengthen the penalty.
    l2 : float >= 0, default=5.0
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
    check_penalty(l2)
    found = search_scales(check_logits(logits, y, sample_weight), l2)
    return found.scale, found.bias


def search_scales(logits: Logits, l2: float) -> VectorSearch:
    """Search by L-BFGS from the best temperature; the objective is convex for one draw."""
    n_classes, strength = logits.draws.shape[-1], logits.strength(l2)
    temperature, at_bound = best_temperature(logits)
    unit = np.ones(2 * n_classes)  # the best scales of absurdly large logits are of this order
    unit[:n_classes] = 1 / max(1.0, temperature / _HOTTEST)
    start = np.concatenate([np.full(n_classes, 1 / temperature), np.zeros(n_classes)]) / unit

    def objective(steps: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = steps * unit
        loss, gradient = _loss_and_gradient(logits, parameters)
        scale, bias = np.split(parameters, 2)
        apart = scale - scale.mean()
        penalty = strength * (_SCALE_COST * apart @ apart + bias @ bias)
        slope = 2 * strength * np.concatenate([_SCALE_COST * apart, bias])
        return loss + penalty, (gradient + slope) * unit

    found = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 1000, "gtol": 1e-8, "ftol": 1e-14},
    )
    best = found.x * unit
    scale, bias = np.split(best, 2)
    # Without the penalty, biases grow along with the scales.
    farther = np.concatenate([scale + 999 * scale.mean(), bias]) if l2 else 1000 * best
    warn_if_endless("vector scaling", objective, found, farther / unit, at_bound)
    loss, _ = _loss_and_gradient(logits, best)
    return VectorSearch(scale, bias - bias.mean(), int(found.nit), loss)


def best_temperature(logits: Logits) -> tuple[float, bool]:
    """Find the temperature to begin at, and whether it was at its bound, which is good enough.

    Above the upper bound, it is at least a hundredth of the largest difference of logits.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        temperature = search_temperature(logits).temperature
    if temperature == _HOTTEST:
        return max(temperature, logits.span / _WIDEST), True
    return temperature, temperature == _COLDEST


def warn_if_endless(
    what: str,
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
    found: OptimizeResult,
    farther: np.ndarray,
    at_bound: bool,
) -> None:
    """Warn if the loss is no larger a thousand times farther out, or after too many iterations.

    The former holds if every row is classified right. Otherwise, such large logits cost a lot.
    A loss that is zero to rounding is no optimum either.
    """
    there, _ = objective(farther)
    # If even the best temperature is at its bound, the search begins there, and rounding decides.
    rounding = 1e-12 if at_bound else -1e-9
    is_zero = found.fun < np.finfo(float).eps
    endless = is_zero or there <= found.fun + rounding * abs(found.fun)
    if endless or found.status == 1:  # 1: too many iterations
        warn(
            f"the {what} has no optimum: the calibration data may be separable, or their "
            "logits mislead; use more or other calibration data",
            ConvergenceWarning,
        )


def _loss_and_gradient(logits: Logits, parameters: np.ndarray) -> tuple[float, np.ndarray]:
    """Compute the mean of −log mean_m softmax(a ⊙ z_m + b)_y, and its gradient."""
    device = logits.weight.device
    scale, bias = torch.from_numpy(parameters).to(device).chunk(2)
    total = torch.zeros((), dtype=torch.float64, device=device)
    gradient = torch.zeros(2, len(scale), dtype=torch.float64, device=device)
    for draws, y, w in logits.blocks():
        z = draws.double()
        loss, residual = loss_and_residual(z * scale + bias, y, w)
        total += loss
        gradient[0] += (residual * z).sum((0, 1))
        gradient[1] += residual.sum((0, 1))
    return float(total), gradient.reshape(-1).cpu().numpy()


def loss_and_residual(scaled: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the weighted sum of −log mean_m softmax(u_m)_y, and its gradient in the logits u."""
    log_proba = scaled.log_softmax(-1)
    of_label = log_proba.gather(-1, y.expand(len(scaled), -1)[..., None])[..., 0]
    loss = weight @ (math.log(len(scaled)) - of_label.logsumexp(0))
    share = of_label.softmax(0) * weight  # of each draw in the likelihood of the row
    residual = log_proba.exp()  # less 1 at the label
    residual[:, torch.arange(len(y), device=y.device), y] -= 1
    residual *= share[..., None]
    return loss, residual

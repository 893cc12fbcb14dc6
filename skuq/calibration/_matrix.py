"""A scale for each class and a matrix over probabilities, at the level of arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from skuq._utils._typing import ArrayLike
from skuq.calibration._logits import Logits, check_logits, check_penalty
from skuq.calibration._vector import best_temperature, loss_and_residual, warn_if_endless

__all__ = ["MatrixSearch", "fit_matrix_scaling", "scaled_logits", "search_matrix"]

_SCALE_COST = 100.0  # of a scale, in units of an entry of the matrix


class MatrixSearch(NamedTuple):
    """The result of `search_matrix`."""

    temperature: float
    scale: np.ndarray
    matrix: np.ndarray
    n_iter: int
    loss: float  # mean negative log-likelihood, without the penalty


def fit_matrix_scaling(
    logits: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    sample_weight: ArrayLike | Tensor | None = None,
    *,
    l2: float = 1.0,
) -> tuple[float, np.ndarray, np.ndarray]:
    """Find T, s and M for which softmax(s ⊙ log p + M p), p = softmax(logits / T), fits best.

    `MatrixScaler` explains the penalty. For one draw the problem is convex, given T.

    Parameters
    ----------
    logits, y : as in `fit_temperature`
        Logits and labels of rows that did not train the network.
    sample_weight : array-like of shape (n_samples,) or of the shape of y, default=None
        A weight of 2 is the same as the row twice. So weights that add up to less than the number
        of rows strengthen the penalty.
    l2 : float >= 0, default=1.0
        Strength of the penalty that pulls s towards one common value and M towards 0, in rows.

    Returns
    -------
    temperature : float
        The temperature T of `fit_temperature`. Where that is at its upper bound, 100, T is at least
        a hundredth of the largest difference of logits.
    scale : ndarray of shape (n_classes,)
        The factors s of the log-probabilities.
    matrix : ndarray of shape (n_classes, n_classes)
        The matrix M, whose columns have mean 0.

    Warns
    -----
    ConvergenceWarning
        If there is no optimum, as on separable data.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.calibration import fit_matrix_scaling
    >>> logits = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    >>> temperature, scale, matrix = fit_matrix_scaling(logits, [0, 0, 1, 1])
    >>> scale.shape, matrix.shape
    ((2,), (2, 2))
    """
    check_penalty(l2)
    found = search_matrix(check_logits(logits, y, sample_weight), l2)
    return found.temperature, found.scale, found.matrix


def scaled_logits(z: Tensor, temperature: float, scale: Tensor, matrix: Tensor) -> Tensor:
    """Compute s ⊙ log p + M p for p = softmax(z / T), where classes are the last axis."""
    log_proba = (z / temperature).log_softmax(-1)
    return log_proba * scale + log_proba.exp() @ matrix.mT


def search_matrix(logits: Logits, l2: float) -> MatrixSearch:
    """Search by L-BFGS from the best temperature; the objective is convex for one draw."""
    n_classes, strength = logits.draws.shape[-1], logits.strength(l2)
    temperature, at_bound = best_temperature(logits)
    cost = np.ones((n_classes, n_classes + 1))  # of the scale, then of the row of the matrix
    cost[:, 0] = _SCALE_COST
    start = np.zeros_like(cost)
    start[:, 0] = 1.0
    unit = 1 / np.sqrt(_curvatures(logits, temperature) + 2 * strength * cost + 1e-12)

    def objective(steps: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = steps.reshape(cost.shape) * unit
        loss, gradient = _loss_and_gradient(logits, temperature, parameters)
        apart = parameters.copy()
        apart[:, 0] -= apart[:, 0].mean()
        penalty = strength * float((cost * apart**2).sum())
        slope = (gradient + 2 * strength * cost * apart) * unit
        return loss + penalty, slope.reshape(-1)

    found = minimize(
        objective,
        (start / unit).reshape(-1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 2000, "maxcor": 20, "gtol": 1e-7, "ftol": 1e-14},
    )
    best = found.x.reshape(cost.shape) * unit
    farther = best.copy() if l2 else 1000 * best  # without the penalty, the matrix grows, too
    if l2:
        farther[:, 0] += 999 * farther[:, 0].mean()
    warn_if_endless("matrix scaling", objective, found, (farther / unit).reshape(-1), at_bound)
    loss, _ = _loss_and_gradient(logits, temperature, best)
    matrix = best[:, 1:] - best[:, 1:].mean(axis=0)
    return MatrixSearch(temperature, best[:, 0].copy(), matrix, int(found.nit), loss)


def _curvatures(logits: Logits, temperature: float) -> np.ndarray:
    """Compute the second derivatives of the loss of one draw in each parameter, at the start.

    In units of their roots, parameters are alike, and the search takes a fraction of the steps.
    """
    n_classes, device = logits.draws.shape[-1], logits.weight.device
    total = torch.zeros(n_classes, n_classes + 1, dtype=torch.float64, device=device)
    for draws, _, w in logits.blocks():
        log_proba = (draws.double() / temperature).log_softmax(-1)
        proba = log_proba.exp()
        spread = (proba * (1 - proba)).mul_(w[:, None] / len(draws)).flatten(0, 1)
        total[:, 0] += (spread * log_proba.flatten(0, 1).square()).sum(0)
        total[:, 1:] += spread.mT @ proba.flatten(0, 1).square()
    curvatures: np.ndarray = total.cpu().numpy()
    return curvatures


def _loss_and_gradient(
    logits: Logits, temperature: float, parameters: np.ndarray
) -> tuple[float, np.ndarray]:
    """Compute the mean of −log mean_m softmax(s ⊙ log p_m + M p_m)_y, and its gradient."""
    device = logits.weight.device
    scale, matrix = torch.from_numpy(parameters).to(device).split([1, len(parameters)], dim=1)
    total = torch.zeros((), dtype=torch.float64, device=device)
    gradient = torch.zeros(parameters.shape, dtype=torch.float64, device=device)
    for draws, y, w in logits.blocks():
        log_proba = (draws.double() / temperature).log_softmax(-1)
        proba = log_proba.exp()
        loss, residual = loss_and_residual(log_proba * scale[:, 0] + proba @ matrix.mT, y, w)
        total += loss
        gradient[:, 0] += (residual * log_proba).sum((0, 1))
        gradient[:, 1:] += residual.flatten(0, 1).mT @ proba.flatten(0, 1)
    return float(total), gradient.cpu().numpy()

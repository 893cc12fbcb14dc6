"""One noise level for all rows, learnt after training from the residuals of all draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

__all__ = ["common_noise"]

_GRID = 32  # noise levels to try before the best is refined


def common_noise(
    evaluate: Callable[..., Any],
    target: np.ndarray,
    sample_weight: np.ndarray | None,
    power: int,
    given_noise: bool,
    least: float | np.ndarray,
) -> np.ndarray:
    """Find the noise of each target that fits the draws best: σ² (normal) or b (Laplace).

    A residual r of one draw has the log density −(log s + |r|^k / s) / k, up to a constant, with
    s = σ² for k = 2 and s = b for k = 1.

    * Draws that are samples of the posterior given the noise: s is the mean of |r|^k over rows
      and draws, the maximisation step of the EM algorithm [1]_.
    * Other draws: s has the highest likelihood of the mixture of all draws, Σ_i log mean_m p(r_im),
      so that the noise does not count the spread of the draws once more. Its stationary points lie
      between the means over rows of the least and of the mean |r|^k of the draws.

    Parameters
    ----------
    evaluate : callable
        As in `Likelihood.finish`.
    target : ndarray of shape (n_samples, n_targets)
        Encoded targets.
    sample_weight : ndarray of shape (n_samples,), or None
        Weights of the rows; None weights all equally.
    power : {1, 2}
        The exponent k.
    given_noise : bool
        Whether the draws are samples given the noise.
    least : float, or ndarray of shape (n_targets,)
        The smallest noise to return.

    Returns
    -------
    ndarray of shape (n_targets,)
        The noise in encoded units.

    References
    ----------
    .. [1] A. Dempster, N. Laird, D. Rubin, "Maximum Likelihood from Incomplete Data via the EM
       Algorithm", Journal of the Royal Statistical Society B 39, 1977,
       doi:10.1111/j.2517-6161.1977.tb01600.x.
    """
    if given_noise:
        mean = evaluate(lambda output, rows: ((rows - output).abs() ** power).mean(0), target)
        return np.maximum(np.average(mean, axis=0, weights=sample_weight), least)
    sizes = evaluate(lambda output, rows: ((rows - output).abs() ** power).transpose(0, 1), target)
    floors = np.broadcast_to(least, sizes.shape[-1])
    return np.array(
        [
            _best(sizes[..., index], sample_weight, power, float(floor))
            for index, floor in enumerate(floors)
        ]
    )


def _best(sizes: np.ndarray, weight: np.ndarray | None, power: int, least: float) -> float:
    """Find the noise of the highest likelihood; `sizes` are |r|^k, of shape (n_rows, n_draws)."""
    low, high = (
        max(float(np.average(each, weights=weight)), least)
        for each in (sizes.min(axis=1), sizes.mean(axis=1))
    )
    low = max(low, 1e-12 * high)
    if high <= low * (1 + 1e-9):
        return high

    def loss(log_noise: float) -> float:
        rows = logsumexp(sizes * (-np.exp(-log_noise) / power), axis=1) - log_noise / power
        return -float(np.average(rows, weights=weight))

    grid = np.linspace(np.log(low), np.log(high), _GRID)
    best = int(np.argmin([loss(value) for value in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    return float(np.exp(minimize_scalar(loss, bounds=around, method="bounded").x))

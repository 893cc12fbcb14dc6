"""Calibrators of softmax outputs that a table compares: skuq's, and matrices over logits.

Each takes logits and labels of calibration rows and returns a function from logits to calibrated
log-probabilities.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.model_selection import KFold

from skuq.calibration import fit_matrix_scaling, fit_temperature, fit_vector_scaling

Calibrated = Callable[[np.ndarray], np.ndarray]

LEAST = np.log(np.finfo(np.float32).tiny)  # of a log-probability in the structured scaling
ODIR_MATRIX = tuple(10.0**power for power in range(6, -2, -1))  # strengths, the largest first
ODIR_BIAS = (10.0, 0.1)  # beside 1
ODIR_FOLDS = 3


def none(logits: np.ndarray, y: np.ndarray) -> Calibrated:
    return lambda z: log_softmax(z, axis=1)


def temperature(logits: np.ndarray, y: np.ndarray) -> Calibrated:
    best = fit_temperature(logits, y)
    return lambda z: log_softmax(z / best, axis=1)


def vector(logits: np.ndarray, y: np.ndarray) -> Calibrated:
    scale, bias = fit_vector_scaling(logits, y)
    return lambda z: log_softmax(z * scale + bias, axis=1)


def matrix(logits: np.ndarray, y: np.ndarray) -> Calibrated:
    best, scale, of_proba = fit_matrix_scaling(logits, y)

    def calibrated(z: np.ndarray) -> np.ndarray:
        log_proba = log_softmax(z / best, axis=1)
        return log_softmax(log_proba * scale + np.exp(log_proba) @ of_proba.T, axis=1)

    return calibrated


def logit_matrix(logits: np.ndarray, y: np.ndarray) -> Calibrated:
    """Guo et al. 2017: softmax(W z + b), without a penalty."""
    found = over_logits(log_softmax(logits, axis=1), y)
    return lambda z: _affine(found)(log_softmax(z, axis=1))


def odir(logits: np.ndarray, y: np.ndarray) -> Calibrated:
    """Kull et al. 2019, arXiv:1910.12656: penalties of off-diagonal entries and of the biases.

    λ/(K(K−1)) Σ_{k≠j} W_kj² + μ/K Σ b_k². 3-fold cross-validation chooses λ, with μ = 1, from the
    largest until a smaller one makes the loss larger; and then μ.
    """
    x = log_softmax(logits, axis=1)
    n_classes = x.shape[1]
    folds = list(KFold(ODIR_FOLDS, shuffle=True, random_state=0).split(x))
    starts: list[np.ndarray | None] = [None] * len(folds)

    def fitted(
        rows: np.ndarray, strength: float, bias: float, start: np.ndarray | None = None
    ) -> np.ndarray:
        off = strength / (n_classes * (n_classes - 1))
        return over_logits(x[rows], y[rows], 0.0, off, bias / n_classes, start)

    def left_out(strength: float, bias: float) -> float:
        loss = 0.0
        for k, (train, test) in enumerate(folds):
            found = starts[k] = fitted(train, strength, bias, starts[k])
            loss -= float(_affine(found)(x[test])[np.arange(len(test)), y[test]].sum())
        return loss

    least, best = left_out(ODIR_MATRIX[0], 1.0), ODIR_MATRIX[0]
    for strength in ODIR_MATRIX[1:]:
        if (loss := left_out(strength, 1.0)) > least:
            break
        least, best = loss, strength
    losses = {1.0: least} | {bias: left_out(best, bias) for bias in ODIR_BIAS}
    whole = fitted(np.arange(len(y)), best, min(losses, key=losses.__getitem__))
    return lambda z: _affine(whole)(log_softmax(z, axis=1))


def structured(logits: np.ndarray, y: np.ndarray) -> Calibrated:
    """Berta et al. 2026, arXiv:2511.03685, ridge: after one temperature, a matrix near 1.

    With n rows and K classes, the strengths are K/n for diagonal and biases, K(K−1)/n for the rest.
    """
    best, n_classes = fit_temperature(logits, y), logits.shape[1]

    def features(z: np.ndarray) -> np.ndarray:
        return np.maximum(log_softmax(z / best, axis=1), LEAST)

    near = n_classes / len(y)
    found = over_logits(features(logits), y, near, near * (n_classes - 1), near)
    return lambda z: _affine(found)(features(z))


def _affine(parameters: np.ndarray) -> Calibrated:
    return lambda x: log_softmax(x @ parameters[:, 1:].T + parameters[:, 0], axis=1)


def over_logits(
    x: np.ndarray,
    y: np.ndarray,
    diagonal: float = 0.0,
    off_diagonal: float = 0.0,
    bias: float = 0.0,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Fit (b, W): the mean of −log softmax(W x + b)_y plus ridge penalties about (0, 1).

    Parameters are searched in units of the roots of their curvatures, by L-BFGS.
    """
    n_samples, n_classes = x.shape
    centre = np.column_stack([np.zeros(n_classes), np.eye(n_classes)])
    cost = np.full(centre.shape, off_diagonal)
    cost[:, 0], cost[:, 1:][np.eye(n_classes, dtype=bool)] = bias, diagonal
    inputs = np.column_stack([np.ones(n_samples), x])
    proba = np.exp(log_softmax(x, axis=1))
    curvature = (proba * (1 - proba)).T @ inputs**2 / n_samples
    unit = 1 / np.sqrt(curvature + 2 * cost + 1e-9)

    places = np.arange(n_samples), y

    def objective(steps: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = steps.reshape(unit.shape) * unit
        scaled = inputs @ parameters.T
        scaled -= scaled.max(axis=1, keepdims=True)
        of_label = scaled[places]
        residual = np.exp(scaled, out=scaled)
        mass = residual.sum(axis=1)
        loss = float((np.log(mass) - of_label).mean())
        residual /= mass[:, None]
        residual[places] -= 1
        apart = parameters - centre
        slope = residual.T @ inputs / n_samples + 2 * cost * apart
        return loss + float((cost * apart**2).sum()), (slope * unit).ravel()

    begin = centre if start is None else start
    options = {"maxiter": 200, "maxcor": 20, "gtol": 1e-5, "ftol": 1e-10}
    found = minimize(
        objective, (begin / unit).ravel(), jac=True, method="L-BFGS-B", options=options
    )
    parameters: np.ndarray = found.x.reshape(unit.shape) * unit
    return parameters

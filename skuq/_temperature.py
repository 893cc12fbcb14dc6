"""The temperature of logits, at the level of arrays."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

__all__ = ["fit_temperature"]

_COLDEST, _HOTTEST = 0.01, 100.0
_BLOCK_NUMBERS = 2**22  # logits that one pass holds in float64
_SURVEY_ROWS = 2000


def fit_temperature(logits: Any, y: Any, sample_weight: Any = None) -> float:
    """The temperature T that minimises the negative log-likelihood of softmax(logits / T) [1]_.

    With several draws, T divides the logits of every draw, and the likelihood is that of the mean
    of their probabilities. One draw: convex in 1/T, solved by Newton's method to a gradient of
    1e-10. Several: not convex, so a survey of [0.01, 100] and a bounded search from its best
    places. Never worse than T = 1.

    Parameters
    ----------
    logits : array or Tensor of shape (n_samples, n_classes) or (n_draws, n_samples, n_classes)
        Logits or log-probabilities. A tensor stays on its device; sums are in float64.
    y : array or Tensor of shape (n_samples,)
        Indices of the classes, from 0 to n_classes − 1.
    sample_weight : array-like of shape (n_samples,), default=None

    Returns
    -------
    float
        T in [0.01, 100]: above 1 softens, below 1 sharpens.

    Raises
    ------
    ValueError
        If logits are not finite, labels are no indices or of a single class, or shapes differ.

    Warns
    -----
    ConvergenceWarning
        If T is at a bound, as on perfectly separable data, or the likelihood does not depend on T.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks",
       ICML 2017, arXiv:1706.04599.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.calibration import fit_temperature
    >>> logits = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    >>> round(fit_temperature(logits, [0, 0, 1, 1]), 2)      # right in 3 of 4: softer than it says
    3.64
    """
    draws, labels, weight = _check_arrays(logits, y, sample_weight)
    search = _newton if len(draws) == 1 else _survey_and_search
    temperature = search(draws, labels, weight)
    if temperature in (_COLDEST, _HOTTEST):
        reason = "every row is classified right" if temperature == _COLDEST else "logits mislead"
        warnings.warn(
            f"the temperature is at its bound, T = {temperature}: {reason} in the calibration "
            "data, so the likelihood has no optimum inside. Use more or other calibration data.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return temperature


def _check_arrays(logits: Any, y: Any, sample_weight: Any) -> tuple[Tensor, Tensor, Tensor]:
    draws = logits if isinstance(logits, Tensor) else torch.tensor(np.asarray(logits))
    draws = draws.detach()
    if draws.ndim not in (2, 3) or 0 in draws.shape or draws.shape[-1] < 2:
        raise ValueError(
            "logits must have shape (n_samples, n_classes) or (n_draws, n_samples, n_classes) "
            f"with at least 2 classes, got {tuple(draws.shape)}"
        )
    if not bool(torch.isfinite(draws).all()):
        raise ValueError("logits contain NaN or infinity")
    draws = draws if draws.ndim == 3 else draws[None]
    labels = torch.as_tensor(np.asarray(y) if not isinstance(y, Tensor) else y)
    labels = labels.to(draws.device)
    n_samples, n_classes = draws.shape[1:]
    if tuple(labels.shape) != (n_samples,):
        raise ValueError(
            f"y must have shape ({n_samples},) as logits do, got {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        labels = labels.long()
    if int(labels.min()) < 0 or int(labels.max()) >= n_classes:
        raise ValueError(
            f"y must hold indices of the classes from 0 to {n_classes - 1}, got values from "
            f"{int(labels.min())} to {int(labels.max())}; encode labels first"
        )
    if int(labels.min()) == int(labels.max()):
        raise ValueError("y holds a single class: the temperature needs at least two")
    if sample_weight is None:
        weight = torch.ones(n_samples, dtype=torch.float64, device=draws.device)
    else:
        weight = torch.as_tensor(sample_weight, dtype=torch.float64, device=draws.device)
        valid = weight.shape == labels.shape and bool((weight >= 0).all()) and weight.sum() > 0
        if not valid or not bool(torch.isfinite(weight).all()):
            raise ValueError(f"sample_weight must be {n_samples} finite numbers >= 0, not all zero")
    return draws, labels.long(), weight / weight.sum()


def _blocks(draws: Tensor, labels: Tensor, weight: Tensor) -> Iterator[tuple]:
    n_draws, n_samples, n_classes = draws.shape
    step = max(1, _BLOCK_NUMBERS // (n_draws * n_classes))
    for start in range(0, n_samples, step):
        rows = slice(start, start + step)
        yield draws[:, rows].double(), labels[rows], weight[rows]


def _loss(draws: Tensor, labels: Tensor, weight: Tensor, temperature: float) -> float:
    """−log mean_m softmax(z_m / T)_y, averaged over rows."""
    total = torch.zeros((), dtype=torch.float64, device=draws.device)
    for z, y, w in _blocks(draws, labels, weight):
        log_proba = (z / temperature).log_softmax(-1)
        of_label = log_proba.gather(-1, y.expand(len(z), -1)[..., None])[..., 0]
        total -= (w * (of_label.logsumexp(0) - np.log(len(z)))).sum()
    return float(total)


def _slope(draws: Tensor, labels: Tensor, weight: Tensor, beta: float) -> tuple[float, float]:
    """First and second derivative of the loss of one draw in β = 1/T."""
    first = torch.zeros((), dtype=torch.float64, device=draws.device)
    second = torch.zeros_like(first)
    for stack, y, w in _blocks(draws, labels, weight):
        z = stack[0] - stack[0].gather(1, y[:, None])  # relative to the label's
        proba = (beta * z).softmax(1)
        mean = (proba * z).sum(1)
        first += (w * mean).sum()
        second += (w * (proba * (z - mean[:, None]).square()).sum(1)).sum()
    return float(first), float(second)


def _newton(draws: Tensor, labels: Tensor, weight: Tensor) -> float:
    """The root in β = 1/T of the slope, which increases; steps that leave the bracket bisect."""
    low, high = 1 / _HOTTEST, 1 / _COLDEST
    at_low, at_high = (_slope(draws, labels, weight, beta) for beta in (low, high))
    if at_low[0] == at_high[0]:
        warnings.warn(
            "the likelihood does not depend on the temperature (constant logits?); T = 1 is kept",
            ConvergenceWarning,
            stacklevel=3,
        )
        return 1.0
    if at_high[0] <= 0:
        return _COLDEST
    if at_low[0] >= 0:
        return _HOTTEST
    beta = 1.0
    for _ in range(200):
        slope, curvature = _slope(draws, labels, weight, beta)
        if abs(slope) <= 1e-10 or high - low <= 1e-15 * high:
            break
        low, high = (beta, high) if slope < 0 else (low, beta)
        newton = beta - slope / curvature if curvature > 0 else np.inf
        beta = newton if low < newton < high else float(np.sqrt(low * high))
    return 1 / beta


def _survey_and_search(draws: Tensor, labels: Tensor, weight: Tensor) -> float:
    """The best of bounded searches in log T, which begin where a survey of some rows is lowest."""
    stride = max(1, draws.shape[1] // _SURVEY_ROWS)
    some = draws[:, ::stride], labels[::stride], weight[::stride]
    places = np.linspace(np.log(_COLDEST), np.log(_HOTTEST), 41)
    survey = np.array([_loss(*some, float(np.exp(place))) for place in places])
    padded = np.pad(survey, 1, constant_values=np.inf)
    minima = np.flatnonzero((survey <= padded[:-2]) & (survey <= padded[2:]))
    candidates = [(_loss(draws, labels, weight, t), t) for t in (1.0, _COLDEST, _HOTTEST)]
    for index in minima[np.argsort(survey[minima], kind="stable")][:3]:
        bounds = places[max(index - 1, 0)], places[min(index + 1, len(places) - 1)]
        found = minimize_scalar(
            lambda place: _loss(draws, labels, weight, float(np.exp(place))),
            bounds=bounds,
            method="bounded",
            options={"xatol": 1e-7},
        )
        candidates.append((float(found.fun), float(np.exp(found.x))))
    return min(candidates, key=lambda candidate: candidate[0])[1]

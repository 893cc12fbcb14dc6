"""The temperature of logits, at the level of arrays."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, overload

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from skuq._bins import bin_statistics
from skuq._utils._messages import warn
from skuq._utils._typing import ArrayLike
from skuq.calibration._logits import Logits, check_logits, label_columns

__all__ = [
    "TemperatureSearch",
    "fit_temperature",
    "loss_at",
    "search_temperature",
]

_COLDEST, _HOTTEST = 0.01, 100.0
_COLD = 0.05  # below, draws are nearly votes, and a few wrong rows decide about T
_SURVEY_ROWS = 2000
_START_ROWS, _START_STRIDE = 1000, 5  # with more rows, begin with a fifth of them,
_START_ENOUGH = 100_000  # but not with more than this
_ORDERS = 5  # derivatives of one pass; the last three cost a third of it and save another pass
_LARGEST_EXPONENT = 600.0  # float64 ends at 709, and sums of five powers must fit, too
_FLAT = 1e-3  # calibration errors that differ by less count as equal


class TemperatureSearch(NamedTuple):
    """The result of `search_temperature`."""

    temperature: float
    n_iter: int  # evaluations on all rows
    flat_range: tuple[float, float] | None = None  # of the objective "ece"


@overload
def fit_temperature(
    logits: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    sample_weight: ArrayLike | Tensor | None = ...,
    *,
    objective: str = ...,
    multilabel: Literal[False] = ...,
) -> float: ...


@overload
def fit_temperature(
    logits: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    sample_weight: ArrayLike | Tensor | None = ...,
    *,
    objective: str = ...,
    multilabel: Literal[True],
) -> np.ndarray: ...


def fit_temperature(
    logits: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    sample_weight: ArrayLike | Tensor | None = None,
    *,
    objective: str = "nll",
    multilabel: bool = False,
) -> float | np.ndarray:
    """Find the temperature T for which softmax(logits / T) describes the labels best [1]_.

    With several draws, T divides the logits of every draw, and the objective judges the mean of
    their probabilities. For one draw, the negative log-likelihood is convex in 1/T; Newton's method
    solves it to a gradient of 1e-10. The other cases are not convex: a survey of [0.01, 100] is
    followed by bounded searches from its best places. The result is never worse than T = 1.

    Parameters
    ----------
    logits : array or Tensor of shape (n_samples, n_classes, ...) or (n_draws, n_samples, \
            n_classes, ...)
        Logits or log-probabilities. Further axes of dense outputs (height, width) are the same as
        in `y`. With ``multilabel=True`` the shape is (n_samples, n_labels) or (n_draws, n_samples,
        n_labels), with a sigmoid for each label. A tensor stays on its device; sums are in
        float64.
    y : array or Tensor of shape (n_samples, ...)
        Indices of the classes, from 0 to n_classes − 1. With ``multilabel=True``, 0 or 1, of shape
        (n_samples, n_labels).
    sample_weight : array-like of shape (n_samples,) or of the shape of y, default=None
        How much each sample counts; None weighs all equally.
    objective : {"nll", "brier", "ece"}, default="nll"
        The objective that T minimises: negative log-likelihood, Brier score, or the expected
        calibration error of the top label in 15 bins. The latter jumps with T: see
        `TemperatureScaler.flat_range_`.
    multilabel : bool, default=False
        Whether each column of logits is a label that can be true together with others.

    Returns
    -------
    float, or ndarray of shape (n_labels,) for multilabel
        The temperature, in [0.01, 100]: above 1 softens, below 1 sharpens.

    Raises
    ------
    ValueError
        If logits are not finite, if labels are no indices or all the same, or if shapes differ.

    Warns
    -----
    ConvergenceWarning
        If T is at a bound (perfectly separable data), if T is below 0.05 (nearly all draws classify
        all rows right), or if the objective does not depend on T.

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
    if not multilabel:
        return search_temperature(check_logits(logits, y, sample_weight), objective).temperature
    columns = label_columns(logits, y, sample_weight)
    return np.array([search_temperature(column, objective).temperature for column in columns])


# ---------------------------------------------------------------------------------------------
# Objectives


def loss_at(logits: Logits, temperature: float, objective: str) -> float:
    """Compute the objective at one temperature."""
    if objective == "ece":
        return _ece(logits, temperature)
    row_loss = _nll_rows if objective == "nll" else _brier_rows
    total = torch.zeros((), dtype=torch.float64, device=logits.weight.device)
    for draws, y, w in logits.blocks():
        total += w @ row_loss(_exponents(draws, y, 1 / temperature), y, logits.span / temperature)
    return float(total)


def _exponents(draws: Tensor, y: Tensor, beta: float, out: Tensor | None = None) -> Tensor:
    """Compute β(z − z_label) in float64; the objectives depend on nothing else."""
    of_label = draws.gather(-1, y.expand(len(draws), -1)[..., None])
    out = torch.empty_like(draws, dtype=torch.float64) if out is None else out
    return out.copy_(draws).sub_(of_label.double()).mul_(beta)


def _exponentials(
    u: Tensor, span: float, out: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | float]:
    """Compute exp(u − m) of every class, their sum, and m, which is 0 if nothing can overflow.

    Sums over classes are products with ones, which are fast for few classes and for many.
    """
    largest: Tensor | float = 0.0
    if span > _LARGEST_EXPONENT:
        top = u.amax(-1, keepdim=True)
        u, largest = u - top, top[..., 0]
    share = torch.exp(u, out=out)
    return share, share @ share.new_ones(share.shape[-1]), largest


def _nll_rows(u: Tensor, y: Tensor, span: float) -> Tensor:
    """Compute −log mean_m p_m of the label."""
    _, mass, largest = _exponentials(u, span)
    loss: Tensor = np.log(len(u)) - (mass.log_() + largest).neg_().logsumexp(0)
    return loss


def _mean_softmax(u: Tensor, span: float) -> Tensor:
    share, mass, _ = _exponentials(u, span)
    return share.mul_(mass.reciprocal_()[..., None]).mean(0)


def _brier_rows(u: Tensor, y: Tensor, span: float) -> Tensor:
    proba = _mean_softmax(u, span)
    of_label = proba.gather(-1, y[:, None])[:, 0]
    loss: Tensor = torch.linalg.vecdot(proba, proba) - 2 * of_label + 1
    return loss


def _ece(logits: Logits, temperature: float) -> float:
    confidence, hit, beta = [], [], 1 / temperature
    for draws, y, _ in logits.blocks():
        top = _mean_softmax(_exponents(draws, y, beta), beta * logits.span).max(-1)
        confidence.append(top.values)
        hit.append(top.indices == y)
    bins = bin_statistics(
        torch.cat(confidence).cpu().numpy().clip(0, 1),
        torch.cat(hit).cpu().numpy(),
        logits.weight.cpu().numpy(),
        n_bins=15,
        strategy="uniform",
    )
    return float(bins.share @ np.abs(bins.confidence - bins.accuracy))


# ---------------------------------------------------------------------------------------------
# Searches


def search_temperature(logits: Logits, objective: str = "nll") -> TemperatureSearch:
    """See `fit_temperature`."""
    if objective not in ("nll", "brier", "ece"):
        raise ValueError(f"objective must be 'nll', 'brier' or 'ece', got {objective!r}")
    if objective == "nll" and len(logits.draws) == 1:
        found = _newton(logits)
    else:
        found = _survey_and_search(logits, objective)
    if found.temperature in (_COLDEST, _HOTTEST):
        cold = found.temperature == _COLDEST
        reason = "every row is classified right" if cold else "logits mislead"
        warn(
            f"the temperature is at its bound, T = {found.temperature}: {reason} in the "
            f"calibration data, so the {objective} has no optimum inside. Use more or other "
            "calibration data.",
            ConvergenceWarning,
        )
    elif found.temperature < _COLD:
        warn(
            f"the temperature, T = {found.temperature:.3g}, makes nearly every row certain: too "
            f"few of the {len(logits.labels)} rows of the calibration data are classified wrong, "
            "or logits are very small. Use more or other calibration data.",
            ConvergenceWarning,
        )
    return found


def _slope(logits: Logits, beta: float) -> tuple[float, float]:
    """Compute two derivatives in β = 1/T of the likelihood loss of one draw."""
    first, second = _cumulants(logits, beta, orders=2).tolist()
    return first, second


def _cumulants(logits: Logits, beta: float, orders: int = _ORDERS) -> Tensor:
    """Compute the first derivatives in β of the likelihood loss of one draw, on its device.

    They are the means over the rows of the cumulants of z − z_label under softmax(βz).
    """
    n_classes, device = logits.draws.shape[-1], logits.draws.device
    total = torch.zeros(orders, dtype=torch.float64, device=device)
    ones = torch.ones(n_classes, dtype=torch.float64, device=device)
    # Fresh memory for every block would cost a fifth of the pass.
    room = torch.empty(2, logits.rows_at_once, n_classes, dtype=torch.float64, device=device)
    for draws, y, w in logits.blocks():
        u = _exponents(draws, y, beta, out=room[:1, : len(y)])[0]
        share, mass, _ = _exponentials(u, beta * logits.span, out=room[1, : len(y)])
        moments = [(share.mul_(u) @ ones).div_(mass) for _ in range(orders)]
        cumulants: list[Tensor] = []
        for n, cumulant in enumerate(moments):
            cumulant = cumulant.clone()
            for j in range(n):
                cumulant.addcmul_(cumulants[j], moments[n - j - 1], value=-math.comb(n, j))
            cumulants.append(cumulant)
        total += torch.stack(cumulants) @ w
    return total / beta ** torch.arange(1, orders + 1, dtype=torch.float64, device=device)


def _step(derivatives: list[float]) -> tuple[float, float]:
    """Compute the step in β to the root of the slope's Taylor series, and the slope left there.

    For some r, the n-th term is at most rⁿ times the linear term; the neglected terms are taken to
    obey this, too. If r is not small, the step is Newton's, and the slope left is unknown.
    """
    orders = np.arange(_ORDERS)
    series = np.array([d / math.factorial(n) for n, d in enumerate(derivatives)])
    with np.errstate(all="ignore"):
        newton = step = -series[0] / series[1]
        for _ in range(4):  # that polynomial's own Newton steps
            powers = step**orders
            step = step - (series @ powers) / (series[1:] @ (orders[1:] * powers[:-1]))
        terms = np.abs(series * step**orders)[1:]
        ratio = ((terms[1:] / terms[0]) ** (1 / orders[1:-1])).max()
        missed = abs(series @ step**orders)  # if they did not reach the root of the polynomial
    if ratio < 0.1:
        return float(step), float(terms[0] * ratio ** (_ORDERS - 1) + missed)
    return float(newton), math.inf


def _newton(logits: Logits, enough: float = 1e-11) -> TemperatureSearch:
    """Find the root in β = 1/T of the slope, which increases with β, up to the error `enough`.

    The search begins at the root for some of the rows. If a step leaves the bracket, the next place
    is a bound of the bracket, if it was not tried yet, or else bisects the bracket.
    """
    lowest, highest = 1 / _HOTTEST, 1 / _COLDEST
    low, high, beta, tried = lowest, highest, 1.0, set()
    stride = max(_START_STRIDE, len(logits.labels) // _START_ENOUGH)
    if len(logits.labels) > _START_ROWS and bool(logits.weight[::stride].any()):
        beta = 1 / _newton(logits.take(stride), enough=1e-5).temperature
    n_iter, left, derivatives = 0, math.inf, [0.0] * _ORDERS
    while n_iter < 200:
        orders = 2 if left < 1e-6 else _ORDERS  # higher derivatives have hardly changed
        derivatives[:orders] = _cumulants(logits, beta, orders).tolist()
        slope, curvature = derivatives[:2]
        n_iter += 1
        tried.add(beta)
        if slope == 0 == curvature:
            return _where_nothing_moves(logits, n_iter)
        small = abs(slope) <= 1e-10
        if small and abs(slope) <= 1e-6 * beta * curvature:
            break
        if beta == (highest if slope < 0 else lowest):
            break
        low, high = (beta, high) if slope < 0 else (low, beta)
        if high - low <= 1e-15 * high:
            break
        bound = high if slope < 0 else low
        step, left = math.inf, math.inf
        if curvature > 0 and not small:
            step, left = _step(derivatives)
        if low < beta + step < high:
            beta += step
            if left <= enough:
                break
        else:
            beta = bound if bound not in tried else float(np.sqrt(low * high))
    return TemperatureSearch(_as_temperature(beta), n_iter)


def _where_nothing_moves(logits: Logits, n_iter: int) -> TemperatureSearch:
    """Find a temperature where all rows are certain: the slopes at the bounds decide."""
    at_low, at_high = (_slope(logits, beta)[0] for beta in (1 / _HOTTEST, 1 / _COLDEST))
    if at_low == at_high:
        warn(
            "the likelihood does not depend on the temperature (constant logits?); T = 1 is kept",
            ConvergenceWarning,
        )
        return TemperatureSearch(1.0, n_iter + 2)
    return TemperatureSearch(_COLDEST if at_high <= 0 else _HOTTEST, n_iter + 2)


def _as_temperature(beta: float) -> float:
    """Return 1/β, exact at the bounds."""
    ends = {1 / _COLDEST: _COLDEST, 1 / _HOTTEST: _HOTTEST}
    return ends.get(beta, 1 / beta)


def _survey_and_search(logits: Logits, objective: str) -> TemperatureSearch:
    """Find the best of several searches in log T, which begin where a survey is lowest.

    The calibration error jumps when rows change bins. So its survey takes all rows and more places,
    and its searches use finer grids.
    """
    rough = objective == "ece"
    stride = 1 if rough else max(1, len(logits.labels) // _SURVEY_ROWS)
    some = logits.take(stride) if bool(logits.weight[::stride].any()) else logits
    places = np.linspace(np.log(_COLDEST), np.log(_HOTTEST), 161 if rough else 41)
    survey = np.array([loss_at(some, float(np.exp(place)), objective) for place in places])
    n_iter = len(places) if some is logits else 0
    padded = np.pad(survey, 1, constant_values=np.inf)
    minima = np.flatnonzero((survey <= padded[:-2]) & (survey <= padded[2:]))
    candidates = [(loss_at(logits, t, objective), t) for t in (1.0, _COLDEST, _HOTTEST)]
    n_iter += 3
    for index in minima[np.argsort(survey[minima], kind="stable")][:3]:
        low, high = places[max(index - 1, 0)], places[min(index + 1, len(places) - 1)]
        if rough:
            for place in np.linspace(low, high, 21):
                candidates.append((loss_at(logits, np.exp(place), objective), float(np.exp(place))))
            n_iter += 21
            continue
        found = minimize_scalar(
            lambda place: loss_at(logits, float(np.exp(place)), objective),
            bounds=(low, high),
            method="bounded",
            options={"xatol": 1e-7},
        )
        candidates.append((float(found.fun), float(np.exp(found.x))))
        n_iter += int(found.nfev)
    loss, temperature = min(candidates, key=lambda candidate: candidate[0])
    if not rough:
        return TemperatureSearch(temperature, n_iter)
    good = survey <= loss + _FLAT
    left = right = int(np.argmin(np.abs(places - np.log(temperature))))
    while left > 0 and good[left - 1]:
        left -= 1
    while right < len(places) - 1 and good[right + 1]:
        right += 1
    flat = min(temperature, np.exp(places[left])), max(temperature, np.exp(places[right]))
    return TemperatureSearch(temperature, n_iter, (float(flat[0]), float(flat[1])))

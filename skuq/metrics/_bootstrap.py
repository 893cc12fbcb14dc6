"""Confidence intervals of metrics, by drawing rows anew."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length

from skuq._data._checks import refuse_no_groups
from skuq._utils._messages import checked_level, warn
from skuq._utils._sklearn_compat import _safe_indexing
from skuq._utils._typing import ArrayLike, RandomState
from skuq.metrics._checks import check_option

__all__ = ["BootstrapInterval", "bootstrap", "counts_of_rows", "interval_of"]

_MOST_FAILED = 0.1  # share of resamples without a value
_NOTABLE_BIAS = 0.5  # in standard errors


class BootstrapInterval(NamedTuple):
    """A metric and its confidence interval, from `bootstrap`.

    Attributes
    ----------
    value : float
        The metric on the rows as they are; with `against`, its difference to the other model's.
    low, high : float
        The ends of the confidence interval.
    standard_error : float
        Standard deviation of the resamples.
    bias : float
        Mean of the resamples, less `value`: about by how much the metric of few rows is too high.
        An ECE is, since noise in its bins adds up.
    resamples : ndarray of shape (n_resamples,)
        The metric on each resample; NaN where it is undefined.
    """

    value: float
    low: float
    high: float
    standard_error: float
    bias: float
    resamples: np.ndarray


def bootstrap(
    metric: Callable[..., float],
    y_true: ArrayLike,
    *predictions: ArrayLike,
    against: Sequence[ArrayLike] | None = None,
    groups: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    interval: str = "percentile",
    random_state: RandomState = 0,
    **options: Any,
) -> BootstrapInterval:
    """Compute a metric with a confidence interval, by the bootstrap of rows [1]_.

    Each resample draws as many rows as there are, with replacement, and computes the metric again.
    The interval tells how much the metric would change with other test rows, for the same model. It
    says nothing about training the model again.

    Parameters
    ----------
    metric : callable
        ``metric(y_true, *predictions, **options)``, of skuq or scikit-learn, that gives a number.
    y_true : array-like of shape (n_samples, ...)
        True labels or targets.
    *predictions : array-like of shape (n_samples, ...)
        What the metric gets after `y_true`: probabilities, intervals, or predictions and
        uncertainties. Rows are on their first axis.
    against : sequence of array-like, default=None
        The predictions of another model for the same rows. The result is then about the metric of
        the first model less that of the other, on the same resamples: rows that are hard for both
        cancel out.
    groups : array-like of shape (n_samples,), default=None
        The group of each row, such as the patient. Whole groups are drawn, since rows of a group
        resemble each other; intervals of single rows would be too narrow.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each sample counts, drawn with its row; the metric gets it.
    n_resamples : int, default=1000
        Number of resamples.
    confidence_level : float in (0, 1), default=0.95
        Probability that the interval holds the metric of infinitely many rows.
    interval : {"percentile", "basic"}, default="percentile"
        "percentile" takes quantiles of the resamples. "basic" reflects these at the value, which
        takes out the bias of a metric such as the ECE; its ends can leave the range of the metric.
    random_state : int, RandomState instance or None, default=0
        Seed of the resamples. Two calls with the same seed and number of rows draw the same rows.
    **options
        Options of the metric.

    Returns
    -------
    BootstrapInterval
        Value, low, high, standard_error, bias and resamples.

    Raises
    ------
    ValueError
        If arrays differ in their number of rows, if the metric is undefined on more than a tenth of
        the resamples, or if there are fewer than two rows or groups.

    Warns
    -----
    UserWarning
        If a percentile interval belongs to a metric whose bias exceeds half a standard error.

    References
    ----------
    .. [1] B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall, 1993,
       doi:10.1201/9780429246593.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.metrics import accuracy_score
    >>> from skuq.metrics import bootstrap
    >>> y, predicted = np.tile([0, 1], 50), np.zeros(100)
    >>> found = bootstrap(accuracy_score, y, predicted)
    >>> found.value, round(found.low, 1), round(found.high, 1)
    (0.5, 0.4, 0.6)
    """
    level = checked_level("confidence_level", confidence_level)
    check_option("interval", interval, ("percentile", "basic"))
    if not isinstance(n_resamples, int | np.integer) or n_resamples < 2:
        raise ValueError(f"n_resamples must be an integer of at least 2, got {n_resamples!r}")
    if not callable(metric) or not predictions:
        raise TypeError(
            "bootstrap needs a metric and the arrays that it takes: bootstrap(metric, y_true, "
            f"y_proba), got metric={metric!r} and {len(predictions)} arrays beside y_true"
        )
    measured = _Measured(metric, y_true, predictions, against, sample_weight, options)
    drawn = _rows(measured.n_rows, groups, check_random_state(random_state), int(n_resamples))
    value = measured(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metrics that are undefined on a resample
        resamples = np.array([measured.or_nan(rows) for rows in drawn])
    return interval_of(value, resamples, level, interval)


class _Measured:
    """The metric as a function of the numbers of rows."""

    def __init__(
        self,
        metric: Callable[..., float],
        y_true: Any,
        predictions: Sequence[Any],
        against: Sequence[Any] | None,
        sample_weight: Any,
        options: dict[str, Any],
    ) -> None:
        self._metric, self._options = metric, _with_labels(metric, y_true, predictions, options)
        self._y, self._weight = _as_rows(y_true), None
        self._predictions = [_as_rows(one) for one in predictions]
        self._against = None if against is None else [_as_rows(one) for one in against]
        if self._against is not None and len(self._against) != len(self._predictions):
            raise ValueError(
                f"against must hold {len(self._predictions)} arrays, as the first model's "
                f"predictions do, got {len(self._against)}; give a list of arrays"
            )
        if sample_weight is not None:
            self._weight = np.asarray(sample_weight, dtype=float)
        others = self._against or []
        check_consistent_length(self._y, *self._predictions, *others, self._weight)
        self.n_rows = len(self._y)

    def __call__(self, rows: np.ndarray | None) -> float:
        value = self._of(self._predictions, rows)
        return value if self._against is None else value - self._of(self._against, rows)

    def or_nan(self, rows: np.ndarray) -> float:
        """Return NaN where the metric is undefined, such as an AUROC of one class."""
        try:
            return self(rows)
        except ValueError:
            return np.nan

    def _of(self, predictions: Sequence[Any], rows: np.ndarray | None) -> float:
        arrays = [self._y, *predictions]
        options, weight = dict(self._options), self._weight
        if rows is not None:
            arrays = [_safe_indexing(array, rows) for array in arrays]
            weight = None if weight is None else weight[rows]
        if weight is not None:
            options["sample_weight"] = weight
        value = np.asarray(self._metric(*arrays, **options))
        if value.size != 1:
            raise TypeError(f"metric must give one number, got an array of shape {value.shape}")
        return float(value.item())


def _with_labels(
    metric: Callable[..., float], y_true: Any, predictions: Sequence[Any], options: dict[str, Any]
) -> dict[str, Any]:
    """Add the labels of all rows to the options, since a resample may lack a class."""
    try:
        takes_labels = "labels" in inspect.signature(metric).parameters
    except (TypeError, ValueError):  # a function written in C
        takes_labels = False
    shape = np.shape(predictions[0])
    if not takes_labels or "labels" in options or len(shape) != 2:
        return options
    known = np.unique(np.asarray(y_true))
    return {**options, "labels": known} if len(known) == shape[1] else options


def _as_rows(values: Any) -> Any:
    """Return an array, or a frame as it is."""
    return values if hasattr(values, "iloc") else np.asarray(values)


def _units(n_rows: int, groups: Any) -> tuple[int, np.ndarray | None]:
    """Return how many units are drawn anew, and the unit of each row; None if each is a row."""
    codes, n_units = None, n_rows
    if groups is not None:
        refuse_no_groups(groups)
        _, codes = np.unique(np.asarray(groups), return_inverse=True)
        if codes.shape != (n_rows,):
            raise ValueError(f"groups must hold {n_rows} groups, got shape {np.shape(groups)}")
        n_units = int(codes.max()) + 1
    if n_units < 2:
        what = "rows" if groups is None else "groups"
        raise ValueError(f"bootstrap needs at least 2 {what}, got {n_units}")
    return n_units, codes


def _rows(n_rows: int, groups: Any, random: Any, n_resamples: int) -> Iterator[np.ndarray]:
    """Draw the numbers of the rows of each resample."""
    n_units, codes = _units(n_rows, groups)
    members = None
    if codes is not None:
        order = np.argsort(codes, kind="stable")
        members = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    return _drawn(members, n_units, random, n_resamples)


def counts_of_rows(n_rows: int, groups: Any, seed: int, n_resamples: int) -> Iterator[np.ndarray]:
    """Draw how often each row is in each of the resamples of `bootstrap` with this seed."""
    n_units, codes = _units(n_rows, groups)
    for units in _drawn(None, n_units, check_random_state(seed), n_resamples):
        counts = np.bincount(units, minlength=n_units).astype(float)
        yield counts if codes is None else counts[codes]


def _drawn(
    members: list[np.ndarray] | None, n_units: int, random: Any, n_resamples: int
) -> Iterator[np.ndarray]:
    for _ in range(n_resamples):
        units = random.randint(n_units, size=n_units)
        yield units if members is None else np.concatenate([members[unit] for unit in units])


def interval_of(
    value: float, resamples: np.ndarray, level: float, method: str
) -> BootstrapInterval:
    """Make the interval of the values of resamples, which are NaN where undefined."""
    known = resamples[~np.isnan(resamples)]
    if np.isinf([value, *known]).any():
        raise ValueError(
            "the metric is infinite on these rows or on resamples of them, which have no interval: "
            "give predictions for which it is finite"
        )
    if len(known) < (1 - _MOST_FAILED) * len(resamples):
        raise ValueError(
            f"the metric is undefined on {len(resamples) - len(known)} of {len(resamples)} "
            "resamples, which hold too few kinds of rows for it: give more rows"
        )
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    error, bias = float(known.std()), float(known.mean() - value)
    if method == "basic":
        low, high = 2 * value - high, 2 * value - low
    elif abs(bias) > max(_NOTABLE_BIAS * error, 1e-9 * abs(value)):
        warn(
            f"the metric is biased on few rows: its resamples are {bias:+.2g} away from its value, "
            f"of standard error {error:.2g}, so the percentile interval lies on one side. "
            "interval='basic' takes the bias out",
            UserWarning,
        )
    return BootstrapInterval(value, float(low), float(high), error, bias, resamples)

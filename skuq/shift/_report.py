"""How a fitted estimator does on rows that are corrupted more and more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from scipy import stats
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skuq._composition import predictions
from skuq._predict import ClassifierPredictions
from skuq._utils._optional import import_optional
from skuq._utils._typing import ArrayLike, DataFrame, MatrixLike
from skuq.metrics import (
    brier_score,
    crps_scorer,
    expected_calibration_error,
    negative_log_likelihood,
    nll_scorer,
    prediction_interval_coverage,
    uncertainty_scorers,
)
from skuq.selective._refusals import unrefused
from skuq.shift._corruptions import Corrupter, Corruptions

__all__ = ["ShiftReport", "novelty_auroc", "shift_report"]

_NAMES = {
    "nll": "NLL",
    "brier": "Brier score",
    "ece": "ECE",
    "rmse": "RMSE",
    "crps": "CRPS",
    "coverage": "coverage of 90 % intervals",
    "total": "mean total uncertainty",
    "epistemic": "mean epistemic uncertainty",
    "novelty_auroc": "AUROC of novelty",
}


class Curve(NamedTuple):
    """A measure at each severity, over the corruptions.

    Attributes
    ----------
    severity : ndarray of shape (n_severities,)
        The severities, increasing.
    median, low, high : ndarray of shape (n_severities,)
        Median and quartiles of the measure over the corruptions.
    """

    severity: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray


class ShiftReport:
    """The result of `shift_report`.

    Attributes
    ----------
    records : list of dict
        One for each corruption and severity: "corruption", "severity", and the measures.
    measures : list of str
        Names of the measures.
    """

    def __init__(self, records: list[dict[str, Any]]) -> None:
        self.records = records
        self.measures = [name for name in records[0] if name not in ("corruption", "severity")]

    def frame(self) -> DataFrame:
        """Return the records as a pandas DataFrame, one line for each corruption and severity.

        Returns
        -------
        DataFrame
            Columns "corruption", "severity", and one for each measure.
        """
        return import_optional("pandas", "pandas", "ShiftReport.frame").DataFrame(self.records)

    def curve(self, measure: str) -> Curve:
        """Compute median and quartiles of a measure over the corruptions.

        Parameters
        ----------
        measure : str
            One of `measures`.

        Returns
        -------
        Curve
            Named tuple of severity, median, low and high.

        Raises
        ------
        ValueError
            If there is no such measure.
        """
        if measure not in self.measures:
            raise ValueError(
                f"measure must be one of {', '.join(map(repr, self.measures))}, got {measure!r}"
            )
        severity = sorted({record["severity"] for record in self.records})
        values = [[r[measure] for r in self.records if r["severity"] == s] for s in severity]
        low, median, high = (
            np.array([np.quantile(v, q) for v in values]) for q in (0.25, 0.5, 0.75)
        )
        return Curve(np.array(severity), median, low, high)

    def plot(
        self, measure: str | Sequence[str] | None = None, *, ax: Any = None, name: str = ""
    ) -> Self:
        """Draw measures over the severities: medians over the corruptions, bands of quartiles.

        Parameters
        ----------
        measure : str or list of str, default=None
            What to draw; None draws accuracy (or RMSE), ECE (or the coverage of intervals), and the
            mean total uncertainty.
        ax : matplotlib Axes, or one for each measure, default=None
            Where to draw, so that several reports can share axes; None makes a new figure.
        name : str, default=""
            Name of the curve in the legend; without a name there is no legend.

        Returns
        -------
        self : ShiftReport
            The report, with the attributes `axes_`, an array of one Axes for each measure, and
            `figure_`.
        """
        first = "accuracy" if "accuracy" in self.measures else "rmse"
        second = "ece" if "ece" in self.measures else "coverage"
        given = [measure] if isinstance(measure, str) else measure
        wanted = list(given or (first, second, "total"))
        if ax is None:
            pyplot = import_optional("matplotlib.pyplot", "plot", "ShiftReport.plot")
            size = (4.2 * len(wanted), 3.6)
            _, ax = pyplot.subplots(1, len(wanted), figsize=size, layout="constrained")
        axes = np.atleast_1d(ax)
        if len(axes) != len(wanted):
            raise ValueError(f"ax must hold {len(wanted)} axes, one per measure, got {len(axes)}")
        for each, one in zip(axes, wanted):
            curve = self.curve(one)
            (line,) = each.plot(curve.severity, curve.median, marker="o", label=name or None)
            each.fill_between(
                curve.severity, curve.low, curve.high, color=line.get_color(), alpha=0.2, lw=0
            )
            each.set(xlabel="severity", ylabel=_NAMES.get(one, one))
            each.set_xticks(curve.severity)
            if name:
                each.legend()
        self.axes_, self.figure_ = axes, axes[0].figure
        return self

    def __repr__(self) -> str:
        n_corruptions = len({record["corruption"] for record in self.records})
        return f"ShiftReport({n_corruptions} corruptions, measures: {', '.join(self.measures)})"


def shift_report(
    estimator: Any,
    X: MatrixLike,
    y: ArrayLike,
    corruptions: Corruptions = None,
    severities: Sequence[int] = (0, 1, 2, 3, 4, 5),
    *,
    novelty: Any = None,
    image_shape: tuple[int, ...] | None = None,
    value_range: tuple[float, float] | None = None,
    random_state: int = 0,
) -> ShiftReport:
    """Judge a fitted estimator on rows that are corrupted more and more [1]_.

    Parameters
    ----------
    estimator : fitted classifier or regressor
        Any estimator of one target for which `skuq.predict_uncertainty` gives all parts; any
        classifier with `predict_proba`.
    X : array-like of shape (n_images, height, width), (n_images, n_channels, height, width), or \
            (n_rows, n_columns)
        Rows that trained nothing: images or a table.
    y : array-like of shape (n_samples,)
        True labels or targets. They stay as they are, so corruptions must not change the truth.
    corruptions : list of str, or dict of callables, default=None
        Names of skuq's own corruptions, as in `corrupt`, or functions
        ``(X, severity, generator) -> X`` by name. None takes all of skuq's own for these rows.
    severities : sequence of int, default=(0, 1, 2, 3, 4, 5)
        Severities from 0 (unchanged) to 5.
    novelty : fitted object with `predict_novelty`, default=None
        How strange rows are, for "novelty_auroc". None takes the total uncertainty.
    image_shape, value_range, random_state : as in `corrupt`
        How images lie in the rows, the values of black and white, and the seed of the noise.

    Returns
    -------
    ShiftReport
        One record for each corruption and severity. For a classifier it has "accuracy", "nll"
        (nats), "brier", "ece" (15 bins), for a regressor "rmse", "nll", "crps" and "coverage" of
        90 % intervals; for both the mean "total" and "epistemic" uncertainty, and "novelty_auroc",
        the probability that a corrupted row looks stranger than a clean one.

    Raises
    ------
    ValueError
        If a corruption is unknown, a severity is none of 0 to 5, or X and y do not match.

    References
    ----------
    .. [1] Y. Ovadia et al., "Can You Trust Your Model's Uncertainty? Evaluating Predictive
       Uncertainty Under Dataset Shift", NeurIPS 2019, arXiv:1906.02530.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skuq import TorchClassifier
    >>> from skuq.shift import shift_report
    >>> X, y = load_digits(return_X_y=True)
    >>> network = TorchClassifier(lr=0.01, max_epochs=20, random_state=0).fit(X[:900], y[:900])
    >>> report = shift_report(network, X[900:], y[900:], ["rotation"], image_shape=(8, 8))
    >>> curve = report.curve("accuracy")
    >>> bool(curve.median[0] > 0.9 > curve.median[5])
    True
    """
    corrupter = Corrupter(X, image_shape, value_range, random_state)
    named = corrupter.named(corruptions)
    check_consistent_length(X, y)
    if np.ndim(y) == 2 and np.shape(y)[1] == 1:
        y = column_or_1d(y)  # beside predictions of shape (n_samples,)
    levels = np.atleast_1d(np.asarray(severities)).tolist()
    if not named or not levels:
        raise ValueError("shift_report needs at least one corruption and one severity, got none")
    clean, clean_scores = _judged(estimator, X, y, novelty)
    records = []
    for name, function in named.items():
        for severity in levels:
            rows = corrupter(X, name, severity, function)
            if severity == 0:
                measures, scores = clean, clean_scores
            else:
                measures, scores = _judged(estimator, rows, y, novelty)
            auroc = novelty_auroc(clean_scores, scores)
            records.append(
                {"corruption": name, "severity": int(severity), **measures, "novelty_auroc": auroc}
            )
    return ShiftReport(records)


def _judged(estimator: Any, X: Any, y: Any, novelty: Any) -> tuple[dict[str, float], np.ndarray]:
    """Return all measures but that of novelty, and how strange each row is."""
    asked: Any
    asked, inner = predictions(estimator, X)
    if isinstance(asked, ClassifierPredictions):
        proba, parts = asked.predict_proba(inner, return_uncertainty=True)
        labels, truth = asked.classes_, np.asarray(y)
        measures = {
            "accuracy": float((labels[proba.argmax(axis=1)] == truth).mean()),
            "nll": negative_log_likelihood(truth, proba, labels=labels),
            "brier": brier_score(truth, proba, labels=labels),
            "ece": expected_calibration_error(truth, proba, labels=labels),
        }
    else:
        parts = asked.predict_uncertainty(inner, kind="all")
        scores = uncertainty_scorers(nll=nll_scorer, crps=crps_scorer)(estimator, X, y)
        mean = np.asarray(unrefused(estimator, X))
        measures = {
            "rmse": float(np.sqrt(((np.asarray(y) - mean) ** 2).mean())),
            "nll": -scores["nll"],
            "crps": -scores["crps"],
            "coverage": prediction_interval_coverage(y, asked.predict_interval(inner, 0.9)),
        }
    measures["total"] = float(parts.total.mean())
    measures["epistemic"] = float(parts.epistemic.mean())
    strange = parts.total if novelty is None else novelty.predict_novelty(X)
    return measures, np.asarray(strange, dtype=float).reshape(len(parts.total), -1).mean(axis=1)


def novelty_auroc(clean: np.ndarray, corrupted: np.ndarray) -> float:
    """Compute the probability that a corrupted row has a higher score; ties count half.

    Parameters
    ----------
    clean, corrupted : ndarray of shape (n_samples,)
        How strange the rows are.
    """
    ranks = stats.rankdata(np.concatenate([clean, corrupted]))[len(clean) :]
    n = len(corrupted)
    return float((ranks.sum() - n * (n + 1) / 2) / (n * len(clean)))

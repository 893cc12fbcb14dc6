"""One HTML page about the quality of a fitted model's uncertainty."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length

from skuq._composition import predictions
from skuq._data._checks import refuse_no_groups
from skuq._data._indexed import IndexedDataset
from skuq._data._streams import is_dataset
from skuq._meta import innermost
from skuq._predict import ClassifierPredictions
from skuq._report_html import Report, figure_of, number_table, table, thumbnail
from skuq._report_intervals import (
    ece_note,
    intervals_of,
    of_classifier,
    of_regressor,
    scores_of_rows,
)
from skuq._report_labels import has_several_labels, report_of_labels
from skuq._report_novelty import judge_novelty
from skuq._report_segmentation import is_segmenter, report_of_segmenter
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.metrics import (
    DecompositionDisplay,
    PITDisplay,
    RegressionCalibrationDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
    UncertaintyHistogramDisplay,
    area_under_risk_coverage,
    brier_score,
    coverage_at_risk,
    expected_calibration_error,
    expected_normalized_calibration_error,
    mean_interval_width,
    negative_log_likelihood,
    prediction_interval_coverage,
    sharpness,
    uncertainty_error_auroc,
)
from skuq.metrics._axes import description, uncertainty_unit
from skuq.metrics._counted import Counted
from skuq.metrics._guarantees import fewest_rows
from skuq.metrics._targets import with_known_targets
from skuq.pipeline import predict_interval, predict_uncertainty
from skuq.selective._refusals import described, unrefused

__all__ = ["Report", "report"]


def report(
    estimator: Any,
    X: MatrixLike,
    y: ArrayLike | None = None,
    *,
    novelty: Any = None,
    X_novel: MatrixLike | None = None,
    groups: ArrayLike | None = None,
    n_resamples: int = 200,
    n_most_uncertain: int = 10,
    title: str | None = None,
) -> Report:
    """Judge a fitted model's uncertainty on rows that it has not seen, on one HTML page.

    Parameters
    ----------
    estimator : fitted classifier, regressor or segmenter
        Any estimator of one target, or of several labels at once, for which
        `skuq.predict_uncertainty` gives all parts.
    X : array-like of shape (n_samples, ...), or torch Dataset of pairs (x, y)
        Rows that the model has not seen.
    y : array-like of shape (n_samples,), or (n_samples, n_labels) of several labels, or \
            (n_samples, height, width) for a segmenter
        The true labels or targets of these rows; None if X is a Dataset, which has them.
    novelty : fitted NoveltyDetector, default=None
        The page then also shows which rows are strange.
    X_novel : array-like of shape (n_novel, ...), default=None
        Rows of another kind, which the detector should flag; needs `novelty`.
    groups : array-like of shape (n_samples,), default=None
        The group of each row, such as the patient: confidence intervals draw whole groups.
    n_resamples : int, default=200
        Number of resamples of the 95 % confidence intervals; 0 leaves them out, and so does a page
        of fewer than 10 rows or groups. Pages of segmenters and of several labels have none.
    n_most_uncertain : int, default=10
        Number of the most uncertain samples to list, and of the strangest ones.
    title : str, default=None
        Heading of the page; None names the estimator.

    Returns
    -------
    Report
        Notebooks show the page, `save` writes it to a file, and `metrics` holds the numbers.

    Raises
    ------
    ValueError
        If there are fewer than 2 samples, or several targets; or X_novel without `novelty`; or if
        `n_resamples` is neither 0 nor an integer above 1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> import skuq
    >>> X, y = load_iris(return_X_y=True)
    >>> network = skuq.TorchClassifier(lr=0.01, max_epochs=20, random_state=0).fit(X, y)
    >>> page = skuq.report(network, X, y)
    >>> page.html.startswith("<!DOCTYPE html>")
    True
    """
    X, y = with_known_targets(X, y)
    X = IndexedDataset(X) if is_dataset(X) else X
    if (own := _page_of_its_own(estimator, X)) is not None:
        if novelty is not None:
            raise ValueError(f"the report of {own[0]} has no novelty: expected novelty=None")
        return own[1](estimator, X, y, n_most_uncertain, title)
    if X_novel is not None and novelty is None:
        raise ValueError("X_novel needs a detector: expected novelty, a fitted NoveltyDetector")
    if not isinstance(n_resamples, int | np.integer) or n_resamples < 0 or n_resamples == 1:
        raise ValueError(f"n_resamples must be 0, or an integer above 1, got {n_resamples!r}")
    truth = _checked_targets(X, y, groups)
    asked, inner = predictions(estimator, X)
    classifies = isinstance(asked, ClassifierPredictions)
    # For a regressor, the mean of the predictive distribution, to which the variance belongs. With
    # transformed targets, predict of scikit-learn gives another number.
    predicted = unrefused(estimator, X) if classifies else _mean(asked, inner)
    parts = predict_uncertainty(estimator, X, kind="all")
    judge = _judge_classifier if classifies else _judge_regressor
    unit = uncertainty_unit(classifies, y)
    metrics, figures, notes, counted = judge(estimator, X, truth, predicted, parts, unit)
    intervals = intervals_of(counted, len(truth), groups, n_resamples)
    columns, strangest = parts._asdict(), ""
    if novelty is not None:
        more = judge_novelty(novelty, X, X_novel, truth, predicted if classifies else None)
        metrics, figures, notes = metrics | more[0], [*figures, *more[1]], notes | more[2]
        columns["novelty"] = more[3]
        rows = _samples(X, y, predicted, columns, "novelty", n_most_uncertain)
        strangest = f"<h2>The strangest samples</h2>{rows}"
    title = title or f"Uncertainty of {description(estimator)}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{len(truth)} samples. The numbers hold for new rows only if these rows trained, chose "
        "and calibrated nothing.</p>",
        f"<pre>{escape(repr(estimator))}</pre>",
        _about_weights(estimator, X),
        "<h2>In numbers</h2>",
        number_table(metrics, intervals, notes),
        _about_refusals(estimator, X, y),
        "<h2>In pictures</h2><div class='figures'>",
        *(figure_of(draw, caption) for caption, draw in figures),
        f"</div><h2>The most uncertain samples ({escape(unit)})</h2>",
        _samples(X, y, predicted, columns, "total", n_most_uncertain),
        strangest,
    ]
    return Report(metrics, title, "".join(body), intervals)


def _checked_targets(X: Any, y: Any, groups: Any) -> np.ndarray:
    truth = np.asarray(y)
    if truth.ndim != 1 or len(truth) < 2:
        raise ValueError(
            f"y must have shape (n_samples,) with at least 2 samples, got {truth.shape}"
        )
    check_consistent_length(X, truth, groups)
    if groups is not None:
        refuse_no_groups(groups)
    return truth


def _page_of_its_own(estimator: Any, X: Any) -> tuple[str, Callable[..., Report]] | None:
    """Return what has another page, and its maker; None for one label or target of each row."""
    if is_segmenter(estimator, X):
        return "a segmenter", report_of_segmenter
    return ("several labels", report_of_labels) if has_several_labels(estimator, X) else None


def _about_weights(estimator: Any, X: Any) -> str:
    """Write a note if weights of classes have changed the probabilities."""
    leaf, _ = innermost(estimator, X)
    if getattr(leaf, "class_weight", None) is None or getattr(leaf, "prior_correction", False):
        return ""
    return (
        f"<p>{type(leaf).__name__} was trained with class_weight: its probabilities are tilted "
        "towards the heavier classes, and a temperature does not undo that. "
        "<code>prior_correction=True</code> does.</p>"
    )


def _about_refusals(estimator: Any, X: Any, y: Any) -> str:
    """Write whom a selective estimator refuses."""
    found = described(estimator, X, y)
    if found is None:
        return ""
    head = ["", "rows", "refused", "risk of the accepted"]
    return f"<h2>Who is refused</h2><p>{escape(found[0])}</p>{table(head, found[1])}"


def _mean(asked: Any, X: Any) -> np.ndarray:
    mean: np.ndarray = asked._reduce(X, lambda predictive: predictive.mean.mean(0))
    if mean.shape[1] != 1:
        raise ValueError(
            f"skuq.report needs one target, but the regressor predicts {mean.shape[1]}"
        )
    return mean[:, 0]


Figures = list[tuple[str, Callable[[Any], Any]]]
# Numbers, pictures, best values, and metrics of resamples.
Judgement = tuple[dict[str, float], Figures, dict[str, str], dict[str, Counted]]
_RISK, _DELTA, _LEVELS = 0.05, 0.05, (0.5, 0.8, 0.9, 0.95)
_NLL = "negative log-likelihood (nats)"


def _judge_classifier(
    estimator: Any, X: Any, y: np.ndarray, predicted: np.ndarray, parts: Any, unit: str
) -> Judgement:
    proba, labels = estimator.predict_proba(X), estimator.classes_
    wrong = predicted != y
    ranks = (y, predicted, parts.total)
    metrics = {
        "accuracy": 1 - wrong.mean(),
        "negative log-likelihood (nats)": negative_log_likelihood(y, proba, labels=labels),
        "Brier score": brier_score(y, proba, labels=labels),
        "ECE (top label, 15 bins)": expected_calibration_error(y, proba, labels=labels),
        "MCE": expected_calibration_error(y, proba, labels=labels, norm="max"),
        "AURC": area_under_risk_coverage(*ranks),
        "excess AURC": area_under_risk_coverage(*ranks, excess=True),
        "AUGRC": area_under_risk_coverage(*ranks, method="generalized"),
    }
    if 0 < wrong.sum() < len(y):
        metrics["AUROC of errors"] = uncertainty_error_auroc(*ranks)
    share_kept = "share kept at 5 % errors, 95 % sure"
    metrics[share_kept] = coverage_at_risk(*ranks, risk=_RISK, delta=_DELTA).coverage
    notes = dict.fromkeys(metrics, "0") | {"AURC": "low", "AUGRC": "low"} | ece_note(proba)
    notes |= dict.fromkeys(("accuracy", "AUROC of errors", share_kept), "1")
    fewest = fewest_rows(_RISK, _DELTA, "sgr")
    if len(y) < fewest:
        notes[share_kept] = f"0: {len(y)} samples are too few to be sure; {fewest} can suffice"
    figures: Figures = [
        (
            "Calibrated predictions lie on the diagonal; bars are 95 % intervals.",
            lambda ax: ReliabilityDisplay.from_predictions(y, proba, labels=labels, ax=ax),
        ),
        (
            "The lower, the better uncertainty ranks errors last.",
            lambda ax: RiskCoverageDisplay.from_predictions(*ranks, ax=ax),
        ),
        (
            "Errors should be more uncertain.",
            lambda ax: UncertaintyHistogramDisplay.from_predictions(
                parts.total[~wrong],
                parts.total[wrong],
                groups=("right", "wrong"),
                kind="total",
                unit=unit,
                ax=ax,
            ),
        ),
        (
            "Along a dotted line the total is the same.",
            lambda ax: DecompositionDisplay.from_predictions(
                parts.aleatoric, parts.epistemic, wrong=wrong, unit=unit, ax=ax
            ),
        ),
    ]
    return metrics, figures, notes, of_classifier(y, proba, labels, predicted, parts.total)


def _judge_regressor(
    estimator: Any, X: Any, y: np.ndarray, predicted: np.ndarray, parts: Any, unit: str
) -> Judgement:
    residual, std = y - predicted, np.sqrt(parts.total)
    scores = scores_of_rows(estimator, X, y)
    bands = {level: predict_interval(estimator, X, level) for level in _LEVELS}
    metrics = {
        "R²": 1 - (residual**2).mean() / y.var() if y.var() else float("nan"),
        "RMSE": float(np.sqrt((residual**2).mean())),
        **{name: float(rows.mean()) for name, rows in scores.items()},
        **({"ENCE": expected_normalized_calibration_error(y, predicted, std)} if std.all() else {}),
        "sharpness (root mean variance)": sharpness(std),
        "AURC (squared error)": area_under_risk_coverage(y, predicted, parts.total, loss="squared"),
    }
    notes = {**dict.fromkeys(metrics, "0"), "R²": "1", _NLL: "low"}
    notes |= {"sharpness (root mean variance)": "low, where coverage holds"}
    notes |= {"AURC (squared error)": "low"}
    for level, interval in bands.items():
        metrics[f"coverage of {level:.0%} intervals"] = prediction_interval_coverage(y, interval)
        metrics[f"width of {level:.0%} intervals"] = mean_interval_width(interval)
        notes[f"coverage of {level:.0%} intervals"] = f"{level:g}"
        notes[f"width of {level:.0%} intervals"] = "low, where coverage holds"
    figures: Figures = [
        (
            "Below the diagonal, intervals are too narrow.",
            lambda ax: RegressionCalibrationDisplay.from_estimator(estimator, X, y, name="", ax=ax),
        ),
        (
            "Flat if calibrated; a U if too narrow, a hump if too wide.",
            lambda ax: PITDisplay.from_estimator(estimator, X, y, name="observed", ax=ax),
        ),
        (
            "The lower, the better uncertainty ranks large errors last.",
            lambda ax: RiskCoverageDisplay.from_predictions(
                y, predicted, parts.total, loss="squared", ax=ax
            ),
        ),
        (
            "Along a dotted line the total is the same.",
            lambda ax: DecompositionDisplay.from_predictions(
                parts.aleatoric, parts.epistemic, unit=unit, ax=ax
            ),
        ),
    ]
    return metrics, figures, notes, of_regressor(y, predicted, parts.total, scores, bands)


def _samples(
    X: Any, y: Any, predicted: np.ndarray, columns: dict[str, np.ndarray], by: str, n: int
) -> str:
    """Make a table of the samples that are the highest in one of the columns."""
    order = np.argsort(-columns[by], kind="stable")[:n]
    row_names, index = _row_names(X, y)
    truth = np.asarray(y)
    head = [row_names, "true", "predicted", *columns]
    rows = []
    shown = _shown_features(X)
    for i in order:
        values = [f"{column[i]:.4g}" for column in columns.values()]
        found_by = str(i) if index is None else str(index[i])
        rows.append([found_by, _cell(truth[i]), _cell(predicted[i]), *values])
    if shown == "image":
        rows = [[*row, thumbnail(_row(X, i))] for i, row in zip(order, rows)]
        return table([*head, "image"], rows, raw=True)
    if shown is None:
        return table(head, rows)
    names, features = shown
    for i, row in zip(order, rows):
        row += [_cell(feature[i]) for feature in features]
    return table(head + names, rows)


def _row(X: Any, i: int) -> np.ndarray:
    """Return a row of an array, or of a Dataset of pairs (x, y) or of x."""
    row = X[i]
    return np.asarray(row[0] if is_dataset(X) and isinstance(row, tuple | list) else row)


def _row_names(X: Any, y: Any) -> tuple[str, Any]:
    """Return names by which a user finds rows: an index of X or y, or None for positions."""
    for rows in (X, y):
        index = getattr(rows, "index", None)
        if index is not None and not callable(index):  # a list has a method of that name
            return str(index.name if index.name is not None else "index"), index
    return "row", None


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def _shown_features(X: Any, at_most: int = 8) -> Any:
    """Return names and columns of the first features, "image" for rows of pixels, or None."""
    if hasattr(X, "columns"):
        names = list(X.columns)[:at_most]
        return [str(name) for name in names], [np.asarray(X[name]) for name in names]
    if hasattr(X, "toarray"):
        return None
    array = np.asarray(X) if not is_dataset(X) else _row(X, 0)[None]
    if array.ndim == 2:
        if is_dataset(X):
            return None
        names = [f"x{j}" for j in range(min(at_most, array.shape[1]))]
        return names, list(array.T[:at_most])
    pixels = array.ndim == 3 or (array.ndim == 4 and array.shape[1] in (1, 3))
    return "image" if pixels else None

"""skuq.cross_val_predict: answers for each row by a model that has not seen it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.model_selection import cross_val_predict as predict_by_scikit_learn
from sklearn.model_selection import cross_validate

from skuq._data._indexed import IndexedDataset
from skuq._data._streams import is_dataset
from skuq._utils._sklearn_compat import _num_samples, _safe_indexing
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.pipeline import (
    predict_draws,
    predict_interval,
    predict_quantiles,
    predict_uncertainty,
)
from skuq.uncertainty import Uncertainty

__all__ = ["cross_val_predict"]

_BY_SCIKIT_LEARN = ("predict", "predict_proba", "predict_log_proba", "decision_function")
_BY_SKUQ: dict[str, Callable[..., Any]] = {
    "predict_uncertainty": predict_uncertainty,
    "predict_interval": predict_interval,
    "predict_quantiles": predict_quantiles,
    "predict_draws": predict_draws,
}


def cross_val_predict(
    estimator: Any,
    X: MatrixLike,
    y: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    cv: Any = None,
    n_jobs: int | None = None,
    verbose: int = 0,
    params: dict[str, Any] | None = None,
    method: str = "predict_uncertainty",
    **options: Any,
) -> np.ndarray | Uncertainty:
    """Answer for each row by a model that has not seen it, as in scikit-learn.

    A copy of the estimator is fitted for each fold, on the other folds, and answers for the rows of
    its fold. scikit-learn's function of this name refuses the methods of skuq.

    Parameters
    ----------
    estimator : object
        An estimator, not fitted: anything that `skuq.predict_uncertainty` takes once it is fitted.
    X : array-like of shape (n_samples, ...), or torch Dataset of pairs (x, y)
        Rows, as the estimator takes them.
    y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
        Labels or targets; None if X is a Dataset, which has them.
    groups : array-like of shape (n_samples,), default=None
        The group of each row, for a splitter that knows groups.
    cv : int, cross-validation generator or iterable, default=None
        Folds, as in scikit-learn; None is 5. Each row must be in exactly one fold. A Dataset shows
        no labels, so that its folds by number are not stratified.
    n_jobs : int, default=None
        How many folds joblib fits at the same time.
    verbose : int, default=0
        How much to print.
    params : dict, default=None
        Further arguments of `fit`, such as ``sample_weight``, whose rows are those of X; with
        metadata routing also those of the splitter.
    method : str, default="predict_uncertainty"
        "predict_uncertainty", "predict_interval", "predict_quantiles" or "predict_draws". The
        methods "predict", "predict_proba", "predict_log_proba" and "decision_function" go to
        scikit-learn.
    **options
        Arguments of the method: ``kind``, ``measure``, ``confidence_level``, ``q``.

    Returns
    -------
    ndarray, or Uncertainty of three
        The answers in the order of the rows, of the shape that the method gives for X. Draws have
        the rows on their second axis; the k-th draw of one fold is not that of another.

    Raises
    ------
    ValueError
        If folds are no partition of the rows, or if they give different numbers of draws.

    Warns
    -----
    RuntimeWarning
        If a fold has not seen a class: its draws give that class a probability of 0.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> import skuq
    >>> from sklearn.linear_model import BayesianRidge
    >>> X, y = load_diabetes(return_X_y=True)
    >>> interval = skuq.cross_val_predict(
    ...     BayesianRidge(), X, y, cv=3, method="predict_interval", confidence_level=0.8
    ... )
    >>> interval.shape
    (442, 2)
    """
    if is_dataset(X):
        X = IndexedDataset(X)
    if not isinstance(method, str) or method not in (*_BY_SKUQ, *_BY_SCIKIT_LEARN):
        raise ValueError(
            f"method must be one of {', '.join(map(repr, (*_BY_SKUQ, *_BY_SCIKIT_LEARN)))}, got "
            f"{method!r}"
        )
    if method not in _BY_SKUQ:
        return _by_scikit_learn(estimator, X, y, method, options, groups, cv, n_jobs, params)
    found = cross_validate(
        estimator,
        X,
        y,
        groups=groups,
        cv=cv,
        n_jobs=n_jobs,
        verbose=verbose,
        params=params,
        scoring=_no_score,
        return_estimator=True,
        return_indices=True,
        error_score="raise",
    )
    places = found["indices"]["test"]
    _check_partition(places, _num_samples(X))
    answers = [
        _BY_SKUQ[method](fitted, _safe_indexing(X, test), **options)
        for fitted, test in zip(found["estimator"], places)
    ]
    if method == "predict_draws":
        answers = _with_all_classes(found["estimator"], answers)
    axis = 1 if method == "predict_draws" else 0
    joined: np.ndarray | Uncertainty = _joined(answers, places, axis)
    return joined


def _by_scikit_learn(
    estimator: Any,
    X: Any,
    y: Any,
    method: str,
    options: dict[str, Any],
    groups: Any,
    cv: Any,
    n_jobs: Any,
    params: Any,
) -> np.ndarray:
    if options:
        raise TypeError(
            f"method={method!r} is called by scikit-learn, which gives it no arguments; got "
            f"{', '.join(options)}. skuq's own methods are {', '.join(_BY_SKUQ)}"
        )
    found: np.ndarray = predict_by_scikit_learn(
        estimator, X, y, groups=groups, cv=cv, n_jobs=n_jobs, params=params, method=method
    )
    return found


def _no_score(estimator: Any, X: Any, y: Any = None) -> float:
    return 0.0


def _check_partition(places: list[np.ndarray], n_rows: int) -> None:
    counts = np.bincount(np.concatenate(places), minlength=n_rows)
    if len(counts) != n_rows or (counts != 1).any():
        raise ValueError(
            f"cv must put each row in exactly one fold, but {(counts != 1).sum()} of {n_rows} rows "
            "are in none or in several. For TimeSeriesSplit, whose first rows are in none, use "
            "cross_validate with return_estimator=True"
        )


def _with_all_classes(fitted: list[Any], answers: list[np.ndarray]) -> list[np.ndarray]:
    """Give the draws of classifiers a column for each class, also where a fold lacked some."""
    classes: list[Any] = [getattr(one, "classes_", None) for one in fitted]
    if not is_classifier(fitted[0]) or any(np.ndim(one) != 1 for one in classes):
        return answers
    known: np.ndarray = np.unique(np.concatenate(classes))
    if all(len(one) == len(known) for one in classes):
        return answers
    warnings.warn(
        "some folds lack rows of some classes, whose probability in their draws is 0; use "
        "stratified folds",
        RuntimeWarning,
        stacklevel=3,
    )
    full = []
    for own, draws in zip(classes, answers):
        joined = np.zeros((*draws.shape[:2], len(known), *draws.shape[3:]))
        joined[:, :, np.searchsorted(known, own)] = draws
        full.append(joined)
    return full


def _joined(answers: list[Any], places: list[np.ndarray], axis: int) -> Any:
    """Put the answers of all folds in the order of the rows."""
    if isinstance(answers[0], Uncertainty):
        return Uncertainty(*(_joined(list(part), places, axis) for part in zip(*answers)))
    shapes = {np.delete(one.shape, axis).tobytes() for one in answers}
    if len(shapes) > 1:
        raise ValueError(
            "the folds give answers of different shapes, such as "
            f"{' and '.join(str(one.shape) for one in answers[:2])}; expected as many draws in each"
        )
    order = np.argsort(np.concatenate(places))
    return np.take(np.concatenate(answers, axis=axis), order, axis=axis)

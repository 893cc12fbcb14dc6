"""What queries ask of a fitted estimator: probabilities, draws, means and features of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skuq._composition import see_through
from skuq._data._inputs import as_inputs
from skuq._data._streams import is_dataset
from skuq._estimator._base import TorchEstimator
from skuq._features import predict_features
from skuq._meta import Around
from skuq._sklearn_estimators import has_draws
from skuq._utils._sklearn_compat import (
    BaseSearchCV,
    _num_samples,
    is_transformed_target_regressor,
)
from skuq._utils._stock import is_stock
from skuq.pipeline import predict_draws

__all__ = [
    "check_fitted",
    "checked_numbers",
    "count_rows",
    "class_probabilities",
    "dense_rows",
    "draws_of",
    "embedding",
    "has_network",
    "knows_uncertainty",
    "layers_of",
    "means_of",
    "measures_uncertainty",
    "needs_classifier",
    "needs_regressor",
    "one_per_row",
]


def checked_numbers(values: Any, name: str, n_axes: int = 1) -> np.ndarray:
    """Return an array of finite numbers with this many axes; refuse anything else."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numbers, got {values!r:.80}") from None
    if array.ndim != n_axes:
        axes = "axis" if n_axes == 1 else "axes"
        raise ValueError(f"{name} must have {n_axes} {axes}, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be finite, got {(~np.isfinite(array)).sum()} that are NaN or infinite"
        )
    return array


def check_fitted(estimator: Any, X: Any) -> None:
    """Refuse an estimator that is not fitted, and a pool without rows."""
    if isinstance(estimator, type) or not hasattr(estimator, "fit"):
        raise TypeError(
            f"expected a fitted estimator first, and then the pool, got {estimator!r:.80}"
        )
    check_is_fitted(estimator)
    if not is_dataset(X) and not hasattr(X, "tocsr") and np.shape(X)[:1] == (0,):
        raise ValueError("the pool has 0 rows; expected at least 1")


def needs_classifier(estimator: Any, query: str) -> None:
    if not is_classifier(estimator):
        raise TypeError(
            f"{query} needs a classifier, got {type(estimator).__name__}. For regressors there are "
            "variance, expected_gradient_length, expected_model_change, egl_plus_plus and core_set"
        )


def needs_regressor(estimator: Any, query: str) -> None:
    if not is_regressor(estimator):
        raise TypeError(
            f"{query} needs a regressor, got {type(estimator).__name__}. For classifiers there are "
            "margin, entropy, bald and expected_gradient_length"
        )


def one_per_row(values: Any, *, add: bool = False) -> np.ndarray:
    """Reduce numbers of labels, targets or pixels to one for each row: their mean, or their sum."""
    flat = np.asarray(values, dtype=float)
    flat = flat.reshape(len(flat), -1)
    return np.asarray(flat.sum(axis=1) if add else flat.mean(axis=1))


def layers_of(estimator: Any) -> Iterator[Any]:
    """Yield an estimator and those inside of it that answer in its place, the outermost first.

    Others, such as `CalibratedClassifierCV` or `RFE`, answer in their own way by `predict_proba`,
    and what is inside of them does not matter.
    """
    while estimator is not None:
        yield estimator
        estimator = _next_inside(estimator)


def _next_inside(estimator: Any) -> Any:
    names: tuple[str, ...] = ()
    if is_stock(estimator, Pipeline):
        return estimator.steps[-1][1]
    if is_stock(estimator, BaseSearchCV):
        names = ("best_estimator_", "estimator")
    elif is_stock(estimator, FrozenEstimator):
        names = ("estimator",)
    elif is_transformed_target_regressor(estimator):
        names = ("regressor_", "regressor")
    elif isinstance(estimator, Around) or getattr(estimator, "_answers_by_estimator", False):
        names = ("estimator_", "estimator")
    return next((getattr(estimator, name) for name in names if hasattr(estimator, name)), None)


def knows_uncertainty(estimator: Any) -> bool:
    """Return whether a method `predict_uncertainty` is somewhere inside."""
    return any(hasattr(each, "predict_uncertainty") for each in layers_of(estimator))


def measures_uncertainty(estimator: Any) -> bool:
    """Return whether `skuq.predict_uncertainty` takes it, ensembles of scikit-learn included."""
    return knows_uncertainty(estimator) or any(has_draws(each) for each in layers_of(estimator))


def has_network(estimator: Any) -> bool:
    """Return whether there is a network inside, which has features."""
    return any(isinstance(each, TorchEstimator) for each in layers_of(estimator))


def count_rows(X: Any) -> int:
    """Return the number of rows of an array, a data frame, a Dataset or several inputs."""
    return len(X) if is_dataset(X) else int(_num_samples(as_inputs(X)))


def class_probabilities(estimator: Any, X: Any, query: str) -> np.ndarray:
    """Return the mean probabilities of all classes, of shape (n_pool, n_classes)."""
    needs_classifier(estimator, query)
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(f"{query} needs predict_proba, which {type(estimator).__name__} lacks")
    found = estimator.predict_proba(X)
    if isinstance(found, list):  # several targets, whose numbers of classes may differ
        raise ValueError(
            f"{query} needs one label for each row, and {type(estimator).__name__} predicts "
            f"{len(found)}; fit one estimator for each target"
        )
    proba: np.ndarray = np.asarray(found, dtype=float)
    if proba.ndim != 2 or (proba.size and np.abs(proba.sum(axis=1) - 1).max() > 1e-3):
        raise ValueError(
            f"{query} needs one label for each row: expected probabilities of shape (n_samples, "
            f"n_classes) that sum to 1, got shape {proba.shape}"
        )
    return proba


def draws_of(estimator: Any, X: Any, query: str) -> np.ndarray:
    """Return the predictions of all draws; refuse a posterior with one, which cannot disagree."""
    draws = np.asarray(predict_draws(estimator, X), dtype=float)
    if len(draws) < 2:
        raise ValueError(
            f"{query} measures how much draws disagree, and this {type(estimator).__name__} has "
            "one draw. Give a posterior with more, such as DeepEnsemble() or MCDropout()"
        )
    return draws


def means_of(estimator: Any, X: Any) -> np.ndarray:
    """Return the predictions of a regressor, of shape (n_samples, n_targets)."""
    predicted = np.asarray(estimator.predict(X), dtype=float)
    return predicted.reshape(len(predicted), -1)


def embedding(estimator: Any, X: Any, layer: str | None = None) -> np.ndarray:
    """Return where each row lies: features of the network, those of an ensemble side by side.

    Without a network, these are the columns of X, as the innermost estimator gets them.
    """
    if not has_network(estimator):
        return dense_rows(estimator, X)
    features = predict_features(estimator, X, layer=layer)
    if features.ndim == 3:
        features = np.moveaxis(features, 0, 1)
    return np.ascontiguousarray(features.reshape(len(features), -1), dtype=float)


def dense_rows(estimator: Any, X: Any) -> np.ndarray:
    """Return rows as the estimator inside gets them, as a matrix of numbers."""
    _, rows, _ = see_through(estimator, X)
    if is_dataset(rows):
        raise TypeError(
            f"{type(estimator).__name__} has no network, so the rows themselves are the features: "
            "expected an array, got a Dataset"
        )
    rows = rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows)
    return checked_numbers(rows.reshape(len(rows), -1), "the pool", 2)

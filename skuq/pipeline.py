"""Uncertainty through scikit-learn's own composition.

scikit-learn's meta-estimators forward `predict` and `predict_proba`, nothing else. The functions
here walk through the stock ones; `Pipeline` and `make_pipeline` are scikit-learn's with methods.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import pipeline as sklearn_pipeline
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skuq._sklearn_compat import BaseSearchCV
from skuq.uncertainty import Uncertainty

__all__ = [
    "Pipeline",
    "make_pipeline",
    "predict_draws",
    "predict_interval",
    "predict_quantiles",
    "predict_uncertainty",
]

_LINEAR_SCALERS = (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)
_SEEN_THROUGH = "Pipeline, GridSearchCV and its kin, FrozenEstimator, TransformedTargetRegressor"


class _Units:
    """Maps what a regressor says of z to y = location + slope · z, slope > 0, per target."""

    def __init__(self, location: np.ndarray, slope: np.ndarray) -> None:
        self.location = location
        self.slope = slope

    def inside(self, outer: _Units) -> _Units:
        return _Units(outer.location + outer.slope * self.location, outer.slope * self.slope)

    def values(self, values: np.ndarray) -> np.ndarray:
        """Of arrays (..., n_targets), or without targets."""
        return self.location + self.slope * values

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Of arrays (n_samples, n_levels), or (n_samples, n_targets, n_levels)."""
        if values.ndim == 2:
            return self.values(values)
        return self.location[:, None] + self.slope[:, None] * values

    def variances(self, values: Any) -> Any:
        if isinstance(values, Uncertainty):
            return Uncertainty(*map(self.variances, values))
        return self.slope**2 * values


def see_through(estimator: Any, X: Any) -> tuple[Any, Any, _Units | None]:
    """The estimator inside of stock scikit-learn objects, and X as it gets it.

    Returns
    -------
    estimator : the innermost estimator
    X : transformed by the steps of pipelines around it
    units : how its targets map to the outermost ones, or None where they are the same
    """
    units: _Units | None = None
    while True:
        if isinstance(estimator, sklearn_pipeline.Pipeline):
            check_is_fitted(estimator)
            if len(estimator.steps) > 1:
                X = estimator[:-1].transform(X)
            estimator = estimator.steps[-1][1]
        elif isinstance(estimator, BaseSearchCV):
            check_is_fitted(estimator)
            if not hasattr(estimator, "best_estimator_"):
                raise AttributeError(
                    f"{type(estimator).__name__} was run with refit=False and holds no fitted "
                    "estimator; set refit=True or name a metric"
                )
            estimator = estimator.best_estimator_
        elif isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif isinstance(estimator, TransformedTargetRegressor):
            check_is_fitted(estimator)
            step = _linear_units(estimator.transformer_)
            units = step if units is None else step.inside(units)
            estimator = estimator.regressor_
        else:
            return estimator, X, units


def _linear_units(transformer: Any) -> _Units:
    """The inverse of a target transformer that is known to be linear."""
    if not _is_linear(transformer):
        raise TypeError(
            f"TransformedTargetRegressor with {transformer} maps targets in a way that is not "
            "known to be linear, so uncertainty cannot be carried back to the units of y; use "
            f"{', '.join(s.__name__ for s in _LINEAR_SCALERS)}, or ask its regressor_ in its own "
            "units"
        )
    n_targets = getattr(transformer, "n_features_in_", 1)
    ends = transformer.inverse_transform(np.repeat([[-1.0], [1.0]], n_targets, axis=1))
    return _Units(ends.mean(axis=0), (ends[1] - ends[0]) / 2)


def _is_linear(transformer: Any) -> bool:
    if isinstance(transformer, sklearn_pipeline.Pipeline):
        return all(step == "passthrough" or _is_linear(step) for _, step in transformer.steps)
    if isinstance(transformer, FunctionTransformer):
        return transformer.func is None and transformer.inverse_func is None
    return isinstance(transformer, _LINEAR_SCALERS)


def _ask(estimator: Any, X: Any, method: str, **options: Any) -> tuple[Any, _Units | None]:
    leaf, X, units = see_through(estimator, X)
    if not hasattr(leaf, method) and hasattr(leaf, "predict_uncertainty"):
        raise TypeError(f"{method} is for regressors; {type(leaf).__name__} is a classifier")
    if not hasattr(leaf, method):
        name, outer = type(leaf).__name__, type(estimator).__name__
        inside = "" if leaf is estimator else f" (inside of {outer})"
        raise TypeError(
            f"skuq cannot ask {name}{inside} for {method}: it has no such method, and is none of "
            f"the objects that skuq sees through ({_SEEN_THROUGH}). Put a skuq estimator or a "
            "TemperatureScaler in its place."
        )
    return getattr(leaf, method)(X, **options), units


def predict_uncertainty(estimator: Any, X: Any, kind: str = "total", **options: Any) -> Any:
    """`predict_uncertainty` of a skuq estimator, wherever it sits in stock scikit-learn objects.

    Parameters
    ----------
    estimator : object
        A fitted skuq estimator, or a scikit-learn Pipeline, search, FrozenEstimator or
        TransformedTargetRegressor (with a linear transformer) around one.
    X : array-like of shape (n_samples, ...)
        As the outermost object takes it.
    kind : {"total", "aleatoric", "epistemic", "all"}, default="total"
    **options
        Further arguments of the estimator's method, such as ``measure``.

    Returns
    -------
    ndarray of shape (n_samples,) or (n_samples, n_targets), or Uncertainty of three
        Nats for a classifier's entropy; a regressor's variances in squared units of y.

    Raises
    ------
    TypeError
        If an object on the way cannot be seen through; it is named.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> import skuq
    >>> X, y = load_iris(return_X_y=True)
    >>> network = skuq.TorchClassifier(max_epochs=5, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), network).fit(X, y)
    >>> skuq.predict_uncertainty(pipeline, X, kind="epistemic").shape
    (150,)
    """
    result, units = _ask(estimator, X, "predict_uncertainty", kind=kind, **options)
    return result if units is None else units.variances(result)


def predict_interval(estimator: Any, X: Any, confidence_level: float = 0.9) -> np.ndarray:
    """`predict_interval` of a skuq regressor inside of stock scikit-learn objects.

    Parameters
    ----------
    estimator, X : as in `predict_uncertainty`
    confidence_level : float in (0, 1), default=0.9

    Returns
    -------
    ndarray of shape (n_samples, 2) or (n_samples, n_targets, 2), in y's units
    """
    result, units = _ask(estimator, X, "predict_interval", confidence_level=confidence_level)
    return result if units is None else units.levels(result)


def predict_quantiles(estimator: Any, X: Any, q: Any) -> np.ndarray:
    """`predict_quantiles` of a skuq regressor inside of stock scikit-learn objects.

    Parameters
    ----------
    estimator, X : as in `predict_uncertainty`
    q : float or array-like of shape (n_quantiles,), levels in (0, 1)

    Returns
    -------
    ndarray of shape (n_samples, n_quantiles) or (n_samples, n_targets, n_quantiles)
    """
    result, units = _ask(estimator, X, "predict_quantiles", q=q)
    return result if units is None else units.levels(result)


def predict_draws(estimator: Any, X: Any) -> np.ndarray:
    """`predict_draws` of a skuq estimator inside of stock scikit-learn objects.

    Parameters
    ----------
    estimator, X : as in `predict_uncertainty`

    Returns
    -------
    ndarray of shape (n_draws, n_samples, n_classes) or (n_draws, n_samples, n_targets)
    """
    result, units = _ask(estimator, X, "predict_draws")
    return result if units is None else units.values(result)


def _final_has(method: str) -> Any:
    def check(self: Pipeline) -> bool:
        step = self.steps[-1][1]
        inner = getattr(step, "estimator", None) or getattr(step, "regressor", None)
        return hasattr(step, method) or hasattr(inner, method)

    return check


class Pipeline(sklearn_pipeline.Pipeline):
    """scikit-learn's Pipeline that also forwards what a skuq estimator can say.

    Takes the parameters of `sklearn.pipeline.Pipeline`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skuq import TorchClassifier
    >>> from skuq.pipeline import make_pipeline
    >>> X, y = load_iris(return_X_y=True)
    >>> network = TorchClassifier(max_epochs=5, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), network).fit(X, y)
    >>> pipeline.predict_uncertainty(X).shape
    (150,)
    """

    @available_if(_final_has("predict_uncertainty"))
    def predict_uncertainty(self, X: Any, kind: str = "total", **options: Any) -> Any:
        """See `skuq.predict_uncertainty`."""
        return predict_uncertainty(self, X, kind=kind, **options)

    @available_if(_final_has("predict_interval"))
    def predict_interval(self, X: Any, confidence_level: float = 0.9) -> np.ndarray:
        """See `skuq.predict_interval`."""
        return predict_interval(self, X, confidence_level=confidence_level)

    @available_if(_final_has("predict_quantiles"))
    def predict_quantiles(self, X: Any, q: Any) -> np.ndarray:
        """See `skuq.predict_quantiles`."""
        return predict_quantiles(self, X, q)

    @available_if(_final_has("predict_draws"))
    def predict_draws(self, X: Any) -> np.ndarray:
        """See `skuq.predict_draws`."""
        return predict_draws(self, X)


def make_pipeline(*steps: Any, memory: Any = None, verbose: bool = False) -> Pipeline:
    """`sklearn.pipeline.make_pipeline`, giving a `skuq.pipeline.Pipeline`.

    Parameters
    ----------
    *steps : estimators
    memory, verbose : as in scikit-learn

    Returns
    -------
    Pipeline
    """
    named = sklearn_pipeline.make_pipeline(*steps).steps
    return Pipeline(named, memory=memory, verbose=verbose)

"""Estimators inside of scikit-learn's own meta-estimators, in the units of the outermost target."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import pipeline as sklearn_pipeline
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.distributions import Distribution

from skuq._distributions._derived import affine
from skuq._distributions._transformed import Transformed
from skuq._predict import Predictions, RegressorPredictions
from skuq._registry import find_draws
from skuq._sklearn_estimators import predictions_of
from skuq._utils._arrays import tensor_of
from skuq._utils._sklearn_compat import BaseSearchCV, is_transformed_target_regressor
from skuq._utils._stock import is_stock

__all__ = ["InUnits", "check_fitted", "predictions", "see_through"]


class InUnits(RegressorPredictions):
    """A regressor inside of a TransformedTargetRegressor, in units of the outermost target."""

    def __init__(self, inner: RegressorPredictions, transformers: list[Any]) -> None:
        self._inner = inner
        self._transformers = transformers  # the outermost first

    @property
    def _target_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self._inner._target_shape

    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        def in_units(predictive: Distribution, *rows: Tensor) -> Any:
            for transformer in reversed(self._transformers):
                predictive = _pushed_through(transformer, predictive)
            return reduction(predictive, *rows)

        return self._inner._reduce(X, in_units, *aligned)


def _pushed_through(transformer: Any, predictive: Distribution) -> Distribution:
    """Transform a distribution of targets by the inverse of a target transformer."""
    n_targets = predictive.batch_shape[-1]
    if (line := _line(transformer)) is not None:
        return affine(predictive, *(tensor_of(np.full(n_targets, part)) for part in line))

    def through(method: Callable[[np.ndarray], Any]) -> Callable[[Tensor], Tensor]:
        def mapped(values: Tensor) -> Tensor:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # `Transformed` checks for NaN
                result = np.asarray(method(values.reshape(-1, n_targets).cpu().numpy()), float)
            return tensor_of(result, copy=True).to(values.device).reshape(values.shape)

        return mapped

    return Transformed(
        predictive, through(transformer.inverse_transform), through(transformer.transform)
    )


def _line(transformer: Any) -> tuple[Any, Any] | None:
    """Return location and scale of a linear target transformer, y = location + scale · z.

    They come from attributes of the transformer, not from differences of transformed numbers.
    Return None for a transformer that is not known to be linear.
    """
    if transformer is None or isinstance(transformer, str):  # a step that changes nothing
        return 0.0, 1.0
    if is_stock(transformer, sklearn_pipeline.Pipeline):
        location, scale = 0.0, 1.0
        for _, step in reversed(transformer.steps):
            if (line := _line(step)) is None:
                return None
            location, scale = line[0] + line[1] * location, line[1] * scale
        return location, scale
    if is_stock(transformer, FunctionTransformer):
        identity = transformer.func is None and transformer.inverse_func is None
        return (0.0, 1.0) if identity else None
    if is_stock(transformer, StandardScaler):
        mean = transformer.mean_ if transformer.with_mean else 0.0
        return mean, transformer.scale_ if transformer.with_std else 1.0
    if is_stock(transformer, RobustScaler):
        centre = transformer.center_ if transformer.with_centering else 0.0
        return centre, transformer.scale_ if transformer.with_scaling else 1.0
    if is_stock(transformer, MinMaxScaler):
        return -transformer.min_ / transformer.scale_, 1 / transformer.scale_
    return (0.0, transformer.scale_) if is_stock(transformer, MaxAbsScaler) else None


def see_through(estimator: Any, X: Any) -> tuple[Any, Any, list[Any]]:
    """Find the estimator inside of scikit-learn's own meta-estimators, and X as it gets it.

    A subclass with its own way to predict counts as an estimator, since its meaning is unknown.

    Returns
    -------
    estimator : object
        The innermost estimator.
    X : array-like
        Rows, transformed by the steps of pipelines around it.
    transformers : list
        The fitted target transformers around it, the outermost first.
    """
    transformers: list[Any] = []
    while True:
        if is_stock(estimator, sklearn_pipeline.Pipeline):
            check_fitted(estimator.steps[-1][1], estimator)
            if len(estimator.steps) > 1:
                X = estimator[:-1].transform(X)
            estimator = estimator.steps[-1][1]
        elif is_stock(estimator, BaseSearchCV):
            check_is_fitted(estimator)
            if not hasattr(estimator, "best_estimator_"):
                raise AttributeError(
                    f"{type(estimator).__name__} was run with refit=False and holds no fitted "
                    "estimator; set refit=True or name a metric"
                )
            estimator = estimator.best_estimator_
        elif is_stock(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif is_transformed_target_regressor(estimator):
            check_is_fitted(estimator)
            transformers.append(estimator.transformer_)
            estimator = estimator.regressor_
        else:
            return estimator, X, transformers


def check_fitted(leaf: Any, outer: Any = None) -> None:
    """Refuse an estimator that is not fitted, or an outer one of which it is the last step.

    Estimators of registered packages need not show it in scikit-learn's way; they speak up
    themselves.
    """
    row = find_draws(leaf)
    if row is None or row.built_in:
        check_is_fitted(leaf if outer is None else outer)


def predictions(estimator: Any, X: Any, **options: Any) -> tuple[Predictions, Any]:
    """Return the object that predicts for any fitted scikit-learn object, and X as it takes it.

    Parameters
    ----------
    estimator, X : as in `see_through`
        The outermost object, and rows.
    **options
        As in `skuq._sklearn_estimators.predictions_of`, for estimators of other packages.
    """
    leaf, inner, transformers = see_through(estimator, X)
    check_fitted(leaf)
    found = predictions_of(leaf, **options)
    if transformers and isinstance(found, RegressorPredictions):
        return InUnits(found, transformers), inner
    return found, inner

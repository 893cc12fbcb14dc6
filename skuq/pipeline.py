"""Uncertainty through scikit-learn's own composition.

scikit-learn's meta-estimators forward `predict` and `predict_proba`, nothing else. The functions
here walk through the stock ones; `Pipeline` and `make_pipeline` are scikit-learn's with methods.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, overload

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
from skuq._reductions import Part
from skuq._sklearn_estimators import predictions_of
from skuq._utils._arrays import tensor_of
from skuq._utils._sklearn_compat import BaseSearchCV, available_if, is_transformed_target_regressor
from skuq._utils._stock import is_stock
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.uncertainty import Uncertainty

__all__ = [
    "Pipeline",
    "make_pipeline",
    "predict_draws",
    "predict_interval",
    "predict_quantiles",
    "predict_uncertainty",
]

_SEEN_THROUGH = "Pipeline, GridSearchCV and its kin, FrozenEstimator, TransformedTargetRegressor"


class _InUnits(RegressorPredictions):
    """A regressor inside of a TransformedTargetRegressor, in the units of the outermost target."""

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
    """The distribution of the inverse transform of what `predictive` describes."""
    n_targets = predictive.batch_shape[-1]
    if (line := _line(transformer)) is not None:
        return affine(predictive, *(tensor_of(np.full(n_targets, part)) for part in line))

    def through(method: Callable[[np.ndarray], Any]) -> Callable[[Tensor], Tensor]:
        def mapped(values: Tensor) -> Tensor:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # NaN is looked for where it matters
                result = np.asarray(method(values.reshape(-1, n_targets).cpu().numpy()), float)
            return tensor_of(result, copy=True).to(values.device).reshape(values.shape)

        return mapped

    return Transformed(
        predictive, through(transformer.inverse_transform), through(transformer.transform)
    )


def _line(transformer: Any) -> tuple[Any, Any] | None:
    """Of a target transformer that is known to be linear, y = location + scale · z, both.

    They are what the transformer itself holds, never differences of transformed numbers.
    """
    if transformer is None or isinstance(transformer, str):  # a step that is passed through
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
    """The estimator inside of stock scikit-learn objects, and X as it gets it.

    A subclass that predicts in a way of its own is not seen through: what it does is not known.

    Returns
    -------
    estimator : the innermost estimator
    X : transformed by the steps of pipelines around it
    transformers : fitted ones of the targets on the way, the outermost first
    """
    transformers: list[Any] = []
    while True:
        if is_stock(estimator, sklearn_pipeline.Pipeline):
            check_is_fitted(estimator)
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


def predictions(estimator: Any, X: Any, **options: Any) -> tuple[Predictions, Any]:
    """What answers for any fitted scikit-learn object, and X as it takes it.

    Parameters
    ----------
    estimator, X : as in `see_through`
    **options : as in `skuq._sklearn_estimators.predictions_of`, for what is not skuq's own
    """
    leaf, inner, transformers = see_through(estimator, X)
    check_is_fitted(leaf)
    found = predictions_of(leaf, **options)
    if transformers and isinstance(found, RegressorPredictions):
        return _InUnits(found, transformers), inner
    return found, inner


def _ask(estimator: Any, X: Any, method: str, **options: Any) -> Any:
    leaf, inner, transformers = see_through(estimator, X)
    if not hasattr(leaf, method) and hasattr(leaf, "predict_uncertainty"):
        raise TypeError(f"{method} is for regressors; {type(leaf).__name__} is a classifier")
    if not hasattr(leaf, method):
        name, outer = type(leaf).__name__, type(estimator).__name__
        inside = "" if leaf is estimator else f" (inside of {outer})"
        raise TypeError(
            f"skuq cannot ask {name}{inside} for {method}: it has no such method, and is none of "
            f"the objects that skuq sees through ({_SEEN_THROUGH}; subclasses only where "
            "predict and transform are not their own). Put a skuq estimator or a calibrator in "
            "its place."
        )
    if transformers:
        check_is_fitted(leaf)
        leaf = _InUnits(predictions_of(leaf), transformers)  # type: ignore[arg-type]
    return getattr(leaf, method)(inner, **options)


@overload
def predict_uncertainty(
    estimator: Any, X: MatrixLike, kind: Part = ..., **options: Any
) -> np.ndarray: ...


@overload
def predict_uncertainty(
    estimator: Any, X: MatrixLike, kind: Literal["all"], **options: Any
) -> Uncertainty: ...


@overload
def predict_uncertainty(
    estimator: Any, X: MatrixLike, kind: str, **options: Any
) -> np.ndarray | Uncertainty: ...


def predict_uncertainty(
    estimator: Any, X: MatrixLike, kind: str = "total", **options: Any
) -> np.ndarray | Uncertainty:
    """`predict_uncertainty` of a skuq estimator, wherever it sits in stock scikit-learn objects.

    Parameters
    ----------
    estimator : object
        A fitted skuq estimator, or a scikit-learn Pipeline, search, FrozenEstimator or
        TransformedTargetRegressor around one. Of a nonlinear target transformer, the quantiles of
        the draws are pushed through its inverse (the mean is then that of y, where scikit-learn's
        ``predict`` transforms the mean back).
    X : array-like of shape (n_samples, ...)
        As the outermost object takes it.
    kind : {"total", "aleatoric", "epistemic", "all"}, default="total"
        The part of the uncertainty to return; "all" returns an `Uncertainty` with all three.
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
    answer: np.ndarray | Uncertainty = _ask(
        estimator, X, "predict_uncertainty", kind=kind, **options
    )
    return answer


def predict_interval(estimator: Any, X: MatrixLike, confidence_level: float = 0.9) -> np.ndarray:
    """`predict_interval` of a skuq regressor inside of stock scikit-learn objects.

    Parameters
    ----------
    estimator : object
        A fitted skuq estimator, or scikit-learn objects around one, as in `predict_uncertainty`.
    X : array-like of shape (n_samples, ...)
        Rows, as the outermost object takes them.
    confidence_level : float in (0, 1), default=0.9
        Probability that the interval holds y.

    Returns
    -------
    ndarray of shape (n_samples, 2) or (n_samples, n_targets, 2)
        The lower and the upper end of each interval, in the units of y.
    """
    interval: np.ndarray = _ask(estimator, X, "predict_interval", confidence_level=confidence_level)
    return interval


def predict_quantiles(estimator: Any, X: MatrixLike, q: ArrayLike) -> np.ndarray:
    """`predict_quantiles` of a skuq regressor inside of stock scikit-learn objects.

    Parameters
    ----------
    estimator : object
        A fitted skuq estimator, or scikit-learn objects around one, as in `predict_uncertainty`.
    X : array-like of shape (n_samples, ...)
        Rows, as the outermost object takes them.
    q : float or array-like of shape (n_quantiles,)
        Levels of the quantiles, in (0, 1).

    Returns
    -------
    ndarray of shape (n_samples, n_quantiles) or (n_samples, n_targets, n_quantiles)
        The quantiles, in the units of y.
    """
    quantiles: np.ndarray = _ask(estimator, X, "predict_quantiles", q=q)
    return quantiles


def predict_draws(estimator: Any, X: MatrixLike) -> np.ndarray:
    """`predict_draws` of a skuq estimator inside of stock scikit-learn objects.

    Parameters
    ----------
    estimator : object
        A fitted skuq estimator, or scikit-learn objects around one, as in `predict_uncertainty`.
    X : array-like of shape (n_samples, ...)
        Rows, as the outermost object takes them.

    Returns
    -------
    ndarray of shape (n_draws, n_samples, n_classes) or (n_draws, n_samples, n_targets)
        The prediction of each draw.
    """
    draws: np.ndarray = _ask(estimator, X, "predict_draws")
    return draws


def _final_has(method: str) -> Callable[[Pipeline], bool]:
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

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: Part = ..., **options: Any
    ) -> np.ndarray: ...

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: Literal["all"], **options: Any
    ) -> Uncertainty: ...

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: str, **options: Any
    ) -> np.ndarray | Uncertainty: ...

    @available_if(_final_has("predict_uncertainty"))
    def predict_uncertainty(
        self, X: MatrixLike, kind: str = "total", **options: Any
    ) -> np.ndarray | Uncertainty:
        """See `skuq.predict_uncertainty`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the pipeline takes them.
        kind : {"total", "aleatoric", "epistemic", "all"}, default="total"
            The part of the uncertainty to return.
        **options
            Further arguments of the last step's method, such as ``measure``.
        """
        return predict_uncertainty(self, X, kind=kind, **options)

    @available_if(_final_has("predict_interval"))
    def predict_interval(self, X: MatrixLike, confidence_level: float = 0.9) -> np.ndarray:
        """See `skuq.predict_interval`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the pipeline takes them.
        confidence_level : float in (0, 1), default=0.9
            Probability that the interval holds y.
        """
        return predict_interval(self, X, confidence_level=confidence_level)

    @available_if(_final_has("predict_quantiles"))
    def predict_quantiles(self, X: MatrixLike, q: ArrayLike) -> np.ndarray:
        """See `skuq.predict_quantiles`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the pipeline takes them.
        q : float or array-like of shape (n_quantiles,)
            Levels of the quantiles, in (0, 1).
        """
        return predict_quantiles(self, X, q)

    @available_if(_final_has("predict_draws"))
    def predict_draws(self, X: MatrixLike) -> np.ndarray:
        """See `skuq.predict_draws`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the pipeline takes them.
        """
        return predict_draws(self, X)


def make_pipeline(*steps: Any, memory: Any = None, verbose: bool = False) -> Pipeline:
    """`sklearn.pipeline.make_pipeline`, giving a `skuq.pipeline.Pipeline`.

    Parameters
    ----------
    *steps : estimators
        The transformers in order, and the final estimator.
    memory : str, joblib.Memory or None, default=None
        Where to cache fitted transformers, as in scikit-learn.
    verbose : bool, default=False
        Whether to print the time of each step.

    Returns
    -------
    Pipeline
        The unfitted pipeline.
    """
    named = sklearn_pipeline.make_pipeline(*steps).steps
    return Pipeline(named, memory=memory, verbose=verbose)

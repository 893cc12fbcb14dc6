"""Uncertainty through scikit-learn's own composition, and of its ensembles.

scikit-learn's meta-estimators forward only `predict` and `predict_proba`. The functions here see
through scikit-learn's own meta-estimators, and take its ensembles as stacks of draws. `Pipeline`
and `make_pipeline` are scikit-learn's, with more methods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import numpy as np
from sklearn import pipeline as sklearn_pipeline
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

import skuq._ensembles  # noqa: F401  # fills the table of ensembles
from skuq._composition import InUnits, check_fitted, see_through
from skuq._predict import Predictions
from skuq._reductions import Part
from skuq._registry import register_draws
from skuq._sklearn_estimators import has_draws, predictions_of
from skuq._utils._sklearn_compat import (
    BaseSearchCV,
    available_if,
    is_transformed_target_regressor,
)
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
    "register_draws",
]

_SEEN_THROUGH = (
    "Pipeline, searches such as GridSearchCV, FrozenEstimator, TransformedTargetRegressor"
)


def _ask(estimator: Any, X: Any, method: str, **options: Any) -> Any:
    leaf, inner, transformers = see_through(estimator, X)
    if not hasattr(leaf, method) and has_draws(leaf):
        check_fitted(leaf)
        leaf = predictions_of(leaf)
    if not hasattr(leaf, method) and hasattr(leaf, "predict_uncertainty"):
        name = type(getattr(leaf, "estimator", leaf)).__name__
        raise TypeError(f"{method} needs a regressor, got {name}, a classifier")
    if not hasattr(leaf, method):
        name, outer = type(leaf).__name__, type(estimator).__name__
        inside = "" if leaf is estimator else f" (inside of {outer})"
        raise TypeError(
            f"skuq cannot call {method} of {name}{inside}: it has no such method, and is none of "
            f"the objects that skuq sees through ({_SEEN_THROUGH}; subclasses only if they inherit "
            "predict and transform), nor an ensemble of a class that skuq.register_draws knows. "
            "Put a skuq estimator, an ensemble or a calibrator in its place."
        )
    if transformers:
        if not isinstance(leaf, Predictions):
            check_is_fitted(leaf)
        leaf = InUnits(predictions_of(leaf), transformers)  # type: ignore[arg-type]
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
    """Measure the uncertainty of a skuq estimator or of any ensemble, also inside of others.

    Parameters
    ----------
    estimator : object
        A fitted skuq estimator; or a forest, bagging, soft voting, stacking, gradient boosting,
        or a regressor whose `predict` takes ``return_std=True``, of scikit-learn; or an estimator
        of a class that `skuq.register_draws` knows. Or a scikit-learn Pipeline, search,
        FrozenEstimator or TransformedTargetRegressor around one: `docs/ensembles.md`. The inverse
        of a nonlinear target transformer transforms the quantiles of the draws. So the mean is the
        mean of y, while ``predict`` of scikit-learn transforms the mean.
    X : array-like of shape (n_samples, ...)
        Rows, as the outermost object takes them.
    kind : {"total", "aleatoric", "epistemic", "all"}, default="total"
        The part of the uncertainty to return; "all" returns an `Uncertainty` with all three.
    **options
        Further arguments of the estimator's method, such as ``measure``.

    Returns
    -------
    ndarray of shape (n_samples,) or (n_samples, n_targets), or Uncertainty of three
        The uncertainty of each row: nats for the entropy of a classifier, variances in squared
        units of y for a regressor.

    Raises
    ------
    TypeError
        If skuq does not see through an object on the way; the message names it.

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
    """Predict intervals by a skuq regressor or any ensemble, also inside of others.

    Parameters
    ----------
    estimator : object
        A fitted skuq estimator or an ensemble, or scikit-learn objects around one, as in
        `predict_uncertainty`.
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
    """Predict quantiles by a skuq regressor or any ensemble, also inside of others.

    Parameters
    ----------
    estimator : object
        A fitted skuq estimator or an ensemble, or scikit-learn objects around one, as in
        `predict_uncertainty`.
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
    """Predict with every draw of a skuq estimator or ensemble, also inside of others.

    Parameters
    ----------
    estimator : object
        A fitted skuq estimator or an ensemble, or scikit-learn objects around one, as in
        `predict_uncertainty`.
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
    return lambda self: _has(self.steps[-1][1], method)


def _has(estimator: Any, method: str) -> bool:
    """Return whether an estimator, or the one that skuq finds inside of it, answers."""
    if hasattr(estimator, method) or _gives(estimator, method):
        return True
    inner = None
    if is_stock(estimator, sklearn_pipeline.Pipeline):
        inner = estimator.steps[-1][1]
    elif is_transformed_target_regressor(estimator):
        inner = estimator.regressor
    elif is_stock(estimator, FrozenEstimator, BaseSearchCV):
        inner = estimator.estimator
    elif getattr(estimator, "_answers_by_estimator", False):
        inner = estimator.estimator
    return inner is not None and _has(inner, method)


def _gives(estimator: Any, method: str) -> bool:
    """Return whether an ensemble of a registered class answers through skuq."""
    regresses = not hasattr(estimator, "predict_proba")
    needs_targets = method in ("predict_interval", "predict_quantiles")
    return has_draws(estimator) and (regresses or not needs_targets)


class Pipeline(sklearn_pipeline.Pipeline):
    """Pipeline of scikit-learn, which also forwards the methods of skuq estimators.

    It takes the parameters of `sklearn.pipeline.Pipeline`.

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
        """Measure the uncertainty of each row; see `skuq.predict_uncertainty`.

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
        """Predict intervals; see `skuq.predict_interval`.

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
        """Predict quantiles; see `skuq.predict_quantiles`.

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
        """Predict with every draw; see `skuq.predict_draws`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the pipeline takes them.
        """
        return predict_draws(self, X)

    @available_if(_final_has("predict_novelty"))
    def predict_novelty(self, X: MatrixLike) -> np.ndarray:
        """Compute how strange each row is; see `skuq.novelty.NoveltyDetector.predict_novelty`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the pipeline takes them.
        """
        novelty: np.ndarray = _ask(self, X, "predict_novelty")
        return novelty

    @available_if(_final_has("p_values"))
    def p_values(self, X: MatrixLike) -> np.ndarray:
        """Compute conformal p-values; see `skuq.novelty.NoveltyDetector.p_values`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the pipeline takes them.
        """
        p_values: np.ndarray = _ask(self, X, "p_values")
        return p_values


def make_pipeline(*steps: Any, memory: Any = None, verbose: bool = False) -> Pipeline:
    """Make a `skuq.pipeline.Pipeline`, like `sklearn.pipeline.make_pipeline`.

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

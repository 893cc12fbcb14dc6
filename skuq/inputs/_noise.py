"""Noise in the inputs as a scikit-learn estimator."""

from __future__ import annotations

import copy
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self, overload

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, is_classifier, is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from skuq._data._checks import given_weights, shape_of
from skuq._delegated import Delegated
from skuq._meta import Around, fit_clone, learns_several_labels, segmenter_in
from skuq._reductions import Part
from skuq._utils._messages import name_of, unfrozen
from skuq._utils._progress import Task, watchers
from skuq._utils._random import root_seed
from skuq._utils._sklearn_compat import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    with_callbacks,
)
from skuq._utils._typing import ArrayLike, MatrixLike, RandomState
from skuq.inputs._learning import ScaleLearner
from skuq.inputs._linear import LinearisedTargets
from skuq.inputs._parts import InputUncertainty
from skuq.inputs._samples import sampled_answers
from skuq.inputs._scale import given_scale, refuse_inputs, without_codes
from skuq.uncertainty import Uncertainty

__all__ = ["InputNoise"]


class InputNoise(Delegated, Around, CallbackSupportMixin, MetaEstimatorMixin, BaseEstimator):
    """Predicts from inputs that were measured with an error, and adds what the error brings.

    A network is certain about f(x), but the sensor gave x + e with e ~ N(0, Σ). To first order, a
    regressor's prediction then has a third part of variance [1]_,

        total = noise + input + epistemic,    input = mean over draws of J Σ Jᵀ,

    where J is the slope of the draw's mean in x. It is exact for linear functions and close for
    errors that are small beside the curves of the function. For large errors, and for classifiers,
    Monte Carlo averages the predictions for moved copies of each row. Intervals, quantiles and
    draws follow.

    Parameters
    ----------
    estimator : classifier or regressor
        A skuq estimator, or a calibrator, Pipeline or search around one. The error is that of the
        rows that it takes. Pass a fitted estimator as ``FrozenEstimator(estimator)``; then `fit`
        does not fit it again.
    scale : "fit", float or array-like, default="fit"
        How large the error is, in the units of X: one standard deviation for all features, one for
        each, of shape (n_features,), or the covariance matrix Σ, of shape (n_features, n_features).
        A mapping, or a Series or DataFrame of pandas, with the names of X's columns, goes by name.
        Categorical columns of a data frame have no error.
        "fit" learns a standard deviation for each feature, and a factor of the noise that the
        regressor has found, by the likelihood of rows that trained nothing. This needs the linear
        method and normal distributions, such as those of `Gaussian`.
    method : {"auto", "linear", "monte_carlo"}, default="auto"
        "linear" uses slopes, "monte_carlo" moved copies of the rows. "auto" is linear for a
        regressor.
    n_samples : int ≥ 2, default=64
        Number of moved copies, in pairs x + e and x − e, beside the row itself. From twice the
        number of features on, the copies have exactly the covariance Σ.
    cv : int, cross-validation generator or iterable, default=5
        Folds for ``scale="fit"``, if the estimator is not frozen. A number makes that many shuffled
        folds, which do not separate rows of one group.
    random_state : int, RandomState instance or None, default=0
        Seed of the copies and of the shuffled folds. All rows move by the same numbers, so that a
        prediction depends only on its row.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.
    scale_ : ndarray of the shape of a row, or of shape (n_features, n_features)
        Standard deviations of the error, or its covariance matrix.
    noise_factor_ : float
        Factor of the variance of the regressor's own noise; 1 unless ``scale="fit"``.
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, in the order of the columns; only of a classifier.
    n_features_in_ : int
        Number of features that the estimator was fitted on.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of these features; only if all are strings.

    Raises
    ------
    TypeError
        If the slope of the estimator is not known, as for forests; Monte Carlo needs none.
    ValueError
        In `fit`, if `scale` is no error of such rows, or cannot be learnt for this estimator.

    Notes
    -----
    *What the network already knows.* If the training rows have the same error, a network that
    learns its noise has found what the error does to y, and its σ²(x) contains it: then a given
    `scale` counts it twice. Give a scale if the training rows are exact, or more exact than those
    to predict, or if only one noise level is learnt for all rows
    (``Gaussian(heteroscedastic=False)``). ``scale="fit"`` lets the likelihood decide between noise
    and input by the factor `noise_factor_`. They differ only where slopes vary.

    *The mean.* The linear method leaves it unchanged. Monte Carlo averages over the error, which
    flattens curves.

    *Cost.* The linear method takes a backward pass for each draw and target, Monte Carlo a
    prediction for each copy.

    References
    ----------
    .. [1] W. A. Wright, G. Ramage, D. Cornford, I. T. Nabney, "Neural Network Modelling with Input
       Uncertainty: Theory and Application", Journal of VLSI Signal Processing 26, 2000, pp.
       169-188, eprints.aston.ac.uk/10027.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skuq import TorchRegressor
    >>> from skuq.inputs import InputNoise
    >>> X, y = load_diabetes(return_X_y=True)
    >>> network = TorchRegressor(lr=0.01, max_epochs=20, random_state=0)
    >>> noisy = InputNoise(network, scale=0.01).fit(X, y)
    >>> parts = noisy.predict_uncertainty(X, kind="nested")
    >>> bool((parts.input > 0).all())
    True
    """

    _reads_datasets: ClassVar[bool] = False
    verbose: ClassVar[int] = 0  # for the watchers of `fit`
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "scale": [StrOptions({"fit"}), Interval(Real, 0, None, closed="left"), "array-like"],
        "method": [StrOptions({"auto", "linear", "monte_carlo"})],
        "n_samples": [Interval(Integral, 2, None, closed="left")],
        "cv": ["cv_object"],
        "random_state": ["random_state"],
    }

    scale_: np.ndarray
    noise_factor_: float

    def __init__(
        self,
        estimator: Any,
        *,
        scale: Any = "fit",
        method: str = "auto",
        n_samples: int = 64,
        cv: Any = 5,
        random_state: RandomState = 0,
    ) -> None:
        self.estimator = estimator
        self.scale = scale
        self.method = method
        self.n_samples = n_samples
        self.cv = cv
        self.random_state = random_state

    # -- fit -------------------------------------------------------------------------------------

    @with_callbacks
    def fit(
        self,
        X: MatrixLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit the estimator unless it is frozen, and learn how noisy the inputs are if asked to.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        y : array-like of shape (n_samples,), or (n_samples, n_targets)
            True labels or targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows. The estimator gets them, too; in a Pipeline the last step does.
        groups : array-like of shape (n_samples,), default=None
            The group of each row. If `cv` is a number, or a splitter that knows groups, folds do
            not separate rows of one group.

        Returns
        -------
        self : InputNoise
            The fitted estimator itself.

        Warns
        -----
        UserWarning
            If the scale is learnt on many rows that a frozen estimator was trained on.
        """
        X, y = self._check_call_of_fit(X, y)
        self._check_estimator()
        refuse_inputs(X, type(self).__name__)
        learns = isinstance(self.scale, str)
        if not learns:
            scale = given_scale(self.scale, X)
        if learns and (is_classifier(self.estimator) or self.method == "monte_carlo"):
            raise ValueError(
                f"scale='fit' needs a regressor and its slopes, got {name_of(self.estimator)} and "
                f"method={self.method!r}: give the standard deviations of the inputs"
            )
        several = is_classifier(self.estimator) and learns_several_labels(self.estimator, y)
        self._root = root_seed(self.random_state)
        if learns:
            learner = ScaleLearner(self.estimator, cv=self.cv, random_state=self.random_state)
            fitted = learner.fit(X, y, sample_weight, groups).estimator_
            scale, factor = learner.scale_.reshape(shape_of(X)[1:]), learner.noise_factor_
        else:
            fitted, factor = self._fitted(X, y, sample_weight), 1.0
            scale = without_codes(scale, self.scale, fitted, X)
        self._multilabel = several
        if is_classifier(self.estimator):
            self.classes_ = np.arange(shape_of(y)[1]) if several else fitted.classes_
        self._is_covariance = scale.shape != shape_of(X)[1:]
        self.scale_, self.noise_factor_, self.estimator_ = scale, factor, fitted
        return self

    def _fitted(self, X: Any, y: Any, sample_weight: Any) -> Any:
        if isinstance(self.estimator, FrozenEstimator):
            check_is_fitted(unfrozen(self.estimator))
            return self.estimator
        weight = given_weights(sample_weight, X)
        with Task("fit", watchers(self, X, y, weight)) as task:
            fitted = fit_clone(task, self.estimator, X, y, weight)
            task.end(dict)
        return fitted

    def _check_estimator(self) -> None:
        name, inner = type(self).__name__, name_of(self.estimator)
        if not (is_classifier(self.estimator) or is_regressor(self.estimator)):
            raise TypeError(f"{name} needs a classifier or a regressor, got {inner}")
        if is_classifier(self.estimator) and self.method == "linear":
            raise ValueError(
                f"method='linear' is for regressors, got {inner}; use method='monte_carlo'"
            )
        leaf = getattr(unfrozen(self.estimator), "_is_dense", False)
        if leaf or segmenter_in(unfrozen(self.estimator)) is not None:
            raise TypeError(
                f"{name} is for one answer for each row, got {inner}, which answers for each "
                "pixel: use TestTimeAugmentation with the view GaussianNoise"
            )

    # -- predict ---------------------------------------------------------------------------------

    def _answers(self) -> Any:
        check_is_fitted(self)
        scale = self.scale_ if self._is_covariance else self.scale_.reshape(-1)
        if is_classifier(self.estimator) or self.method == "monte_carlo":
            return sampled_answers(
                self.estimator_, scale, int(self.n_samples), self._root, self._multilabel
            )
        return LinearisedTargets(self.estimator_, scale, self.noise_factor_)

    @overload  # type: ignore[override]  # it has a further kind
    def predict_uncertainty(
        self, X: MatrixLike, kind: Part = ..., **options: Any
    ) -> np.ndarray: ...

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: Literal["all"], **options: Any
    ) -> Uncertainty: ...

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: Literal["nested"], **options: Any
    ) -> InputUncertainty: ...

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: str, **options: Any
    ) -> np.ndarray | Uncertainty | InputUncertainty: ...

    def predict_uncertainty(
        self, X: MatrixLike, kind: str = "total", **options: Any
    ) -> np.ndarray | Uncertainty | InputUncertainty:
        """Measure how uncertain the prediction is, that from noise in the inputs included.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        kind : {"total", "aleatoric", "epistemic", "all", "nested"}, default="total"
            The part of the uncertainty to return. The aleatoric part is the noise and what comes
            from the inputs. "all" returns an `Uncertainty`, "nested" an `InputUncertainty` with
            both aleatoric parts.
        **options
            For a classifier ``measure``, as in `TorchClassifier.predict_uncertainty`.

        Returns
        -------
        ndarray of shape (n_samples,) or of the shape of y, Uncertainty or InputUncertainty
            Nats for the entropy of classes; a regressor's variances in squared units of y.
        """
        answer: np.ndarray | Uncertainty | InputUncertainty
        answer = self._answers().predict_uncertainty(X, kind, **options)
        return answer

    def score(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Compute the accuracy of a classifier, or R² of a regressor.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            True labels or targets.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts; None weighs all equally.

        Returns
        -------
        float
            At most 1; greater is better.
        """
        metric = accuracy_score if is_classifier(self.estimator) else r2_score
        return float(metric(y, self.predict(X), sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags = copy.deepcopy(inner.classifier_tags)
        tags.regressor_tags = copy.deepcopy(inner.regressor_tags)
        tags.target_tags.required = True
        return tags

"""Calibration: probabilities that mean what they say."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    clone,
    is_classifier,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import check_cv
from sklearn.utils import get_tags, indexable
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, has_fit_parameter
from torch import Tensor
from torch.distributions import Categorical

from skuq._predict import ClassifierPredictions
from skuq._sklearn_compat import (
    StrOptions,
    _check_sample_weight,
    _num_samples,
    _safe_indexing,
    validate_parameter_constraints,
)
from skuq.pipeline import see_through

__all__ = ["TemperatureScaler", "fit_temperature"]

_COLDEST, _HOTTEST = 0.01, 100.0
_BLOCK_NUMBERS = 2**22  # logits that one pass holds in float64
_SURVEY_ROWS = 2000
_NEVER = 1e6  # a class that a fold has not seen lies so far below the best logit


# ---------------------------------------------------------------------------------------------
# Arrays


def fit_temperature(logits: Any, y: Any, sample_weight: Any = None) -> float:
    """The temperature T that minimises the negative log-likelihood of softmax(logits / T) [1]_.

    With several draws, T divides the logits of every draw, and the likelihood is that of the mean
    of their probabilities. One draw: convex in 1/T, solved by Newton's method to a gradient of
    1e-10. Several: not convex, so a survey of [0.01, 100] and a bounded search from its best
    places. Never worse than T = 1.

    Parameters
    ----------
    logits : array or Tensor of shape (n_samples, n_classes) or (n_draws, n_samples, n_classes)
        Logits or log-probabilities. A tensor stays on its device; sums are in float64.
    y : array or Tensor of shape (n_samples,)
        Indices of the classes, from 0 to n_classes − 1.
    sample_weight : array-like of shape (n_samples,), default=None

    Returns
    -------
    float
        T in [0.01, 100]: above 1 softens, below 1 sharpens.

    Raises
    ------
    ValueError
        If logits are not finite, labels are no indices or of a single class, or shapes differ.

    Warns
    -----
    ConvergenceWarning
        If T is at a bound, as on perfectly separable data, or the likelihood does not depend on T.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks",
       ICML 2017, arXiv:1706.04599.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.calibration import fit_temperature
    >>> logits = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    >>> round(fit_temperature(logits, [0, 0, 1, 1]), 2)      # right in 3 of 4: softer than it says
    3.64
    """
    draws, labels, weight = _check_arrays(logits, y, sample_weight)
    search = _newton if len(draws) == 1 else _survey_and_search
    temperature = search(draws, labels, weight)
    if temperature in (_COLDEST, _HOTTEST):
        reason = "every row is classified right" if temperature == _COLDEST else "logits mislead"
        warnings.warn(
            f"the temperature is at its bound, T = {temperature}: {reason} in the calibration "
            "data, so the likelihood has no optimum inside. Use more or other calibration data.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return temperature


def _check_arrays(logits: Any, y: Any, sample_weight: Any) -> tuple[Tensor, Tensor, Tensor]:
    draws = logits if isinstance(logits, Tensor) else torch.tensor(np.asarray(logits))
    draws = draws.detach()
    if draws.ndim not in (2, 3) or 0 in draws.shape or draws.shape[-1] < 2:
        raise ValueError(
            "logits must have shape (n_samples, n_classes) or (n_draws, n_samples, n_classes) "
            f"with at least 2 classes, got {tuple(draws.shape)}"
        )
    if not bool(torch.isfinite(draws).all()):
        raise ValueError("logits contain NaN or infinity")
    draws = draws if draws.ndim == 3 else draws[None]
    labels = torch.as_tensor(np.asarray(y) if not isinstance(y, Tensor) else y)
    labels = labels.to(draws.device)
    n_samples, n_classes = draws.shape[1:]
    if tuple(labels.shape) != (n_samples,):
        raise ValueError(
            f"y must have shape ({n_samples},) as logits do, got {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        labels = labels.long()
    if int(labels.min()) < 0 or int(labels.max()) >= n_classes:
        raise ValueError(
            f"y must hold indices of the classes from 0 to {n_classes - 1}, got values from "
            f"{int(labels.min())} to {int(labels.max())}; encode labels first"
        )
    if int(labels.min()) == int(labels.max()):
        raise ValueError("y holds a single class: the temperature needs at least two")
    if sample_weight is None:
        weight = torch.ones(n_samples, dtype=torch.float64, device=draws.device)
    else:
        weight = torch.as_tensor(sample_weight, dtype=torch.float64, device=draws.device)
        valid = weight.shape == labels.shape and bool((weight >= 0).all()) and weight.sum() > 0
        if not valid or not bool(torch.isfinite(weight).all()):
            raise ValueError(f"sample_weight must be {n_samples} finite numbers >= 0, not all zero")
    return draws, labels.long(), weight / weight.sum()


def _blocks(draws: Tensor, labels: Tensor, weight: Tensor) -> Iterator[tuple]:
    n_draws, n_samples, n_classes = draws.shape
    step = max(1, _BLOCK_NUMBERS // (n_draws * n_classes))
    for start in range(0, n_samples, step):
        rows = slice(start, start + step)
        yield draws[:, rows].double(), labels[rows], weight[rows]


def _loss(draws: Tensor, labels: Tensor, weight: Tensor, temperature: float) -> float:
    """−log mean_m softmax(z_m / T)_y, averaged over rows."""
    total = torch.zeros((), dtype=torch.float64, device=draws.device)
    for z, y, w in _blocks(draws, labels, weight):
        log_proba = (z / temperature).log_softmax(-1)
        of_label = log_proba.gather(-1, y.expand(len(z), -1)[..., None])[..., 0]
        total -= (w * (of_label.logsumexp(0) - np.log(len(z)))).sum()
    return float(total)


def _slope(draws: Tensor, labels: Tensor, weight: Tensor, beta: float) -> tuple[float, float]:
    """First and second derivative of the loss of one draw in β = 1/T."""
    first = torch.zeros((), dtype=torch.float64, device=draws.device)
    second = torch.zeros_like(first)
    for stack, y, w in _blocks(draws, labels, weight):
        z = stack[0] - stack[0].gather(1, y[:, None])  # relative to the label's
        proba = (beta * z).softmax(1)
        mean = (proba * z).sum(1)
        first += (w * mean).sum()
        second += (w * (proba * (z - mean[:, None]).square()).sum(1)).sum()
    return float(first), float(second)


def _newton(draws: Tensor, labels: Tensor, weight: Tensor) -> float:
    """The root in β = 1/T of the slope, which increases; steps that leave the bracket bisect."""
    low, high = 1 / _HOTTEST, 1 / _COLDEST
    at_low, at_high = (_slope(draws, labels, weight, beta) for beta in (low, high))
    if at_low[0] == at_high[0]:
        warnings.warn(
            "the likelihood does not depend on the temperature (constant logits?); T = 1 is kept",
            ConvergenceWarning,
            stacklevel=3,
        )
        return 1.0
    if at_high[0] <= 0:
        return _COLDEST
    if at_low[0] >= 0:
        return _HOTTEST
    beta = 1.0
    for _ in range(200):
        slope, curvature = _slope(draws, labels, weight, beta)
        if abs(slope) <= 1e-10 or high - low <= 1e-15 * high:
            break
        low, high = (beta, high) if slope < 0 else (low, beta)
        newton = beta - slope / curvature if curvature > 0 else np.inf
        beta = newton if low < newton < high else float(np.sqrt(low * high))
    return 1 / beta


def _survey_and_search(draws: Tensor, labels: Tensor, weight: Tensor) -> float:
    """The best of bounded searches in log T, which begin where a survey of some rows is lowest."""
    stride = max(1, draws.shape[1] // _SURVEY_ROWS)
    some = draws[:, ::stride], labels[::stride], weight[::stride]
    places = np.linspace(np.log(_COLDEST), np.log(_HOTTEST), 41)
    survey = np.array([_loss(*some, float(np.exp(place))) for place in places])
    padded = np.pad(survey, 1, constant_values=np.inf)
    minima = np.flatnonzero((survey <= padded[:-2]) & (survey <= padded[2:]))
    candidates = [(_loss(draws, labels, weight, t), t) for t in (1.0, _COLDEST, _HOTTEST)]
    for index in minima[np.argsort(survey[minima], kind="stable")][:3]:
        bounds = places[max(index - 1, 0)], places[min(index + 1, len(places) - 1)]
        found = minimize_scalar(
            lambda place: _loss(draws, labels, weight, float(np.exp(place))),
            bounds=bounds,
            method="bounded",
            options={"xatol": 1e-7},
        )
        candidates.append((float(found.fun), float(np.exp(found.x))))
    return min(candidates, key=lambda candidate: candidate[0])[1]


# ---------------------------------------------------------------------------------------------
# The meta-estimator


class TemperatureScaler(ClassifierPredictions, ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Calibrates a classifier by one temperature for the logits of every draw [1]_.

    The logits of each draw are divided by T before probabilities are averaged, so every answer is
    calibrated: `predict_proba`, `predict_uncertainty`, `predict_draws`, `decision_function`. With
    one draw the predicted class never changes; with several it can, and `predict` is the most
    probable class of the calibrated mean.

    Parameters
    ----------
    estimator : classifier
        A skuq classifier, a Pipeline or a search around one, or any scikit-learn classifier with
        `decision_function` or `predict_proba` (then there is one draw). A fitted one that must
        not be fitted again comes as ``FrozenEstimator(estimator)``, and all of X, y calibrates;
        those must be rows that it was not fitted on.
    cv : int, cross-validation generator or iterable, default=5
        Otherwise logits are cross-fitted: T is fitted on the predictions of folds that were left
        out, and the estimator is fitted anew on everything. A search inside is run in each fold.
    objective : {"nll"}, default="nll"
        What T minimises: the negative log-likelihood.

    Attributes
    ----------
    temperature_ : float
        T: above 1 softens, below 1 sharpens.
    estimator_ : classifier
        The fitted estimator.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_, feature_names_in_ : those of the estimator

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks",
       ICML 2017, arXiv:1706.04599.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> from skuq.calibration import TemperatureScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> network = TorchClassifier(lr=0.01, max_epochs=20, random_state=0)
    >>> scaler = TemperatureScaler(network, cv=3).fit(X, y)
    >>> scaler.predict_proba(X).shape
    (150, 3)
    """

    _parameter_constraints: ClassVar[dict] = {
        "cv": ["cv_object"],
        "objective": [StrOptions({"nll"})],
    }

    def __init__(self, estimator: Any, cv: Any = 5, objective: str = "nll") -> None:
        self.estimator = estimator
        self.cv = cv
        self.objective = objective

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TemperatureScaler:
        """Fit the temperature, and the estimator unless it is frozen.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,)
            Labels of any type.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : TemperatureScaler
        """
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), type(self).__name__
        )
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        if not is_classifier(self.estimator):
            raise TypeError(
                f"TemperatureScaler needs a classifier, got {type(self.estimator).__name__}"
            )
        check_classification_targets(y)
        X, y = indexable(X, column_or_1d(y, warn=True))
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        if isinstance(self.estimator, FrozenEstimator):
            check_is_fitted(self.estimator)
            fitted, classes = self.estimator, self.estimator.classes_
            logits, known = _draw_logits(fitted, X), np.ones(len(y), dtype=bool)
        else:
            fitted = self._fit_inner(X, y, sample_weight)
            classes = fitted.classes_
            logits, known = self._cross_fitted_logits(X, y, sample_weight, classes)
        index = np.searchsorted(classes, y).clip(max=len(classes) - 1)
        if not np.array_equal(classes[index], y):
            raise ValueError(
                f"y contains labels {np.setdiff1d(y, classes)[:5]} that the estimator was not "
                f"fitted on; its classes are {classes}"
            )
        weight = None if sample_weight is None else sample_weight[known]
        self.temperature_ = fit_temperature(logits[:, known], index[known], weight)
        self.estimator_, self.classes_ = fitted, classes
        return self

    def _fit_inner(self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None) -> Any:
        estimator = clone(self.estimator)
        if sample_weight is None:
            return estimator.fit(X, y)
        if not has_fit_parameter(estimator, "sample_weight"):
            raise ValueError(
                f"sample_weight was given, but {type(estimator).__name__}.fit does not take it "
                "(put TemperatureScaler inside of a Pipeline, around its last step)"
            )
        return estimator.fit(X, y, sample_weight=sample_weight)

    def _cross_fitted_logits(
        self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None, classes: np.ndarray
    ) -> tuple[Tensor, np.ndarray]:
        """Logits of left-out rows, and which rows' class their fold had seen."""
        logits, known = None, np.zeros(len(y), dtype=bool)
        for train, test in check_cv(self.cv, y, classifier=True).split(X, y):
            weight = None if sample_weight is None else sample_weight[train]
            fold = self._fit_inner(_safe_indexing(X, train), y[train], weight)
            seen = _draw_logits(fold, _safe_indexing(X, test))
            if logits is None:
                logits = torch.zeros(len(seen), len(y), len(classes), dtype=torch.float64)
            below = seen.amax(-1, keepdim=True) - _NEVER
            part = below.expand(-1, -1, len(classes)).clone()
            part[..., np.searchsorted(classes, fold.classes_)] = seen
            logits[:, test] = part
            known[test] = np.isin(y[test], fold.classes_)
        assert logits is not None
        return logits, known

    def _reduce(self, X: Any, reduction: Callable[[Any], Any]) -> Any:
        check_is_fitted(self)
        temperature = self.temperature_

        def tempered(predictive: Categorical) -> Any:
            logits = predictive.logits / temperature
            return reduction(Categorical(logits=logits, validate_args=False))

        return _reduce_draws(self.estimator_, X, tempered)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "temperature_")

    @property
    def n_features_in_(self) -> int:
        """Number of features that the estimator was fitted on."""
        return self._fitted_estimator("n_features_in_").n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the features that the estimator was fitted on."""
        return self._fitted_estimator("feature_names_in_").feature_names_in_

    def _fitted_estimator(self, attribute: str) -> Any:
        if not hasattr(self, "estimator_"):
            raise AttributeError(f"{type(self).__name__} has no {attribute} before fit")
        return self.estimator_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = get_tags(self.estimator).input_tags.sparse
        return tags


def _reduce_draws(estimator: Any, X: Any, reduction: Callable[[Any], Any]) -> Any:
    """Reduce the predictive distributions of a skuq classifier, or of any other as one draw."""
    leaf, inner, _ = see_through(estimator, X)
    if isinstance(leaf, ClassifierPredictions):
        return leaf._reduce(inner, reduction)
    reduced = reduction(Categorical(logits=_scores(estimator, X)[None], validate_args=False))
    if isinstance(reduced, Tensor):
        return reduced.numpy()
    return tuple(part.numpy() for part in reduced)


def _scores(estimator: Any, X: Any) -> Tensor:
    """Logits of any scikit-learn classifier, of shape (n_samples, n_classes)."""
    n_classes = len(estimator.classes_)
    if hasattr(estimator, "decision_function"):
        scores = np.asarray(estimator.decision_function(X), dtype=float)
        if scores.ndim == 1 and n_classes == 2:
            return torch.from_numpy(np.column_stack([np.zeros_like(scores), scores]))
        if scores.shape == (_num_samples(X), n_classes):
            return torch.from_numpy(scores)
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(
            f"{type(estimator).__name__} has neither predict_proba nor a decision_function with "
            "one score per class; TemperatureScaler needs one of them"
        )
    proba = np.asarray(estimator.predict_proba(X), dtype=float)
    return torch.from_numpy(np.log(np.clip(proba, np.finfo(float).eps, None)))


def _draw_logits(estimator: Any, X: Any) -> Tensor:
    """Logits of all draws, of shape (n_draws, n_samples, n_classes)."""
    rows_first = _reduce_draws(estimator, X, lambda predictive: predictive.logits.movedim(0, 1))
    return torch.from_numpy(np.moveaxis(rows_first, 1, 0))

"""Scorers: callables ``scorer(estimator, X, y, sample_weight=None)``, greater is better.

If less is better for a metric, its sign is turned: −ECE, 0 at best. Scorers work wherever
scikit-learn takes ``scoring=``, on skuq's estimators, on stock Pipelines,
TransformedTargetRegressor and searches around them, and on scikit-learn's own classifiers and
regressors with ``predict(X, return_std=True)``, as one draw. For a skuq classifier of several
labels at once, each label of a row is a sample; for estimators of maps, each pixel that counts.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.metrics import get_scorer
from torch import Tensor
from torch.distributions import Distribution

from skuq._composition import predictions
from skuq._distributions._mixture import mixture_crps, mixture_log_prob, mixture_quantile
from skuq._predict import ClassifierPredictions, Predictions
from skuq._reductions import class_uncertainty, of_targets, target_uncertainty
from skuq._utils._messages import checked_level
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.metrics._checks import check_option
from skuq.metrics._targets import (
    counted_pixels,
    encoded_targets,
    is_multilabel,
    label_values,
    like_target,
    with_known_targets,
)

__all__ = [
    "UncertaintyScorer",
    "UncertaintyScorers",
    "make_uncertainty_scorer",
    "uncertainty_scorers",
]


# ---------------------------------------------------------------------------------------------
# Inputs of metrics: each reduces the predictive distributions to tensors of n_rows rows, and makes
# the arguments of the metric from the arrays that come back.


class _MetricInput:
    tasks: tuple[str, ...] = ("classification", "regression")

    def __init__(self, asked: Predictions, options: dict[str, Any]) -> None:
        self.asked = asked
        self.classifies = isinstance(asked, ClassifierPredictions)
        self.options = options
        task = "classification" if self.classifies else "regression"
        if task not in self.tasks:
            raise TypeError(f"this scorer is for {self.tasks[0]}, got a model for {task}")

    def reduce(self, predictive: Distribution, y: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError(f"{type(self).__name__} does not implement reduce")

    def arguments(self, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return arrays

    def keywords(self) -> dict[str, Any]:
        """Return arguments for the parameters of these names, if the metric has them."""
        return {"labels": label_values(self.asked)} if self.classifies else {}


class _Proba(_MetricInput):
    tasks = ("classification",)

    def reduce(self, predictive: Any, y: Tensor) -> tuple[Tensor, ...]:
        return (predictive.mean_probs,)


class _Prediction(_MetricInput):
    def reduce(self, predictive: Any, y: Tensor) -> tuple[Tensor, ...]:
        return (predictive.mean_probs.argmax(-1) if self.classifies else predictive.mean.mean(0),)

    def arguments(self, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        if self.classifies:
            return (label_values(self.asked)[arrays[0]],)
        return (like_target(self.asked, arrays[0]),)


class _Draws(_MetricInput):
    def reduce(self, predictive: Any, y: Tensor) -> tuple[Tensor, ...]:
        if self.classifies:
            return (predictive.probs.movedim(0, -2),)
        return (predictive.mean.movedim(0, 1),)

    def arguments(self, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return (np.moveaxis(arrays[0], 1, 0),)


class _Uncertainty(_MetricInput):
    def reduce(self, predictive: Any, y: Tensor) -> tuple[Tensor, ...]:
        if self.classifies:
            chosen = predictive.mean_probs.argmax(-1)
            return chosen, class_uncertainty(**self.options)(predictive)
        return predictive.mean.mean(0), target_uncertainty(**self.options)(predictive)

    def arguments(self, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        if self.classifies:
            return label_values(self.asked)[arrays[0]], arrays[1]
        return tuple(like_target(self.asked, array) for array in arrays)

    def keywords(self) -> dict[str, Any]:
        return {"loss": "zero_one" if self.classifies else "squared"}


class _Interval(_MetricInput):
    tasks = ("regression",)

    def reduce(self, predictive: Any, y: Tensor) -> tuple[Tensor, ...]:
        tail = (1 - self.options.get("confidence_level", 0.9)) / 2
        ends = [mixture_quantile(predictive, level) for level in (tail, 1 - tail)]
        return (torch.stack(ends, dim=-1),)

    def arguments(self, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return (like_target(self.asked, arrays[0]),)

    def keywords(self) -> dict[str, Any]:
        return {"confidence_level": self.options.get("confidence_level", 0.9)}


class _LogLikelihood(_MetricInput):
    def reduce(self, predictive: Any, y: Tensor) -> tuple[Tensor, ...]:
        if not self.classifies:
            return (mixture_log_prob(predictive, y),)
        index = y[None, ..., None].expand(*predictive.logits.shape[:-1], 1)
        of_label = predictive.logits.log_softmax(-1).gather(-1, index).squeeze(-1)
        return (of_label.logsumexp(0) - math.log(len(of_label)),)


class _Crps(_MetricInput):
    tasks = ("regression",)

    def reduce(self, predictive: Any, y: Tensor) -> tuple[Tensor, ...]:
        return (mixture_crps(predictive, y).mean(-1),)


_METRIC_INPUTS: dict[str, type[_MetricInput]] = {
    "proba": _Proba,
    "prediction": _Prediction,
    "interval": _Interval,
    "uncertainty": _Uncertainty,
    "draws": _Draws,
    "log_likelihood": _LogLikelihood,
    "crps": _Crps,
}
_Given = ArrayLike | None
_OPTIONS = {"interval": ("confidence_level",), "uncertainty": ("kind", "measure")}


def _evaluate(
    scorers: list[UncertaintyScorer], estimator: Any, X: Any, y: Any, sample_weight: Any
) -> list[float]:
    """Compute the scores from one evaluation of the posterior."""
    X, y = with_known_targets(X, y)
    asked, X = predictions(estimator, X)
    inputs = [_METRIC_INPUTS[s.needs](asked, s._options()) for s in scorers]
    pixels, more = counted_pixels(asked, X, y), {}
    target = encoded_targets(asked, y) if pixels is None else pixels.codes
    counts: list[int] = []

    def reduction(predictive: Distribution, rows: Tensor) -> tuple[Tensor, ...]:
        parts = [one.reduce(predictive, rows) for one in inputs]
        counts[:] = map(len, parts)
        return tuple(tensor for part in parts for tensor in part)

    classifies = isinstance(asked, ClassifierPredictions)
    arrays = list(asked._reduce(X, reduction if classifies else of_targets(reduction), target))
    if pixels is not None:  # each pixel that counts is a sample
        arrays = [pixels.flat(array) for array in arrays]
        y = pixels.flat(target)
        y = label_values(asked)[y] if classifies else like_target(asked, y)
        more = {"mask": pixels.which_mask()} if is_multilabel(asked) else {}
        sample_weight = pixels.flat_weights(sample_weight)
    elif is_multilabel(asked):  # each label of a row counts as a sample
        arrays = [array.reshape(-1, *array.shape[2:]) for array in arrays]
        y = target.reshape(-1)
        if sample_weight is not None:
            sample_weight = np.repeat(sample_weight, target.shape[1])
    scores = []
    for scorer, own, count in zip(scorers, inputs, counts):
        given, arrays = own.arguments(tuple(arrays[:count])), arrays[count:]
        scores.append(scorer._score(y, given, own.keywords() | more, sample_weight))
    return scores


# ---------------------------------------------------------------------------------------------
# Scorers


class UncertaintyScorer(BaseEstimator):
    """A metric of uncertainty as a scorer, greater is better; made by `make_uncertainty_scorer`.

    If less is better for the metric, its sign is turned: an error of 0.03 is a score of −0.03.
    `help` of a ready scorer, like `skuq.metrics.ece_scorer`, says which number it gives.

    The scorer takes ``sample_weight`` by scikit-learn's metadata routing. The ready scorers are
    shared, so change only a copy:
    ``sklearn.base.clone(nll_scorer).set_score_request(sample_weight=True)``.

    Parameters
    ----------
    metric : callable
        Function ``metric(y_true, *needed, **options)`` that gives a number.
    needs : str
        The input that the metric gets after `y_true`, as in `make_uncertainty_scorer`.
    greater_is_better : bool
        Whether a greater metric is better; if not, the score is the negated metric.
    options : dict
        Options passed to the metric, and to the method of the estimator that gives its input.
    """

    def __init__(
        self,
        metric: Callable[..., float],
        needs: str = "proba",
        greater_is_better: bool = True,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.metric = metric
        self.needs = needs
        self.greater_is_better = greater_is_better
        self.options = options

    def __call__(
        self, estimator: Any, X: MatrixLike, y: _Given = None, sample_weight: _Given = None
    ) -> float:
        return self.score(estimator, X, y, sample_weight)

    def score(
        self, estimator: Any, X: MatrixLike, y: _Given = None, sample_weight: _Given = None
    ) -> float:
        """Score a fitted estimator: greater is better.

        Parameters
        ----------
        estimator : fitted estimator
            The estimator to score.
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            True labels, targets or masks; None if X is a torch Dataset, which has them.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts; None weighs all equally.

        Returns
        -------
        float
            The metric, with its sign turned if less is better.
        """
        return _evaluate([self], estimator, X, y, sample_weight)[0]

    def _options(self) -> dict[str, Any]:
        """Options that change the call of the estimator."""
        options = self.options or {}
        return {name: options[name] for name in _OPTIONS.get(self.needs, ()) if name in options}

    def _score(
        self,
        y: Any,
        arguments: tuple[np.ndarray, ...],
        keywords: dict[str, Any],
        sample_weight: Any,
    ) -> float:
        known = inspect.signature(self.metric).parameters
        given = {name: value for name, value in keywords.items() if name in known}
        asked = _OPTIONS.get(self.needs, ())
        for name, value in (self.options or {}).items():
            if name in known or name not in asked:
                given[name] = value
        if sample_weight is not None:
            given["sample_weight"] = sample_weight
        value = float(self.metric(y, *arguments, **given))
        return value if self.greater_is_better else -value


class UncertaintyScorers(BaseEstimator):
    """Several scorers, one evaluation of the posterior; made by `uncertainty_scorers`.

    Parameters
    ----------
    scorers : dict of scorers or names
        Scorers by the name of their score.
    """

    def __init__(self, scorers: dict[str, Any]) -> None:
        self.scorers = scorers

    def __call__(
        self, estimator: Any, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> dict[str, float]:
        return self.score(estimator, X, y, sample_weight)

    def score(
        self, estimator: Any, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> dict[str, float]:
        """Score a fitted estimator by every scorer.

        Parameters
        ----------
        estimator : fitted estimator
            The estimator to score.
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            True labels or targets.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts; None weighs all equally.

        Returns
        -------
        dict of str to float
            The scores by name; greater is better.
        """
        ours = {n: s for n, s in self.scorers.items() if isinstance(s, UncertaintyScorer)}
        found = dict(zip(ours, _evaluate(list(ours.values()), estimator, X, y, sample_weight)))
        weight = {} if sample_weight is None else {"sample_weight": sample_weight}
        return {
            name: found[name] if name in found else scorer(estimator, X, y, **weight)
            for name, scorer in self.scorers.items()
        }


def make_uncertainty_scorer(
    metric: Callable[..., float],
    *,
    needs: str = "proba",
    greater_is_better: bool = True,
    **options: Any,
) -> UncertaintyScorer:
    """Make a scorer of a metric of targets and predictions.

    Parameters
    ----------
    metric : callable
        Function ``metric(y_true, *needed, **options)`` that gives a number. It gets ``labels``
        (the classes), ``loss``, ``confidence_level`` and ``sample_weight`` if it has such
        parameters and they apply.
    needs : {"proba", "prediction", "interval", "uncertainty", "draws", "log_likelihood", "crps"}, \
            default="proba"
        The input that the metric gets after `y_true`:

        * "proba": probabilities (n_samples, n_classes);
        * "prediction": predicted labels, or means of a regressor;
        * "interval": lower and upper ends of a regressor's intervals on the last axis; the option
          ``confidence_level`` is 0.9 by default;
        * "uncertainty": predictions, and uncertainties (n_samples,); the options are ``kind``
          and ``measure``, as in `predict_uncertainty`;
        * "draws": predictions of every draw, as `predict_draws` gives them;
        * "log_likelihood", "crps": log-likelihood or CRPS of each sample (n_samples,), under the
          predictive mixture.
    greater_is_better : bool, default=True
        Whether a greater metric is better; if not, the score is the negated metric.
    **options
        Options passed to the metric, and to the method of the estimator that gives its input.

    Returns
    -------
    UncertaintyScorer
        A callable ``scorer(estimator, X, y, sample_weight=None)``, for ``scoring=``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> from skuq import TorchClassifier
    >>> from skuq.metrics import accuracy_at_coverage, make_uncertainty_scorer
    >>> scorer = make_uncertainty_scorer(accuracy_at_coverage, needs="uncertainty", coverage=0.5)
    >>> X, y = load_iris(return_X_y=True)
    >>> network = TorchClassifier(lr=0.01, max_epochs=5, random_state=0)
    >>> cross_val_score(network, X, y, scoring=scorer, cv=3).shape
    (3,)
    """
    check_option("needs", needs, tuple(_METRIC_INPUTS))
    if not callable(metric):
        raise TypeError(f"metric must be a function of (y_true, ...), got {metric!r}")
    if "confidence_level" in options:
        checked_level("confidence_level", options["confidence_level"])
    return UncertaintyScorer(metric, needs, greater_is_better, options or None)


def uncertainty_scorers(scorers: dict[str, Any] | None = None, **named: Any) -> UncertaintyScorers:
    """Join several scorers in one that returns a dict, for ``scoring=`` of searches and validation.

    Each scorer by itself would evaluate the posterior. Together they share one evaluation per
    estimator and data set.

    Parameters
    ----------
    scorers : dict of scorers or names, default=None
        Scorers by the name of their score. Scorers of other kinds (scikit-learn's names, other
        callables) are called one by one.
    **named : scorers or names
        More scorers, given as keywords.

    Returns
    -------
    UncertaintyScorers
        A callable that returns a dict of scores.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_validate
    >>> from skuq import TorchClassifier
    >>> from skuq.metrics import aurc_scorer, ece_scorer, nll_scorer, uncertainty_scorers
    >>> scoring = uncertainty_scorers(nll=nll_scorer, ece=ece_scorer, aurc=aurc_scorer)
    >>> X, y = load_iris(return_X_y=True)
    >>> network = TorchClassifier(lr=0.01, max_epochs=5, random_state=0)
    >>> sorted(cross_validate(network, X, y, scoring=scoring, cv=3))[2:]
    ['test_aurc', 'test_ece', 'test_nll']
    """
    together = {**(scorers or {}), **named}
    if not together:
        raise ValueError("uncertainty_scorers needs at least one scorer")
    return UncertaintyScorers(
        {name: get_scorer(s) if isinstance(s, str) else s for name, s in together.items()}
    )

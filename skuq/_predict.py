"""The methods that predict, all built on one method, which reduces distributions of the draws.

A class with one of these mixins gives ``_reduce(X, reduction, *aligned)``. `reduction` maps the
predictive distribution of all draws, of batch shape (n_draws, n_rows, ...), and the same rows of
the arrays in `aligned`, to tensors of n_rows rows. So a change of the distribution of every draw (a
temperature, for example) changes all predictions at once.

With several labels at once (multilabel), a classifier has a distribution over {0, 1} for each
label, of batch shape (n_draws, n_rows, n_labels).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from skuq._data._checks import names_of_labels, refuse_other_labels
from skuq._data._places import classes_second
from skuq._data._streams import with_targets
from skuq._distributions._mixture import mixture_quantile
from skuq._distributions._softmax import Softmax, log_mean, mean_of_draws
from skuq._reductions import ManyDraws, Part, class_uncertainty, target_uncertainty
from skuq._utils._messages import checked_level
from skuq._utils._sklearn_compat import _num_samples
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.uncertainty import Uncertainty, _moments

__all__ = ["ClassifierPredictions", "Predictions", "RegressorPredictions"]


class Predictions:
    """Base of both kinds of predictions; it stacks the predictions of the draws."""

    _reduce: Callable[..., Any]  # see above

    def _predict_draws(self, X: Any, reduction: Callable[[Any], Tensor]) -> np.ndarray:
        n_rows, watch = _num_samples(X) if hasattr(X, "__len__") else None, ManyDraws()
        if n_rows is not None and getattr(self, "_is_dense", False):
            n_rows *= math.prod(getattr(X, "shape", ())[2:])  # places, of rows that are images

        def rows_first(predictive: Distribution) -> Tensor:
            draws = reduction(predictive)
            watch.warn_of(draws, n_rows)
            return draws.movedim(0, 1)

        # (n_rows, *places, n_draws, n_outputs) becomes (n_draws, n_rows, n_outputs, *places)
        return np.moveaxis(self._reduce(X, rows_first), (-2, -1), (0, 2))

    def score(
        self,
        X: MatrixLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Compute the accuracy of a classifier, or R² of a regressor.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows, as in `fit`.
        y : array-like of shape (n_samples,), or (n_samples, n_targets), default=None
            True labels or targets; None if X is a Dataset of pairs (x, y), which has them.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts; None weighs all equally.

        Returns
        -------
        float
            At most 1; greater is better.

        Raises
        ------
        ValueError
            If there are no targets.
        """
        X, y = with_targets(X, y)
        if y is None:
            raise ValueError(
                f"score of {type(self).__name__} needs targets: expected y, or X a torch Dataset "
                f"of pairs (x, y); got y=None and X of type {type(X).__name__}"
            )
        refuse_other_labels(names_of_labels(y), getattr(self, "label_names_", None))
        return float(super().score(X, y, sample_weight))  # type: ignore[misc]


class ClassifierPredictions(Predictions):
    """The methods of a classifier."""

    classes_: np.ndarray
    _multilabel = False

    def _log_proba(self, X: Any) -> np.ndarray:
        """Compute the log of the mean over draws of the probabilities, classes last."""
        log_proba: np.ndarray = self._reduce(X, log_mean)
        return log_proba

    def predict(self, X: MatrixLike) -> np.ndarray:
        """Predict the most probable class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset of x or of pairs (x, y)
            Rows to predict. `fit` describes memory maps and Datasets; predictions read them in the
            same way.

        Returns
        -------
        ndarray of shape (n_samples,)
            The label of each row, one of `classes_`. With several labels at once, an array of shape
            (n_samples, n_labels) that holds 1 where a label is predicted and 0 elsewhere.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X has NaN, infinity, or another shape than in `fit`.
        """
        chosen: np.ndarray = self._reduce(X, lambda draws: log_mean(draws).max(-1).indices)
        return classes_second(chosen) if self._multilabel else np.asarray(self.classes_[chosen])

    @overload
    def predict_proba(
        self, X: MatrixLike, return_uncertainty: Literal[False] = ...
    ) -> np.ndarray: ...

    @overload
    def predict_proba(
        self, X: MatrixLike, return_uncertainty: Literal[True]
    ) -> tuple[np.ndarray, Uncertainty]: ...

    @overload
    def predict_proba(
        self, X: MatrixLike, return_uncertainty: bool
    ) -> np.ndarray | tuple[np.ndarray, Uncertainty]: ...

    def predict_proba(
        self, X: MatrixLike, return_uncertainty: bool = False
    ) -> np.ndarray | tuple[np.ndarray, Uncertainty]:
        """Predict the probability of each class, the mean over the draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows to predict, in any form that `predict` takes.
        return_uncertainty : bool, default=False
            Whether to also return ``predict_uncertainty(X, kind="all")``. Both come from one
            evaluation of the draws, which takes little longer than for the probabilities only.
            Also works through a Pipeline.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            The probabilities, with columns in the order of `classes_`; each row sums to 1. With
            several labels at once, the probability of each label, of shape (n_samples, n_labels).
        uncertainty : Uncertainty of arrays of shape (n_samples,)
            The uncertainty of each row, in nats; only with ``return_uncertainty=True``.
        """

        def reduction(predictive: Softmax) -> tuple[Tensor, ...]:
            proba = predictive.mean_probs
            parts = class_uncertainty("all")(predictive) if return_uncertainty else ()
            return (proba[..., 1] if self._multilabel else proba, *parts)

        proba, *parts = self._reduce(X, reduction)
        proba = classes_second(proba)
        return (proba, Uncertainty(*map(self._like_labels, parts))) if parts else proba

    def _like_labels(self, values: np.ndarray) -> np.ndarray:
        """Put the axis of several labels, if there is one, where public arrays have it."""
        return classes_second(values) if self._multilabel else values

    def predict_log_proba(self, X: MatrixLike) -> np.ndarray:
        """Predict the logarithm of each mean probability, finite even if probabilities underflow.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows to predict, in any form that `predict` takes.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The logarithm of `predict_proba`, with columns in the order of `classes_`.
        """
        log_proba = self._log_proba(X)
        return classes_second(log_proba[..., 1] if self._multilabel else log_proba)

    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """Compute logits of the mean prediction: log-probabilities, or log-odds for two classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows to predict, in any form that `predict` takes.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            The log-probability of each class. For two classes it is log(p_1 / p_0), which is
            positive where the second class is more probable.
        """
        log_proba = self._log_proba(X)
        if log_proba.shape[-1] != 2:
            return classes_second(log_proba)
        return self._like_labels(log_proba[..., 1] - log_proba[..., 0])

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: Part = ..., measure: str = ...
    ) -> np.ndarray: ...

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: Literal["all"], measure: str = ...
    ) -> Uncertainty: ...

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: str, measure: str = ...
    ) -> np.ndarray | Uncertainty: ...

    def predict_uncertainty(
        self, X: MatrixLike, kind: str = "total", measure: str = "entropy"
    ) -> np.ndarray | Uncertainty:
        """Measure how uncertain the prediction of each row is.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows to predict, in any form that `predict` takes.
        kind : {"total", "aleatoric", "epistemic", "all"}, default="total"
            The part of the uncertainty to return: "aleatoric" comes from noise in the labels,
            "epistemic" from not knowing the function, and "total" is their sum. "all" returns an
            `Uncertainty` with all three.
        measure : {"entropy", "variance", "variation_ratio", "margin", "least_confidence"}, \
                default="entropy"
            How to measure uncertainty. Entropy is in nats: entropy of the mean = expected entropy
            + mutual information. Only entropy and variance decompose; the others have only the
            kind "total".

        Returns
        -------
        ndarray of shape (n_samples,), or Uncertainty of three
            The uncertainty of each row; higher is more uncertain. With several labels at once, the
            shape is (n_samples, n_labels).

        Raises
        ------
        ValueError
            If `kind` or `measure` is unknown, or the measure does not have this kind.
        """
        result = self._reduce(X, class_uncertainty(kind, measure))
        if isinstance(result, tuple):
            return Uncertainty(*map(self._like_labels, result))
        return self._like_labels(result)

    def predict_draws(self, X: MatrixLike) -> np.ndarray:
        """Predict the probabilities of every draw.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows to predict, in any form that `predict` takes.

        Returns
        -------
        ndarray of shape (n_draws, n_samples, n_classes)
            The probabilities of each draw, with the last axis in the order of `classes_`; their
            mean over the first axis is `predict_proba`.
        """
        label = (..., 1) if self._multilabel else (...,)
        return self._predict_draws(X, lambda predictive: predictive.probs[label])


class RegressorPredictions(Predictions):
    """The methods of a regressor. All results are in the units of y."""

    _target_shape: tuple[int, ...]  # () for a y of one dimension, else (n_targets,)
    _is_dense: bool = False  # whether results are maps, (n_samples, height, width, n_targets, ...)

    def _like_target(self, values: np.ndarray) -> np.ndarray:
        """Drop the axis of targets, the second of public arrays, if y had none."""
        values = np.moveaxis(values, 3, 1) if self._is_dense else values
        return values if self._target_shape else values[:, 0]

    @overload
    def predict(self, X: MatrixLike, return_std: Literal[False] = ...) -> np.ndarray: ...

    @overload
    def predict(
        self, X: MatrixLike, return_std: Literal[True]
    ) -> tuple[np.ndarray, np.ndarray]: ...

    @overload
    def predict(
        self, X: MatrixLike, return_std: bool
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]: ...

    def predict(
        self, X: MatrixLike, return_std: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict the mean of the predictive distribution.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows to predict, in any form that `predict` takes.
        return_std : bool, default=False
            Whether to also return the standard deviation (aleatoric and epistemic together).

        Returns
        -------
        mean : ndarray of shape (n_samples,) or (n_samples, n_targets)
            The predicted mean, in the units of y and with as many axes as y.
        std : ndarray of the same shape
            The standard deviation in the units of y; only with ``return_std=True``.
        """
        if not return_std:
            return self._like_target(
                self._reduce(X, lambda predictive: mean_of_draws(predictive.mean))
            )

        def reduction(predictive: Distribution) -> tuple[Tensor, Tensor]:
            total = _moments(predictive.mean, predictive.variance).total
            return mean_of_draws(predictive.mean), total.sqrt()

        mean, std = self._reduce(X, reduction)
        return self._like_target(mean), self._like_target(std)

    @overload
    def predict_uncertainty(self, X: MatrixLike, kind: Part = ...) -> np.ndarray: ...

    @overload
    def predict_uncertainty(self, X: MatrixLike, kind: Literal["all"]) -> Uncertainty: ...

    @overload
    def predict_uncertainty(self, X: MatrixLike, kind: str) -> np.ndarray | Uncertainty: ...

    def predict_uncertainty(self, X: MatrixLike, kind: str = "total") -> np.ndarray | Uncertainty:
        """Measure how uncertain the prediction is, as variances in squared units of y.

        Total = mean of the draws' variances (aleatoric) + variance of their means (epistemic).

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows to predict, in any form that `predict` takes.
        kind : {"total", "aleatoric", "epistemic", "all"}, default="total"
            The part of the uncertainty to return: "aleatoric" comes from noise in the targets,
            "epistemic" from not knowing the function, and "total" is their sum. "all" returns an
            `Uncertainty` with all three.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_targets), or Uncertainty of three
            The variance of each target in squared units of y, with as many axes as y.
        """
        result = self._reduce(X, target_uncertainty(kind))
        if isinstance(result, tuple):
            return Uncertainty(*map(self._like_target, result))
        return self._like_target(result)

    def predict_quantiles(self, X: MatrixLike, q: ArrayLike) -> np.ndarray:
        """Predict quantiles of the mixture of the draws' predictive distributions.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows to predict, in any form that `predict` takes.
        q : float or array-like of shape (n_quantiles,)
            Levels of the quantiles, in (0, 1); 0.5 is the median.

        Returns
        -------
        ndarray of shape (n_samples, n_quantiles) or (n_samples, n_targets, n_quantiles)
            The quantiles in the units of y, with levels on the last axis in the order of `q`.
        """
        try:
            levels = np.atleast_1d(np.asarray(q, dtype=float))
        except (TypeError, ValueError):  # no numbers
            levels = np.empty(0)
        if levels.ndim != 1 or not len(levels) or not ((levels > 0) & (levels < 1)).all():
            raise ValueError(f"q must be one or more levels strictly between 0 and 1, got {q!r}")

        def reduction(predictive: Distribution) -> Tensor:
            return torch.stack([mixture_quantile(predictive, float(v)) for v in levels], dim=-1)

        return self._like_target(self._reduce(X, reduction))

    def predict_interval(self, X: MatrixLike, confidence_level: float = 0.9) -> np.ndarray:
        """Predict a central interval that holds y with the given probability.

        Its ends are quantiles of the mixture of the draws' predictive distributions.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows to predict, in any form that `predict` takes.
        confidence_level : float in (0, 1), default=0.9
            Probability that the interval holds y.

        Returns
        -------
        ndarray of shape (n_samples, 2) or (n_samples, n_targets, 2)
            The lower and the upper end of each interval, in the units of y.
        """
        tail = (1 - checked_level("confidence_level", confidence_level)) / 2
        return self.predict_quantiles(X, [tail, 1 - tail])

    def predict_draws(self, X: MatrixLike) -> np.ndarray:
        """Predict the mean of every draw.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows to predict, in any form that `predict` takes.

        Returns
        -------
        ndarray of shape (n_draws, n_samples, n_targets)
            The mean of each draw's predictive distribution, in the units of y.
        """
        return self._predict_draws(X, lambda predictive: predictive.mean)

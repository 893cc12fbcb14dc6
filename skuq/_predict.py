"""What estimators answer, given one thing: how to reduce the predictive distributions of the draws.

A class that mixes one of these in gives ``_reduce(X, reduction, *aligned)``: `reduction` maps the
predictive distribution of all draws, of batch shape (n_draws, n_rows, ...), and the same rows of
the arrays in `aligned`, to tensors of n_rows rows. What changes the distribution of every draw (a
temperature, say) changes every answer at once.

A classifier of several labels at once (multilabel) is a distribution over {0, 1} for each label,
of batch shape (n_draws, n_rows, n_labels).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from skuq._data._streams import with_targets
from skuq._distributions._mixture import mixture_quantile
from skuq._distributions._softmax import Softmax, log_mean, mean_of_draws
from skuq._utils._messages import checked_level
from skuq._utils._sklearn_compat import _num_samples
from skuq.uncertainty import DECOMPOSED, TOTALS, Uncertainty, _moments

__all__ = [
    "ClassifierPredictions",
    "Predictions",
    "RegressorPredictions",
    "class_uncertainty",
    "target_uncertainty",
]

KINDS = ("total", "aleatoric", "epistemic", "all")
_MANY_BYTES = 2**30


def _check_kind(kind: str) -> None:
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")


def _select(parts: Uncertainty, kind: str) -> Any:
    return parts if kind == "all" else getattr(parts, kind)


def of_targets(reduction: Callable[..., Any]) -> Callable[..., Any]:
    """A reduction of a regressor's distributions and targets that refuses another number of them;
    broadcasting would score every target against each."""

    def checked(predictive: Distribution, y: Tensor, *rows: Tensor) -> Any:
        if y.shape[-1] != predictive.batch_shape[-1]:
            raise ValueError(
                f"y has {y.shape[-1]} targets, but the regressor predicts "
                f"{predictive.batch_shape[-1]}"
            )
        return reduction(predictive, y, *rows)

    return checked


def class_uncertainty(kind: str = "total", measure: str = "entropy") -> Callable[[Softmax], Any]:
    """The reduction behind `predict_uncertainty` of a classifier."""
    _check_kind(kind)
    if isinstance(measure, str) and measure in DECOMPOSED:
        return lambda predictive: _select(DECOMPOSED[measure](predictive), kind)
    if not isinstance(measure, str) or measure not in TOTALS:
        known = ", ".join(map(repr, (*DECOMPOSED, *TOTALS)))
        raise ValueError(f"measure must be one of {known}, got {measure!r}")
    if kind != "total":
        raise ValueError(
            f"measure={measure!r} does not decompose: it has kind='total' alone, got "
            f"kind={kind!r}; use measure='entropy' or 'variance'"
        )
    return TOTALS[measure]


def target_uncertainty(kind: str = "total") -> Callable[[Distribution], Any]:
    """The reduction behind `predict_uncertainty` of a regressor."""
    _check_kind(kind)
    return lambda predictive: _select(_moments(predictive.mean, predictive.variance), kind)


def _as_uncertainty(result: Any) -> Any:
    return Uncertainty(*result) if isinstance(result, tuple) else result


class Predictions:
    """Common to both: stacked predictions of the draws."""

    _reduce: Callable[..., Any]  # see above

    def _predict_draws(self, X: Any, reduction: Callable[[Any], Tensor]) -> np.ndarray:
        warned = False

        def rows_first(predictive: Distribution) -> Tensor:
            nonlocal warned
            draws = reduction(predictive)
            n_rows = _num_samples(X) if hasattr(X, "__len__") else draws.shape[1]
            size = draws[:, :1].numel() * n_rows * 8
            if size > _MANY_BYTES and not warned:
                warned = True
                warnings.warn(
                    f"predict_draws keeps every draw: {size / 2**30:.1f} GiB. Give fewer rows at a "
                    "time, or use predict_uncertainty, which keeps none.",
                    UserWarning,
                    stacklevel=2,
                )
            return draws.movedim(0, 1)

        return np.moveaxis(self._reduce(X, rows_first), 1, 0)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy of a classifier, R² of a regressor.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
        y : array-like of shape (n_samples,), or (n_samples, n_targets), default=None
            None if X is a Dataset of pairs (x, y), which has it.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float

        Raises
        ------
        ValueError
            Without targets.
        """
        X, y = with_targets(X, y)
        if y is None:
            raise ValueError(
                f"score of {type(self).__name__} needs targets: expected y, or X a torch Dataset "
                f"of pairs (x, y); got y=None and X of type {type(X).__name__}"
            )
        return super().score(X, y, sample_weight)  # type: ignore[misc]


class ClassifierPredictions(Predictions):
    """The methods of a classifier."""

    classes_: np.ndarray
    _multilabel = False

    def _log_proba(self, X: Any) -> np.ndarray:
        """L, the log of the mean over draws of the probabilities, the classes last."""

        return self._reduce(X, log_mean)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset of x or of pairs (x, y)
            What was said of memory maps and Datasets at `fit` holds for every prediction.

        Returns
        -------
        ndarray of shape (n_samples,), of labels as in `classes_`

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If X has NaN, infinity, or another shape than in `fit`.
        """
        chosen = self._reduce(X, lambda predictive: log_mean(predictive).max(-1).indices)
        return chosen if self._multilabel else self.classes_[chosen]

    def predict_proba(self, X: Any, return_uncertainty: bool = False) -> Any:
        """Probabilities of the classes, the mean over the draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        return_uncertainty : bool, default=False
            Whether to give ``predict_uncertainty(X, kind="all")``, too: both from one evaluation
            of the draws, in little more than the time of the probabilities alone. Also through a
            Pipeline.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), rows sum to 1; columns as in `classes_`; or that
        and an `Uncertainty` of arrays of shape (n_samples,), in nats
        """

        def reduction(predictive: Softmax) -> tuple[Tensor, ...]:
            proba = predictive.mean_probs
            parts = class_uncertainty("all")(predictive) if return_uncertainty else ()
            return (proba[..., 1] if self._multilabel else proba, *parts)

        proba, *parts = self._reduce(X, reduction)
        return (proba, Uncertainty(*parts)) if parts else proba

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of the mean probabilities, finite where those underflow.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        log_proba = self._log_proba(X)
        return log_proba[..., 1] if self._multilabel else log_proba

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits of the mean prediction: log-probabilities, or log-odds for two classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
        """
        log_proba = self._log_proba(X)
        binary = log_proba.shape[-1] == 2
        return log_proba[..., 1] - log_proba[..., 0] if binary else log_proba

    def predict_uncertainty(self, X: Any, kind: str = "total", measure: str = "entropy") -> Any:
        """How uncertain the prediction is, for each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        kind : {"total", "aleatoric", "epistemic", "all"}, default="total"
            "all" gives an `Uncertainty` with `total`, `aleatoric` and `epistemic`, which add up.
        measure : {"entropy", "variance", "variation_ratio", "margin", "least_confidence"}, \
                default="entropy"
            Entropy in nats: entropy of the mean = expected entropy + mutual information. Only
            entropy and variance decompose; the others have kind "total" alone.

        Returns
        -------
        ndarray of shape (n_samples,), or Uncertainty of three; higher is more uncertain

        Raises
        ------
        ValueError
            For an unknown `kind` or `measure`, or a kind that the measure does not have.
        """
        return _as_uncertainty(self._reduce(X, class_uncertainty(kind, measure)))

    def predict_draws(self, X: Any) -> np.ndarray:
        """Probabilities of every draw.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        ndarray of shape (n_draws, n_samples, n_classes)
        """
        label = (..., 1) if self._multilabel else (...,)
        return self._predict_draws(X, lambda predictive: predictive.probs[label])


class RegressorPredictions(Predictions):
    """The methods of a regressor. Everything is in the units of y."""

    _target_shape: tuple[int, ...]  # () for a y of one dimension, else (n_targets,)

    def _like_target(self, values: np.ndarray) -> np.ndarray:
        """Drops the axis of targets, the second, where y had none."""
        return values if self._target_shape else values[:, 0]

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The mean of the predictive distribution.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        return_std : bool, default=False
            Whether to give the standard deviation (aleatoric and epistemic), too.

        Returns
        -------
        ndarray of the shape of y, or two of them: mean and standard deviation in y's units
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

    def predict_uncertainty(self, X: Any, kind: str = "total") -> Any:
        """How uncertain the prediction is: variances, in squared units of y.

        Total = mean of the draws' variances (aleatoric) + variance of their means (epistemic).

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        kind : {"total", "aleatoric", "epistemic", "all"}, default="total"
            "all" gives an `Uncertainty` with `total`, `aleatoric` and `epistemic`.

        Returns
        -------
        ndarray of the shape of y, or Uncertainty of three
        """
        result = self._reduce(X, target_uncertainty(kind))
        if isinstance(result, tuple):
            return Uncertainty(*map(self._like_target, result))
        return self._like_target(result)

    def predict_quantiles(self, X: Any, q: Any) -> np.ndarray:
        """Quantiles of the predictive mixture over the draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        q : float or array-like of shape (n_quantiles,)
            Levels in (0, 1).

        Returns
        -------
        ndarray of shape (n_samples, n_quantiles) or (n_samples, n_targets, n_quantiles), in y's
        units
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

    def predict_interval(self, X: Any, confidence_level: float = 0.9) -> np.ndarray:
        """Central interval that holds y with this probability, between two mixture quantiles.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        confidence_level : float in (0, 1), default=0.9

        Returns
        -------
        ndarray of shape (n_samples, 2) or (n_samples, n_targets, 2): lower and upper, in y's units
        """
        tail = (1 - checked_level("confidence_level", confidence_level)) / 2
        return self.predict_quantiles(X, [tail, 1 - tail])

    def predict_draws(self, X: Any) -> np.ndarray:
        """The mean of every draw.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        ndarray of shape (n_draws, n_samples, n_targets), in y's units
        """
        return self._predict_draws(X, lambda predictive: predictive.mean)

"""The methods of estimators of pixels: maps of labels, probabilities, targets, uncertainties."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np

from skuq._data._streams import with_targets
from skuq._pixels import map_r2, mean_iou
from skuq._predict import ClassifierPredictions, RegressorPredictions
from skuq._reductions import Part
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.uncertainty import Uncertainty

__all__ = ["MapPredictions", "TargetMapPredictions"]

_REDUCTIONS = ("mean", "max", "share_above")


class MapPredictions(ClassifierPredictions):
    """The methods of a classifier of pixels."""

    ignore_label: Any

    def predict(self, X: MatrixLike) -> np.ndarray:
        """Predict the most probable class of each pixel.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width), or torch Dataset
            Images. Their height and width may differ from those in `fit` if the module allows it.

        Returns
        -------
        ndarray of shape (n_samples, height, width)
            The label of each pixel, one of `classes_`. With several masks, an array of shape
            (n_samples, n_labels, height, width) that holds 1 where a label is predicted.

        Raises
        ------
        NotFittedError
            If the segmenter is not fitted.
        ValueError
            If X has NaN, infinity, or another number of channels than in `fit`.
        """
        return super().predict(X)

    def predict_log_proba(self, X: MatrixLike) -> np.ndarray:
        """Predict the logarithm of each mean probability, finite even if probabilities underflow.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, in any form that `predict` takes.

        Returns
        -------
        ndarray of shape (n_samples, n_classes, height, width)
            The logarithm of `predict_proba`.
        """
        return super().predict_log_proba(X)

    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """Compute logits of the mean prediction: log-probabilities, or log-odds for two classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, in any form that `predict` takes.

        Returns
        -------
        ndarray of shape (n_samples, n_classes, height, width), or (n_samples, height, width)
            The log-probability of each class; for two classes log(p_1 / p_0).
        """
        return super().decision_function(X)

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
        """Predict the probability of each class at each pixel, the mean over the draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, in any form that `predict` takes.
        return_uncertainty : bool, default=False
            Whether to also return ``predict_uncertainty(X, kind="all")``, from the same evaluation
            of the draws.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes, height, width)
            The probabilities, with classes in the order of `classes_`; they sum to 1 at each
            pixel. With several masks, the probability of each label.
        uncertainty : Uncertainty of arrays of shape (n_samples, height, width)
            The uncertainty of each pixel, in nats; only with ``return_uncertainty=True``.
        """
        return super().predict_proba(X, return_uncertainty)

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
        """Measure how uncertain the prediction of each pixel is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, in any form that `predict` takes.
        kind : {"total", "aleatoric", "epistemic", "all"}, default="total"
            The part of the uncertainty to return: "aleatoric" comes from noise in the masks,
            "epistemic" from not knowing the function, and "total" is their sum. "all" returns an
            `Uncertainty` with all three.
        measure : {"entropy", "variance", "variation_ratio", "margin", "least_confidence"}, \
                default="entropy"
            How to measure uncertainty, as in `TorchClassifier.predict_uncertainty`. Entropy is in
            nats.

        Returns
        -------
        ndarray of shape (n_samples, height, width), or Uncertainty of three
            A map for each image; higher is more uncertain. With several masks, the shape is
            (n_samples, n_labels, height, width).

        Raises
        ------
        ValueError
            If `kind` or `measure` is unknown, or the measure does not have this kind.
        """
        return super().predict_uncertainty(X, kind, measure)

    def predict_draws(self, X: MatrixLike) -> np.ndarray:
        """Predict the probabilities of every draw; the only method that keeps all draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, in any form that `predict` takes.

        Returns
        -------
        ndarray of shape (n_draws, n_samples, n_classes, height, width)
            The probabilities of each draw; their mean over the first axis is `predict_proba`.
        """
        return super().predict_draws(X)

    def predict_image_uncertainty(
        self,
        X: MatrixLike,
        reduction: str = "mean",
        threshold: float | None = None,
        kind: Part = "total",
        measure: str = "entropy",
    ) -> np.ndarray:
        """Measure how uncertain the prediction of each whole image is, to rank images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, in any form that `predict` takes.
        reduction : {"mean", "max", "share_above"}, default="mean"
            How to reduce a map to a number: its mean, its largest value, or the share of pixels
            above `threshold`.
        threshold : float, default=None
            The uncertainty above which pixels count for "share_above"; other reductions take none.
        kind : {"total", "aleatoric", "epistemic"}, default="total"
            The part of the uncertainty, as in `predict_uncertainty`.
        measure : str, default="entropy"
            How to measure uncertainty, as in `predict_uncertainty`.

        Returns
        -------
        ndarray of shape (n_samples,)
            A number for each image: in the units of the measure, or a share from 0 to 1. Several
            masks count together.

        Raises
        ------
        ValueError
            If `reduction` is unknown, or `threshold` is missing or not needed.
        """
        if reduction not in _REDUCTIONS:
            known = ", ".join(map(repr, _REDUCTIONS))
            raise ValueError(f"reduction must be one of {known}, got {reduction!r}")
        if (threshold is None) == (reduction == "share_above"):
            raise ValueError(
                "threshold goes together with reduction='share_above', got "
                f"threshold={threshold!r} and reduction={reduction!r}"
            )
        if str(kind) == "all":
            raise ValueError(
                "kind='all' is three numbers per image; choose total, aleatoric or epistemic"
            )
        maps = self.predict_uncertainty(X, kind, measure)
        flat = maps.reshape(len(maps), -1)
        if reduction == "max":
            return np.asarray(flat.max(axis=1))
        return np.asarray((flat if threshold is None else flat > threshold).mean(axis=1))

    def score(
        self,
        X: MatrixLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Compute the mean over the classes of intersection over union.

        The counts of pixels are summed over all images first. A class that is neither in y nor
        predicted does not count, nor do pixels whose label is `ignore_label`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width), or torch Dataset
            Images, as in `fit`.
        y : array-like of shape (n_samples, height, width), default=None
            True masks; None if X is a Dataset of pairs (image, mask), which has them.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each image counts; None weighs all equally.

        Returns
        -------
        float
            Between 0 and 1; greater is better.

        Raises
        ------
        ValueError
            If there are no masks, or none of their pixels counts.
        """
        X, y = with_targets(X, y)
        if y is None:
            raise ValueError(
                f"score of {type(self).__name__} needs masks: expected y, or X a torch Dataset "
                f"of pairs (image, mask); got y=None and X of type {type(X).__name__}"
            )
        return mean_iou(y, self.predict(X), self.ignore_label, sample_weight)


class TargetMapPredictions(RegressorPredictions):
    """The methods of a regressor of pixels. All results are in the units of y."""

    _is_dense = True

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
        """Predict the mean of the predictive distribution of each pixel.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width), or torch Dataset
            Images. Their height and width may differ from those in `fit` if the module allows it.
        return_std : bool, default=False
            Whether to also return the standard deviation (aleatoric and epistemic together).

        Returns
        -------
        mean : ndarray of shape (n_samples, height, width) or (n_samples, n_targets, height, width)
            The predicted mean, with as many axes as y.
        std : ndarray of the same shape
            The standard deviation in the units of y; only with ``return_std=True``.
        """
        return super().predict(X, return_std)

    @overload
    def predict_uncertainty(self, X: MatrixLike, kind: Part = ...) -> np.ndarray: ...

    @overload
    def predict_uncertainty(self, X: MatrixLike, kind: Literal["all"]) -> Uncertainty: ...

    @overload
    def predict_uncertainty(self, X: MatrixLike, kind: str) -> np.ndarray | Uncertainty: ...

    def predict_uncertainty(self, X: MatrixLike, kind: str = "total") -> np.ndarray | Uncertainty:
        """Measure how uncertain each pixel is, as variances in squared units of y.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, in any form that `predict` takes.
        kind : {"total", "aleatoric", "epistemic", "all"}, default="total"
            The part of the uncertainty to return: "aleatoric" is the mean of the draws' variances,
            "epistemic" the variance of their means, and "total" their sum. "all" returns an
            `Uncertainty` with all three.

        Returns
        -------
        ndarray of the shape of `predict`, or Uncertainty of three
            The variance at each pixel.
        """
        return super().predict_uncertainty(X, kind)

    def predict_quantiles(self, X: MatrixLike, q: ArrayLike) -> np.ndarray:
        """Predict quantiles of the mixture of the draws' predictive distributions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, in any form that `predict` takes.
        q : float or array-like of shape (n_quantiles,)
            Levels of the quantiles, in (0, 1).

        Returns
        -------
        ndarray of shape (*shape of predict, n_quantiles)
            The quantiles in the units of y, with levels on the last axis in the order of `q`.
        """
        return super().predict_quantiles(X, q)

    def predict_interval(self, X: MatrixLike, confidence_level: float = 0.9) -> np.ndarray:
        """Predict a central interval that holds y of a pixel with the given probability.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, in any form that `predict` takes.
        confidence_level : float in (0, 1), default=0.9
            Probability that the interval holds y.

        Returns
        -------
        ndarray of shape (*shape of predict, 2)
            The lower and the upper end of each interval, in the units of y.
        """
        return super().predict_interval(X, confidence_level)

    def predict_draws(self, X: MatrixLike) -> np.ndarray:
        """Predict the mean of every draw; the only method that keeps all draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, in any form that `predict` takes.

        Returns
        -------
        ndarray of shape (n_draws, n_samples, n_targets, height, width)
            The mean of each draw's predictive distribution, in the units of y.
        """
        return super().predict_draws(X)

    def score(
        self,
        X: MatrixLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Compute R² over all pixels, of several targets on average; NaN in y does not count.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width), or torch Dataset
            Images, as in `fit`.
        y : array-like of the shape of `predict`, default=None
            True targets; None if X is a Dataset of pairs (image, map), which has them.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each image counts; None weighs all equally.

        Returns
        -------
        float
            At most 1; greater is better.

        Raises
        ------
        ValueError
            If there are no targets, or their shape differs from that of the predictions.
        """
        X, y = with_targets(X, y)
        if y is None:
            raise ValueError(
                f"score of {type(self).__name__} needs targets: expected y, or X a torch Dataset "
                f"of pairs (image, map); got y=None and X of type {type(X).__name__}"
            )
        return map_r2(y, self.predict(X), sample_weight)

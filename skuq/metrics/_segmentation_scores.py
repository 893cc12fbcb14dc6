"""All metrics of a segmentation from one pass over a stream of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Self

import numpy as np
from torch.utils.data import Dataset, IterableDataset

from skuq._bins import BinSums
from skuq._confusion import ConfusionCounts, mean_of_defined
from skuq._meta import innermost
from skuq._utils._sklearn_compat import _num_samples, _safe_indexing
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.metrics._calibration import calibration_error_of, confidence_and_hit
from skuq.metrics._checks import check_n_bins
from skuq.metrics._overlapping import chances_apart, maps_apart, masks_apart
from skuq.metrics._pixel_uncertainty import PatchScores, scores_of_patches
from skuq.metrics._pixels import (
    PixelLabels,
    counted_uncertainty,
    flat_probabilities,
    images_with,
)
from skuq.metrics._rank_counts import PatchCounts, RankCounts
from skuq.metrics._selective import RiskCoverageCurve
from skuq.pipeline import predict_uncertainty

__all__ = ["SegmentationScores"]


class SegmentationScores:
    """Scores of a segmentation, from running counts: no image is kept.

    Feed it batches of images by `update`, in any order and any sizes; the methods then give the
    scores of all images so far, the same as those of one array of them. `from_estimator` does both.

    Parameters
    ----------
    labels : array-like of shape (n_classes,)
        All labels, sorted, without the ignored one: ``segmenter.classes_``.
    ignore_label : label, default=None
        True label of pixels that do not count; None counts all.
    overlapping : bool, default=False
        Whether each label has a mask of its own, of 0 and 1. Masks may then overlap, all arrays
        have a second axis of labels, and each pixel of each mask is a sample, as for scorers. A
        pixel that does not count in one mask of an image counts in none of them.
    n_bins : int, default=15
        Number of bins of the calibration error.
    patch_size : int, default=4
        Height and width of the patches of PAvPU, in pixels.
    min_accuracy : float in [0, 1), default=0.5
        Share of right pixels that an accurate patch exceeds.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    n_pixels_ : int
        Number of pixels that counted so far; with overlapping masks, of all masks together.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.metrics import SegmentationScores
    >>> scores = SegmentationScores([0, 1], ignore_label=255)
    >>> for mask in ([[0, 1, 1, 255]], [[0, 0, 0, 1]]):
    ...     certain = np.array([[0.9, 0.2, 0.4, 0.7]])             # of the first class
    ...     scores = scores.update([mask], [[certain, 1 - certain]])
    >>> scores.n_pixels_, round(scores.pixel_accuracy(), 3)
    (7, 0.571)
    """

    def __init__(
        self,
        labels: ArrayLike,
        *,
        ignore_label: Any = None,
        overlapping: bool = False,
        n_bins: int = 15,
        patch_size: int = 4,
        min_accuracy: float = 0.5,
    ) -> None:
        check_n_bins(n_bins)
        self.overlapping, self._n_masks = overlapping, 1
        self._known = PixelLabels([0, 1] if overlapping else labels, ignore_label)
        self.classes_ = self._known.classes
        if overlapping:
            self.classes_ = PixelLabels(labels).classes
            self._n_masks = len(self.classes_)
        self.n_pixels_ = 0
        self._n_values = len(self._known.classes)  # of a pixel of a mask
        self._confusion = ConfusionCounts(self._n_masks * self._n_values)
        self._bins = BinSums(np.linspace(0, 1, n_bins + 1), "uniform")
        self._ranks, self._patches = RankCounts(), PatchCounts(patch_size, min_accuracy)
        self._log_loss = self._square = 0.0

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike | Iterable[tuple[Any, Any]],
        y: ArrayLike | None = None,
        *,
        kind: str = "total",
        ignore_label: Any = None,
        batch_size: int = 16,
        **options: Any,
    ) -> Self:
        """Score a fitted segmenter on images, batch by batch.

        Parameters
        ----------
        estimator : fitted segmenter, or a calibrator around one
            The estimator to score.
        X : array-like of shape (n, C, H, W), torch Dataset, or iterable of pairs of batches
            Images; or, without `y`, a Dataset of pairs (image, mask), or an iterable of pairs of
            images (b, C, H, W) and masks (b, H, W), such as a torch DataLoader.
        y : array-like of shape (n, H, W) or (n, n_labels, H, W), default=None
            Masks of the images; several for each of a segmenter with ``likelihood=Bernoulli()``
            that learnt from such.
        kind : {"total", "aleatoric", "epistemic"}, default="total"
            The uncertainty by which coverage and PAvPU rank pixels.
        ignore_label : label, default=None
            True label of pixels that do not count; None takes the estimator's own.
        batch_size : int, default=16
            Number of images of an array or a Dataset to predict at a time.
        **options
            More parameters of the class.

        Returns
        -------
        SegmentationScores
            The scores of all images.
        """
        scores: Self | None = None
        for images, masks in _batches(X, y, batch_size):
            if scores is None:
                leaf, _ = innermost(estimator, images)
                if ignore_label is None:
                    ignore_label = getattr(leaf, "ignore_label", None)
                options = {"overlapping": getattr(leaf, "_multilabel", False), **options}
                scores = cls(estimator.classes_, ignore_label=ignore_label, **options)
            if kind == "total":
                proba, parts = estimator.predict_proba(images, return_uncertainty=True)
                uncertainty = parts.total
            else:
                proba = estimator.predict_proba(images)
                uncertainty = predict_uncertainty(estimator, images, kind=kind)
            scores.update(masks, proba, uncertainty)
        if scores is None:
            raise ValueError("X holds no images: expected at least one batch")
        return scores

    def update(
        self, y_true: ArrayLike, y_proba: ArrayLike, uncertainty: ArrayLike | None = None
    ) -> Self:
        """Add images to the counts.

        Parameters
        ----------
        y_true : array-like of shape (n, H, W), or sequence of n arrays of shape (H, W)
            True label of each pixel. With overlapping masks, as in `predict_proba` of a segmenter,
            this and `uncertainty` have shape (n, n_labels, H, W), too.
        y_proba : array-like of shape (n, n_classes, H, W), or sequence of (n_classes, H, W)
            Predicted probabilities; the most probable class is the prediction. With overlapping
            masks, the probability of 1 in each mask.
        uncertainty : array-like of shape (n, H, W), or sequence of n arrays of shape (H, W), \
                default=None
            Uncertainty of each pixel; None takes the entropy of `y_proba`, the total.

        Returns
        -------
        SegmentationScores
            This object.

        Raises
        ------
        ValueError
            If shapes, labels and probabilities do not fit together.
        """
        if self.overlapping:
            n = self._n_masks
            y_true = masks_apart("y_true", y_true, n, self._known.ignore_label)
            y_proba = chances_apart("y_proba", y_proba, n)
            if uncertainty is not None:
                uncertainty = maps_apart("uncertainty", uncertainty, n)
        ranks = None
        if uncertainty is not None:
            ranks = images_with(y_true, "uncertainty", uncertainty)
        both = images_with(y_true, "y_proba", y_proba, with_classes=True)
        for number, (mask, proba) in enumerate(both):
            given = None if ranks is None else next(ranks)[1]
            self._add(mask, proba, given, number % self._n_masks)
        return self

    def _add(
        self, mask: np.ndarray, proba: np.ndarray, uncertainty: np.ndarray | None, number: int
    ) -> None:
        """Add one mask, the one of this number where an image has several."""
        counted = self._known.counted(mask)
        codes = self._known.codes("y_true", mask[counted])
        rows = flat_probabilities(codes, proba, counted, self._n_values)
        if uncertainty is None:
            uncertainty = np.zeros(mask.shape)
            uncertainty[counted] = -(rows * np.log(rows.clip(np.finfo(rows.dtype).tiny))).sum(1)
        ranks = counted_uncertainty(uncertainty, counted)
        if not len(rows):
            return
        wrong = np.zeros(mask.shape, dtype=bool)
        predicted = rows.argmax(axis=1)
        wrong[counted] = predicted != codes
        of_label = rows[np.arange(len(codes)), codes].astype(float)
        ((confidence, hit),) = confidence_and_hit(codes, rows, "top-label")
        self._bins.add(confidence, hit, None)
        first = number * self._n_values
        self._confusion.add(first + codes, first + predicted)
        self._ranks.add(ranks, wrong[counted])
        self._patches.add(uncertainty, wrong, counted)
        self._log_loss -= np.log(of_label.clip(np.finfo(float).eps)).sum()
        self._square += ((rows.astype(float) ** 2).sum(axis=1) - 2 * of_label + 1).sum()
        self.n_pixels_ += len(codes)

    def confusion_matrix(self) -> np.ndarray:
        """Return the number of pixels of each true class (row) and predicted class (column).

        Returns
        -------
        ndarray of int of shape (n_classes, n_classes)
            The counts. With overlapping masks (n_labels, 2, 2), of 0 and 1 in each mask.
        """
        matrix = self._confusion.matrix.astype(np.int64)
        if not self.overlapping:
            return matrix
        blocks = matrix.reshape(self._n_masks, 2, self._n_masks, 2)
        return np.stack([blocks[k, :, k] for k in range(self._n_masks)])

    def _of_labels(self, values: np.ndarray) -> np.ndarray:
        """Select the numbers of the labels: with overlapping masks those of 1, not of 0."""
        return values[1::2] if self.overlapping else values

    def pixel_accuracy(self) -> float:
        """Compute the share of pixels whose label is right, as `skuq.metrics.pixel_accuracy`.

        Returns
        -------
        float in [0, 1]
            The accuracy; NaN if no pixel counted.
        """
        return self._confusion.accuracy()

    def recall(self) -> np.ndarray:
        """Compute the share of the pixels of each class that is found.

        Returns
        -------
        ndarray of shape (n_classes,)
            The recall of each class; NaN for a class without pixels.
        """
        return self._of_labels(self._confusion.recall())

    def intersection_over_union(self) -> np.ndarray:
        """Compute the intersection over union of each class.

        Returns
        -------
        ndarray of shape (n_classes,)
            The scores, as `skuq.metrics.intersection_over_union` gives them.
        """
        return self._of_labels(self._confusion.intersection_over_union())

    def mean_intersection_over_union(self) -> float:
        """Compute the mean over the classes that occur of the intersection over union.

        Returns
        -------
        float in [0, 1]
            The mean; NaN if no pixel counted.
        """
        return mean_of_defined(self.intersection_over_union())

    def dice_score(self) -> np.ndarray:
        """Compute the Dice score of each class.

        Returns
        -------
        ndarray of shape (n_classes,)
            The scores, as `skuq.metrics.dice_score` gives them.
        """
        return self._of_labels(self._confusion.dice())

    def negative_log_likelihood(self) -> float:
        """Compute the mean over pixels of −log p of the true class.

        Returns
        -------
        float >= 0
            The loss in nats, as `skuq.metrics.negative_log_likelihood` of the flattened pixels.
        """
        return self._mean(self._log_loss)

    def brier_score(self) -> float:
        """Compute the mean over pixels of the squared distance of probabilities from labels.

        Returns
        -------
        float
            The score, as `skuq.metrics.brier_score` of the flattened pixels.
        """
        return self._mean(self._square) * (0.5 if self._n_values == 2 else 1.0)

    def calibration_error(self, norm: str = "l1") -> float:
        """Compute the expected calibration error of the predicted class over pixels.

        Parameters
        ----------
        norm : {"l1", "l2", "max"}, default="l1"
            How to combine the gaps of the bins.

        Returns
        -------
        float in [0, 1]
            The error, as `skuq.metrics.pixel_calibration_error` gives it.
        """
        self._mean(0.0)
        return calibration_error_of([self._bins.bins()], norm)

    def risk_coverage_curve(self) -> RiskCoverageCurve:
        """Compute the share of errors among the most certain pixels.

        Returns
        -------
        RiskCoverageCurve
            The curve, as `skuq.metrics.pixel_risk_coverage_curve` gives it.
        """
        return self._ranks.curve()

    def area_under_risk_coverage(self) -> float:
        """Compute the mean of the risk over all coverages (AURC).

        Returns
        -------
        float in [0, 1]
            The area; lower is better. Uncertainties that agree to 1 part in 4096 count as equal.
        """
        return self._ranks.area_under_risk_coverage()

    def accuracy_at_coverage(self, coverage: float = 0.8) -> float:
        """Compute the accuracy on the most certain pixels.

        Parameters
        ----------
        coverage : float in (0, 1], default=0.8
            Share of the pixels to keep.

        Returns
        -------
        float in [0, 1]
            The accuracy, as `skuq.metrics.pixel_accuracy_at_coverage` gives it.
        """
        return self._ranks.accuracy_at_coverage(coverage)

    def uncertainty_error_auroc(self) -> float:
        """Compute the probability that an error is more uncertain than a right pixel.

        Returns
        -------
        float in [0, 1]
            The area under the ROC curve; NaN if all or none of the pixels are errors.
        """
        return self._ranks.error_auroc()

    def pavpu(self, threshold: float | None = None) -> PatchScores:
        """Compute patch accuracy vs patch uncertainty.

        Parameters
        ----------
        threshold : float, default=None
            Largest uncertainty of a certain patch; None takes the mean over all patches.

        Returns
        -------
        PatchScores
            The shares, as `skuq.metrics.pavpu_score` gives them.
        """
        return scores_of_patches(self._patches, threshold)

    def _mean(self, total: float) -> float:
        if not self.n_pixels_:
            raise ValueError("no pixel counts: all have the ignored label, or none were given")
        return float(total / self.n_pixels_)


def _batches(X: Any, y: Any, size: int) -> Iterator[tuple[Any, Any]]:
    """Yield images and masks, at most `size` at a time, or as an iterable gives them."""
    if y is None:
        yield from _batches_of_items(X, size) if isinstance(X, Dataset) else X
        return
    n_images = _num_samples(X)
    if n_images != len(y):
        raise ValueError(f"X and y must hold the same images, got {n_images} and {len(y)}")
    for start in range(0, n_images, size):
        rows = slice(start, min(start + size, n_images))
        yield _safe_indexing(X, rows), y[rows]


def _batches_of_items(dataset: Any, size: int) -> Iterator[tuple[Any, Any]]:
    """Stack the pairs (image, mask) of a Dataset, at most `size` at a time."""
    streams = isinstance(dataset, IterableDataset)
    items = iter(dataset) if streams else (dataset[k] for k in range(len(dataset)))
    while batch := list(islice(items, size)):
        images, masks = zip(*batch)
        yield np.stack([np.asarray(x) for x in images]), np.stack([np.asarray(y) for y in masks])

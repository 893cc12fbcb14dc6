"""Masks of a segmenter: a label for each pixel of an image, and the weights of the pixels."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.utils.validation import check_consistent_length, validate_data

from skuq._data._checks import given_weights, refuse_no_labels, shape_of
from skuq._data._streams import Streamed
from skuq._estimator._class_weights import weights_of_classes
from skuq._estimator._reading import Reading, TrainingData
from skuq._pixels import is_label
from skuq.likelihoods import Likelihood

__all__ = ["FreshMasks", "GivenWeights", "Masks"]

_IGNORED = -1  # the code of a pixel that does not count


class GivenWeights(NamedTuple):
    """Weights as `fit` got them: of images, and of pixels."""

    rows: Any
    pixels: Any


@dataclass
class FreshMasks:
    """Makes codes and weights of masks that a Dataset may change in each epoch.

    Attributes
    ----------
    reader : Masks
        Knows the labels.
    by_image, by_class : ndarray, or None
        Weights of the images and of the classes.
    mean : float
        The mean weight of all pixels, which becomes 1.
    fixed : pair of ndarray, or None
        Codes and weights of all images, if pixels have weights of their own.
    """

    reader: Any
    by_image: np.ndarray | None
    by_class: np.ndarray | None
    mean: float
    fixed: tuple[np.ndarray, np.ndarray | None] | None

    def __call__(self, masks: list[Any], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return codes and weights of masks, of the images with these numbers."""
        y = np.stack(masks)
        _check_whole_numbers(y, self.reader.ignore_label)
        target = self.reader._read_targets(y, reset=False, some_count=False)
        codes, counts = _known(target, self.reader._multilabel)
        if self.fixed is not None:
            before, weights = self.fixed
            if not np.array_equal(codes, before[rows]):
                raise ValueError(
                    "pixel_weight was given or made for masks that the Dataset changes each time: "
                    "give class_weight instead, or a Dataset that always gives the same masks"
                )
            return codes, None if weights is None else weights[rows]
        if counts.all() and self.by_image is None and self.by_class is None and self.mean == 1:
            return codes, None
        weight = counts.astype(np.float64)
        if self.by_image is not None:
            weight *= self.by_image[rows][:, None, None]
        if self.by_class is not None:
            weight *= self.by_class[codes]
        return codes, weight / self.mean


class Masks(Reading):
    """Mixin of the steps of `fit` that look at masks, of shape (n_samples, height, width).

    For several masks that may overlap, their shape is (n_samples, n_labels, height, width).
    """

    ignore_label: Any
    class_weight: Any
    classes_: np.ndarray
    _multilabel: bool
    _is_dense: ClassVar[bool] = True

    # -- checks ----------------------------------------------------------------------------------

    def _check_data(
        self, X: Any, y: Any, likelihood: Likelihood, checks: dict[str, Any], reset: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        name = type(self).__name__
        self._check_images(X)
        if y is None:
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        X = validate_data(self, X, reset=reset, **{**checks, "accept_sparse": False})
        y = self._checked_masks(y, X.shape, likelihood)
        return X, y, None

    def _check_images(self, X: Any) -> None:
        shape = shape_of(X)
        if len(shape) == 4:
            return
        hint = ""
        if len(shape) == 3:
            hint = ". If they have no axis of channels, give X[:, None]"
        raise ValueError(
            f"X must hold images, of shape (n_samples, n_channels, height, width), got shape "
            f"{shape}{hint}"
        )

    def _checked_masks(self, y: Any, shape: tuple[int, ...], likelihood: Likelihood) -> np.ndarray:
        try:
            masks = np.asarray(y)
        except ValueError:  # masks of several sizes
            masks = np.empty(len(y), dtype=object)
        expected = (shape[0], *shape[2:])
        several = likelihood.takes_indicators and masks.ndim == 4
        if several:
            expected = (shape[0], masks.shape[1], *shape[2:])
        if masks.shape != expected:
            raise ValueError(
                f"y has shape {masks.shape}, expected {expected}: one mask for each image, as high "
                f"and as wide as the images, which have shape {shape}.{_hint(masks, shape)}"
            )
        refuse_no_labels("y", masks)
        _check_whole_numbers(masks, self.ignore_label)
        return masks

    def _check_dimensions(self, X: Any) -> None:
        super()._check_dimensions(X)
        if X.shape[1] != self._row_shape[0]:
            raise ValueError(
                f"X has images of {X.shape[1]} channels, but {type(self).__name__} was fitted on "
                f"images of {self._row_shape[0]}; expected shape (n_samples, {self._row_shape[0]}, "
                "height, width)"
            )

    # -- labels ----------------------------------------------------------------------------------

    def _read_targets(
        self, y: np.ndarray, reset: bool, classes: Any = None, some_count: bool = True
    ) -> np.ndarray:
        """Return the code of each pixel: the number of its class, or −1 where it does not count."""
        several = y.ndim == 4
        if reset:
            self._multilabel = several
        elif self._multilabel != several:
            raise ValueError(
                f"y has shape {y.shape}, but the first fit of this segmenter had "
                f"{'several masks' if self._multilabel else 'one mask'} for each image"
            )
        labels = np.unique(y)
        counted = labels[~is_label(labels, self.ignore_label)]
        if not len(counted) and some_count:
            raise ValueError(
                f"every pixel of y is {self.ignore_label!r}, the ignore_label; nothing is learnt"
            )
        if several:
            return self._read_indicators(y, counted, reset)
        if reset:
            self.classes_ = counted if classes is None else np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"classes={classes!r} differs from the classes of the first fit, {self.classes_}"
            )
        unknown = np.setdiff1d(counted, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y contains labels {unknown[:5]} that are not in the classes {self.classes_}; set "
                "ignore_label for a label that does not count, give all labels as `classes` in the "
                "first call of partial_fit, or set warm_start=False to fit anew"
            )
        if len(self.classes_) < 2:
            raise ValueError(
                f"y contains only one class, {self.classes_}; a segmenter needs at least 2 classes"
            )
        return self._codes(y)

    def _codes(self, y: np.ndarray) -> np.ndarray:
        """Number the labels; image by image, so that memory holds only small integers."""
        small = np.int8 if len(self.classes_) < 128 else np.int32
        codes = np.empty(y.shape, dtype=small)
        for own, mask in zip(codes, y):
            own[:] = np.searchsorted(self.classes_, mask).clip(max=len(self.classes_) - 1)
            if self.ignore_label is not None:
                own[is_label(mask, self.ignore_label)] = _IGNORED
        return codes

    def _read_indicators(self, y: np.ndarray, counted: np.ndarray, reset: bool) -> np.ndarray:
        """Check several masks, 0 or 1; return codes of shape (n_samples, height, width, n_labels).

        A pixel does not count if one of its masks holds `ignore_label`.
        """
        if not np.isin(counted, (0, 1)).all():
            strange = counted[~np.isin(counted, (0, 1))][:1]
            raise ValueError(
                f"y of shape {y.shape} must hold only 0 and 1, got values such as {strange}: mask "
                "k of an image says where label k is. ignore_label marks pixels that do not count"
            )
        labels = np.arange(y.shape[1])
        if reset:
            self.classes_ = labels
        elif len(labels) != len(self.classes_):
            raise ValueError(
                f"y has {len(labels)} masks for each image, but the first fit of this segmenter "
                f"had {len(self.classes_)}"
            )
        codes = np.ascontiguousarray(np.moveaxis(y, 1, -1)).astype(np.int8)
        if self.ignore_label is not None:
            codes[is_label(y, self.ignore_label).any(axis=1)] = _IGNORED
        return codes

    def _check_warm_start(self, target: np.ndarray) -> None:
        absent = np.setdiff1d(np.arange(len(self.classes_)), target)
        if not self._multilabel and len(absent):
            raise ValueError(
                f"warm_start=True goes on with the classes {self.classes_} of the last fit, but no "
                f"pixel of y is {self.classes_[absent][:5]}; set warm_start=False to fit anew, or "
                "use partial_fit, whose masks need not hold every class"
            )

    # -- weights ---------------------------------------------------------------------------------

    def _weighted_rows(
        self, X: Any, target: np.ndarray, sample_weight: Any, groups: Any
    ) -> TrainingData:
        """Give pixels weights of mean 1, zero where they do not count; drop images without any."""
        given = sample_weight if isinstance(sample_weight, GivenWeights) else None
        by_image, by_pixel = given or (sample_weight, None)
        check_consistent_length(X, target, groups)
        if groups is not None:
            refuse_no_labels("groups", groups)
        by_image = given_weights(by_image, X)
        places = target.shape[1:3]
        codes, counts = _known(target, self._multilabel)
        weight = counts.astype(np.float64)
        if by_pixel is not None:
            weight *= self._given_pixel_weights(by_pixel, codes, counts)
        if by_image is not None:
            weight *= by_image[:, None, None]
        by_class = self._weights_by_class(codes, weight)
        if by_class is not None:
            weight *= by_class[codes]
        self._check_some_count(codes, weight)
        kept = weight.any(axis=(1, 2))
        amount = float(weight.sum())
        if not kept.all():
            X = X.subset(kept) if isinstance(X, Streamed) else X[kept]
            codes, weight = codes[kept], weight[kept]
            groups = None if groups is None else np.asarray(groups)[kept]
        alike = bool((weight == weight.flat[0]).all())
        weighted = None if alike else weight / weight.mean()
        fresh = None
        if isinstance(X, Streamed) and X.has_pairs:
            fresh = FreshMasks(
                reader=copy.copy(self),  # the labels of this fit
                by_image=None if by_image is None else by_image[kept],
                by_class=by_class,
                mean=float(weight.mean()),
                fixed=None if by_pixel is None else (codes, weighted),
            )
        return TrainingData(X, codes, weighted, groups, amount, by_class, fresh, places)

    def _given_pixel_weights(
        self, pixel_weight: Any, codes: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """Return weights of shape (n_samples, height, width), given or made by a rule."""
        if isinstance(pixel_weight, str):
            if self._multilabel:
                raise ValueError(
                    f"pixel_weight={pixel_weight!r} needs one mask for each image; with several "
                    "give an array of shape (n_samples, height, width)"
                )
            from skuq._data._pixel_weights import pixel_weights

            weights: np.ndarray = pixel_weights(pixel_weight, codes, len(self.classes_), counts)
            return weights
        try:
            weights = np.asarray(pixel_weight, dtype=np.float64)
        except (TypeError, ValueError):
            weights = np.empty(0)
        if weights.shape != counts.shape:
            raise ValueError(
                f"pixel_weight has shape {weights.shape}, expected {counts.shape}, a number for "
                "each pixel, or the name of a rule"
            )
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError(
                "pixel_weight must be finite and not negative, got values from "
                f"{weights.min():.3g} to {weights.max():.3g}; weight 0 leaves a pixel out"
            )
        return weights

    def _weights_by_class(self, codes: np.ndarray, weight: np.ndarray) -> np.ndarray | None:
        if self.class_weight is None:
            return None
        if self._multilabel:
            raise ValueError(
                "class_weight needs one mask for each image; with several give pixel_weight"
            )
        counted = weight > 0
        return weights_of_classes(self.class_weight, self.classes_, codes[counted], weight[counted])

    def _check_some_count(self, codes: np.ndarray, weight: np.ndarray) -> None:
        if not weight.any():
            raise ValueError(
                "the weights of all pixels are zero (ignore_label, pixel_weight, class_weight and "
                "sample_weight together); nothing can be learnt"
            )
        left = np.unique(codes[weight > 0])
        if not self._multilabel and len(left) == 1:
            raise ValueError(
                f"only one class is left after pixels of weight zero are removed, "
                f"{self.classes_[left]}; a segmenter needs at least 2 classes"
            )


def _known(target: np.ndarray, several: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return codes without −1, and where a pixel counts."""
    counts = target >= 0
    if several:
        counts = np.asarray(counts.all(axis=-1))
    return np.maximum(target, 0), counts


def _hint(masks: np.ndarray, shape: tuple[int, ...]) -> str:
    if masks.shape == (shape[0], 1, *shape[2:]):
        return " Give y[:, 0]."
    if masks.ndim == 4:
        return (
            " For several masks of an image, which may overlap, use likelihood=Bernoulli(); from "
            "one-hot masks of classes take y.argmax(axis=1)."
        )
    if masks.ndim == 3 and masks.shape[0] == shape[0]:
        return " Enlarge masks without new labels: by nearest neighbours."
    return ""


def _check_whole_numbers(masks: np.ndarray, ignore_label: Any) -> None:
    """Refuse masks of floats that are no labels."""
    if masks.dtype.kind != "f":
        return
    counted = masks[~is_label(masks, ignore_label)]
    if not np.isfinite(counted).all():
        raise ValueError(
            "y contains NaN or infinity; mark pixels that do not count by a label, "
            "and give it as ignore_label (which may be NaN)"
        )
    fractions = counted[counted != np.round(counted)]
    if len(fractions):
        raise ValueError(
            f"y holds fractions such as {fractions[0]:g}, expected a label for each pixel. If the "
            "masks are probabilities, give y > 0.5; if they were resized, resize them by nearest "
            "neighbours, which makes no new values"
        )

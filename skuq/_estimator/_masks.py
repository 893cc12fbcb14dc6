"""Masks of a segmenter: a label for each pixel of an image, and the weights of the pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from skuq._data._checks import refuse_no_labels
from skuq._estimator._class_weights import weights_of_classes
from skuq._estimator._images import Images, channels_last
from skuq._pixels import check_ignore_label, is_label
from skuq.likelihoods import Likelihood

__all__ = ["Masks"]

_IGNORED = -1  # the code of a pixel that does not count


class Masks(Images):
    """Mixin of the steps of `fit` that look at masks, of shape (n_samples, height, width).

    For several masks that may overlap, their shape is (n_samples, n_labels, height, width).
    """

    ignore_label: Any
    class_weight: Any
    classes_: np.ndarray
    _multilabel: bool

    def _checked_maps(self, y: Any, shape: tuple[int, ...], likelihood: Likelihood) -> np.ndarray:
        if likelihood.takes_probabilities:
            raise ValueError(
                "a segmenter needs a label for each pixel, not probabilities of classes: leave "
                "soft_labels of the likelihood out"
            )
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
        refuse_no_labels(
            "y", masks, "give these pixels a label of their own, and name it as ignore_label"
        )
        check_ignore_label(self.ignore_label, masks)
        _check_whole_numbers(masks, self.ignore_label)
        return masks

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
        if classes is not None:
            classes = np.unique(classes)
            classes = classes[~is_label(classes, self.ignore_label)]
        if reset:
            self.classes_ = counted if classes is None else classes
        elif classes is not None and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"classes={classes} differs from the classes of the first fit, {self.classes_}"
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

    def _counted(self, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts = target >= 0
        if self._multilabel:
            counts = np.asarray(counts.all(axis=-1))
        return np.maximum(target, 0), counts

    def _read_again(self, y: np.ndarray) -> np.ndarray:
        _check_whole_numbers(y, self.ignore_label)
        return self._read_targets(y, reset=False, some_count=False)

    def _weights_by_rule(self, rule: str, target: np.ndarray, counts: np.ndarray) -> np.ndarray:
        if self._multilabel:
            raise ValueError(
                f"pixel_weight={rule!r} needs one mask for each image; with several give an array "
                "of shape (n_samples, height, width)"
            )
        from skuq._data._pixel_weights import pixel_weights

        weights: np.ndarray = pixel_weights(rule, target, len(self.classes_), counts)
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

    def _check_targets(self, target: np.ndarray, weight: np.ndarray | None) -> None:
        left = np.unique(target if weight is None else target[weight > 0])
        if not self._multilabel and len(left) == 1:
            raise ValueError(
                f"only one class is left after pixels of weight zero are removed, "
                f"{self.classes_[left]}; a segmenter needs at least 2 classes"
            )


def _hint(masks: np.ndarray, shape: tuple[int, ...]) -> str:
    if masks.shape == (shape[0], 1, *shape[2:]):
        return " Give y[:, 0]."
    if masks.shape == (*shape[:3], 1):
        return " Give y[..., 0], and np.moveaxis(X, -1, 1): channels come before height and width."
    if masks.shape == (*shape[:1], *shape[2:], 1):
        return " Give y[..., 0]."
    if masks.shape == shape[:3]:
        return " " + channels_last(shape, shape[3])[2:] + "."
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

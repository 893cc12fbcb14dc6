"""Images with a target for each pixel: their checks, and the weights of the pixels."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.utils.validation import check_consistent_length, validate_data

from skuq._data._checks import given_weights, refuse_no_groups, shape_of
from skuq._data._streams import Streamed
from skuq._estimator._reading import Reading, TrainingData
from skuq.likelihoods import Likelihood

__all__ = ["FreshMaps", "GivenWeights", "Images", "channels_last"]


class GivenWeights(NamedTuple):
    """Weights as `fit` got them: of images, and of pixels."""

    rows: Any
    pixels: Any


@dataclass
class FreshMaps:
    """Makes targets and weights of masks that a Dataset may change in each epoch.

    Attributes
    ----------
    reader : Images
        Knows the labels.
    by_image, by_class : ndarray, or None
        Weights of the images and of the classes.
    mean : float
        The mean weight of all pixels, which becomes 1.
    fixed : pair of ndarray, or None
        Targets and weights of all images, if pixels have weights of their own.
    """

    reader: Any
    by_image: np.ndarray | None
    by_class: np.ndarray | None
    mean: float
    fixed: tuple[np.ndarray, np.ndarray | None] | None

    def __call__(self, masks: list[Any], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return targets and weights of masks, of the images with these numbers."""
        target, counts = self.reader._counted(self.reader._read_again(np.stack(masks)))
        if self.fixed is not None:
            before, weights = self.fixed
            if not np.array_equal(target, before[rows]):
                raise ValueError(
                    "pixel_weight was given or made for masks that the Dataset changes each time: "
                    "give class_weight instead, or a Dataset that always gives the same masks"
                )
            return target, None if weights is None else weights[rows]
        if counts.all() and self.by_image is None and self.by_class is None and self.mean == 1:
            return target, None
        weight = counts.astype(np.float64)
        if self.by_image is not None:
            weight *= self.by_image[rows][:, None, None]
        if self.by_class is not None:
            weight *= self.by_class[target]
        return target, weight / self.mean


class Images(Reading):
    """Mixin of the steps of `fit` and `predict` that look at images, and at maps of targets."""

    _is_dense: ClassVar[bool] = True

    # -- given by a subclass ---------------------------------------------------------------------

    def _checked_maps(self, y: Any, shape: tuple[int, ...], likelihood: Likelihood) -> np.ndarray:
        """Check the targets of images of this shape."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _checked_maps")

    def _read_again(self, y: np.ndarray) -> np.ndarray:
        """Read targets that a Dataset gives anew, as `_read_targets` did."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _read_again")

    def _counted(self, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return targets with a value in each pixel, and where a pixel counts."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _counted")

    def _weights_by_rule(self, rule: str, target: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Make weights of pixels by the name of a rule."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _weights_by_rule")

    def _weights_by_class(self, target: np.ndarray, weight: np.ndarray) -> np.ndarray | None:
        """Compute the weight of each class, if there are any."""
        return None

    # -- checks ----------------------------------------------------------------------------------

    def _check_data(
        self, X: Any, y: Any, likelihood: Likelihood, checks: dict[str, Any], reset: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        name = type(self).__name__
        self._check_images(X)
        if y is None:
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        X = validate_data(self, X, reset=reset, **{**checks, "accept_sparse": False})
        return X, self._checked_maps(y, X.shape, likelihood), None

    def _check_images(self, X: Any) -> None:
        shape = shape_of(X)
        if len(shape) == 4:
            return
        hint = ""
        if not shape:
            hint = ". Images of several sizes have none: resize, pad or crop them"
        if len(shape) == 3:
            hint = ". If they have no axis of channels, give X[:, None]"
        raise ValueError(
            f"X must hold images, of shape (n_samples, n_channels, height, width), got shape "
            f"{shape}{hint}"
        )

    def _check_dimensions(self, X: Any) -> None:
        super()._check_dimensions(X)
        if X.shape[1] != self._row_shape[0]:
            raise ValueError(
                f"X has images of {X.shape[1]} channels, but {type(self).__name__} was fitted on "
                f"images of {self._row_shape[0]}; expected shape (n_samples, {self._row_shape[0]}, "
                f"height, width){channels_last(X.shape, self._row_shape[0])}"
            )

    # -- weights ---------------------------------------------------------------------------------

    def _weighted_rows(
        self,
        X: Any,
        target: np.ndarray,
        sample_weight: Any,
        groups: Any,
        known: TrainingData | None = None,
    ) -> TrainingData:
        """Give pixels weights of mean 1, zero where they do not count; drop images without any."""
        given = sample_weight if isinstance(sample_weight, GivenWeights) else None
        by_image, by_pixel = given or (sample_weight, None)
        check_consistent_length(X, target, groups)
        if groups is not None:
            refuse_no_groups(groups)
        by_image = given_weights(by_image, X)
        places = target.shape[1:3]
        target, counts = self._counted(target)
        weight = counts.astype(np.float64)
        if by_pixel is not None:
            weight *= self._given_pixel_weights(by_pixel, target, counts)
        if by_image is not None:
            weight *= by_image[:, None, None]
        by_class = known.by_class if known else self._weights_by_class(target, weight)
        if by_class is not None:
            weight *= by_class[target]
        self._check_some_count(target, weight)
        kept = weight.any(axis=(1, 2))
        amount = float(weight.sum())
        if not kept.all():
            X = X.subset(kept) if isinstance(X, Streamed) else X[kept]
            target, weight = target[kept], weight[kept]
            groups = None if groups is None else np.asarray(groups)[kept]
        alike = bool((weight == weight.flat[0]).all())
        weighted = None if alike else weight / weight.mean()
        fresh = None
        if isinstance(X, Streamed) and X.has_pairs:
            fresh = FreshMaps(
                reader=copy.copy(self),  # the labels of this fit
                by_image=None if by_image is None else by_image[kept],
                by_class=by_class,
                mean=float(weight.mean()),
                fixed=None if by_pixel is None else (target, weighted),
            )
        return TrainingData(X, target, weighted, groups, amount, by_class, fresh, places)

    def _given_pixel_weights(
        self, pixel_weight: Any, target: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """Return weights of shape (n_samples, height, width), given or made by a rule."""
        if isinstance(pixel_weight, str):
            return self._weights_by_rule(pixel_weight, target, counts)
        try:
            weights: np.ndarray = np.asarray(pixel_weight, dtype=np.float64)
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

    def _check_some_count(self, target: np.ndarray, weight: np.ndarray) -> None:
        if not weight.any():
            raise ValueError(
                "the weights of all pixels are zero (ignore_label, pixel_weight, class_weight and "
                "sample_weight together); nothing can be learnt"
            )


def channels_last(shape: tuple[int, ...], n_channels: int) -> str:
    """Say how to fix images of shape (n_samples, height, width, n_channels); "" for others."""
    if shape[-1] != n_channels:
        return ""
    return ". Their channels seem to come last: give np.moveaxis(X, -1, 1)"

"""Scores of attributions: overlap with a known region, and what repairing top pixels does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import hypergeom
from torch import Tensor

from skuq._utils._messages import checked_level
from skuq._utils._typing import ArrayLike, MatrixLike, RandomState
from skuq.attribution._checks import check_name, seed_of
from skuq.attribution._images import ImageRows
from skuq.attribution._perturbations import blur, blur_width, fill_in
from skuq.attribution._result import Attribution
from skuq.attribution._segments import consecutive
from skuq.attribution._target import Target, target_of

__all__ = [
    "Detection",
    "Overlap",
    "Reduction",
    "detection_accuracy",
    "iou",
    "segment_ceiling",
    "uncertainty_reduction",
]

_N_RANDOM = 3  # random choices of pixels for each image


class Overlap(NamedTuple):
    """The result of `iou`.

    Attributes
    ----------
    iou : ndarray of shape (n,)
        Intersection over union of each image.
    chance : ndarray of shape (n,)
        The mean of a random order of the pixels, about.
    """

    iou: np.ndarray
    chance: np.ndarray


class Detection(NamedTuple):
    """The result of `detection_accuracy`.

    Attributes
    ----------
    accuracy : float
        Share of the images whose region is found.
    standard_error : float
        Its standard error.
    chance : float
        The share that a random order of the pixels finds.
    """

    accuracy: float
    standard_error: float
    chance: float


class Reduction(NamedTuple):
    """The result of `uncertainty_reduction`.

    Attributes
    ----------
    reduction : ndarray of shape (n, n_shares)
        (U(x) − U(x')) / U(x), where x' has the pixels with the highest values repaired.
    chance : ndarray of shape (n, n_shares)
        The same for as many random pixels.
    """

    reduction: np.ndarray
    chance: np.ndarray


def iou(values: Attribution | ArrayLike, regions: ArrayLike) -> Overlap:
    """Compute the overlap of the top pixels with a known region, which has as many pixels.

    If pixels tie at the threshold, as those of a segment do, each counts as the same fraction.

    Parameters
    ----------
    values : Attribution or array-like of shape (n, height, width)
        The attribution of images; higher pixels are chosen first.
    regions : array-like of bool of shape (n, height, width)
        The known regions.

    Returns
    -------
    Overlap
        Named tuple of iou and chance, |A ∩ R| / |A ∪ R| for the chosen pixels A of each image. A
        random order has |A ∩ R| = a |R| on average, for a region of share a, so a / (2 − a).

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or a region is empty or everything.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.attribution import iou
    >>> region = np.zeros((1, 2, 4), dtype=bool)
    >>> region[0, 0] = True
    >>> overlap = iou(region * 1.0, region)
    >>> overlap.iou.tolist(), overlap.chance.round(3).tolist()
    ([1.0], [0.333])
    """
    scores, truth = _checked(values, regions)
    size = truth.sum(1)
    found = np.empty(len(scores))
    for row, (score, inside, k) in enumerate(zip(scores, truth, size)):
        threshold = np.partition(score, -k)[-k]
        above, ties = score > threshold, score == threshold
        fraction = (k - above.sum()) / ties.sum()
        common = (above & inside).sum() + fraction * (ties & inside).sum()
        found[row] = common / (2 * k - common)
    share = size / truth.shape[1]
    return Overlap(found, share / (2 - share))


def detection_accuracy(
    values: Attribution | ArrayLike, regions: ArrayLike, threshold: float = 0.5
) -> Detection:
    """Compute in which share of the images the region is found: its `iou` is above a threshold.

    Parameters
    ----------
    values, regions : as in `iou`
        The attribution and the known regions.
    threshold : float in (0, 1), default=0.5
        The overlap that counts as found.

    Returns
    -------
    Detection
        Named tuple of accuracy, standard_error and chance. The last is exact: the overlap of random
        pixels is hypergeometric.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.attribution import detection_accuracy
    >>> region = np.zeros((3, 8, 8), dtype=bool)
    >>> region[:, :4, :4] = True
    >>> detection_accuracy(region * 1.0, region).accuracy
    1.0
    """
    threshold = checked_level("threshold", threshold)
    hits = iou(values, regions).iou > threshold
    truth = np.asarray(regions).reshape(len(hits), -1)
    size, n_pixels = truth.sum(1), truth.shape[1]
    needed = np.floor(2 * threshold * size / (1 + threshold) + 1e-9)
    chance = hypergeom.sf(needed, n_pixels, size, size)
    share = float(hits.mean())
    error = float(np.sqrt(share * (1 - share) / len(hits)))
    return Detection(share, error, float(chance.mean()))


def segment_ceiling(segments: Attribution | ArrayLike, regions: ArrayLike) -> np.ndarray:
    """Compute the best overlap that any union of segments has with a known region.

    Parameters
    ----------
    segments : Attribution or array-like of int of shape (n, height, width)
        The segments of each image, such as `Attribution.segments`.
    regions : array-like of bool of shape (n, height, width)
        The known regions.

    Returns
    -------
    ndarray of shape (n,)
        The highest intersection over union of each image.

    Raises
    ------
    ValueError
        If shapes differ, a region is empty or everything, or the attribution has no segments.
    TypeError
        If segments are not integers, or regions not boolean.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.attribution import segment_ceiling
    >>> segment_ceiling([[[0, 0, 1, 1]]], [[[True, True, True, False]]]).round(2).tolist()
    [0.75]
    """
    given = segments.segments if isinstance(segments, Attribution) else np.asarray(segments)
    if given is None:
        raise ValueError(
            "the attribution has no segments, since its method has none; expected one of "
            "'optimized', or made with segments="
        )
    if given.dtype.kind not in "iub":
        raise TypeError(
            f"segments must be integers, the label of each pixel, got {given.dtype}; an "
            "attribution has them in its `segments`"
        )
    labels, truth = _checked(given, regions, "segments")
    best = np.empty(len(labels))
    for row, (label, inside) in enumerate(zip(map(consecutive, labels), truth)):
        within = np.bincount(label, inside)
        outside = np.bincount(label) - within
        order = np.argsort(-within / np.maximum(within + outside, 1), kind="stable")
        best[row] = (within[order].cumsum() / (inside.sum() + outside[order].cumsum())).max()
    return best


def _checked(values: Any, regions: Any, name: str = "values") -> tuple[np.ndarray, np.ndarray]:
    given = values.values if isinstance(values, Attribution) else values
    scores, truth = np.asarray(given, dtype=float), np.asarray(regions)
    if scores.ndim != 3 or scores.shape != truth.shape or not len(scores):
        raise ValueError(
            f"{name} and regions must have the same shape (n, height, width) with n of at least 1, "
            f"got {scores.shape} and {truth.shape}"
        )
    if truth.dtype != bool:
        raise TypeError(f"regions must be boolean, got {truth.dtype}; write regions > 0")
    if not np.isfinite(scores).all():
        raise ValueError("values contain NaN or infinity")
    flat = truth.reshape(len(truth), -1)
    if not flat.any(1).all() or flat.all(1).any():
        raise ValueError("each region must have some pixels, and not all of them")
    return scores.reshape(len(scores), -1), flat


def _blurred(x: Tensor, mask: Tensor) -> Tensor:
    return blur(x, 1.5 * blur_width(*x.shape[2:]))


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True).expand_as(x)


def _inpainted(x: Tensor, mask: Tensor) -> Tensor:
    return fill_in(x, mask, blur_width(*x.shape[2:]))


FILLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "blur": _blurred,
    "mean": _mean,
    "inpaint": _inpainted,
}


@torch.inference_mode(False)  # the caller may have switched gradients off
@torch.enable_grad()
def uncertainty_reduction(
    estimator: Any,
    X: MatrixLike,
    values: Attribution | ArrayLike,
    *,
    q: float | Sequence[float] = (0.02, 0.05),
    fill: str = "blur",
    kind: str | None = None,
    measure: str = "entropy",
    image_shape: tuple[int, ...] | None = None,
    random_state: RandomState = 0,
) -> Reduction:
    """Compute how far the uncertainty falls when the top pixels are repaired.

    Pixels of equal value, as in a segment, are ordered by the gradient: by how much it expects the
    repair of each to lower the uncertainty. Without a gradient their order is random.

    Parameters
    ----------
    estimator : object
        As in `attribute_uncertainty`.
    X : array-like of shape (n, height, width), (n, n_channels, height, width) or (n, n_pixels)
        The images.
    values : Attribution or array-like of shape (n, height, width)
        Their attribution; higher pixels are repaired first.
    q : float or sequence of float in (0, 1), default=(0.02, 0.05)
        Shares of the pixels to repair.
    fill : {"blur", "mean", "inpaint"}, default="blur"
        What repaired pixels show: the image blurred by a Gaussian (3 pixels wide for a side of 28),
        the mean of each channel, or what the other pixels around suggest. Each favours methods that
        search with the same, so compare several.
    kind : {"total", "aleatoric", "epistemic"}, default=None
        The part of the uncertainty. None takes that of the Attribution, and "total" for an array.
    measure : str, default="entropy"
        How to measure the uncertainty of a classifier, as in `attribute_uncertainty`.
    image_shape : tuple of int, default=None
        How images lie in flat rows; None takes that of the Attribution.
    random_state : int, RandomState or None, default=0
        Seed of the random pixels.

    Returns
    -------
    Reduction
        Named tuple of reduction and chance, each of shape (n, n_shares). They are negative where
        the uncertainty rises, and NaN where there was none.

    Raises
    ------
    ValueError
        If shapes differ or an argument is unknown or out of range.

    Examples
    --------
    >>> import torch
    >>> from skuq.attribution import attribute_uncertainty, uncertainty_reduction
    >>> X = torch.zeros(1, 10, 10)
    >>> X[0, 4, 5] = 1.0
    >>> uncertainty = lambda x: (x**2).sum((1, 2))
    >>> found = attribute_uncertainty(uncertainty, X, segments="pixels", sparsity=1.0)
    >>> reduction = uncertainty_reduction(uncertainty, X, found, q=0.01).reduction
    >>> bool(reduction[0, 0] > 0.9)
    True
    """
    check_name("fill", fill, FILLS)
    shares = [checked_level("q", share) for share in np.atleast_1d(np.asarray(q)).tolist()]
    if isinstance(values, Attribution):
        kind = kind or values.kind
        image_shape = values.image_shape if image_shape is None else image_shape
    images = ImageRows(X, image_shape)
    target = target_of(estimator, kind or "total", measure, X)
    n, _, height, width = images.tensor.shape
    given = np.asarray(values.values if isinstance(values, Attribution) else values, dtype=float)
    if given.shape != (n, height, width) or not np.isfinite(given).all():
        raise ValueError(
            f"values must be finite and of shape {(n, height, width)}, got shape {given.shape}"
        )
    random = np.random.default_rng(seed_of(random_state))
    expected = _expected_fall(images, target, fill)
    ties = random.random(given.shape) if expected is None else expected
    order = np.lexsort((-ties.reshape(n, -1), -given.reshape(n, -1)))
    orders = [order, *(random.permuted(order, axis=1) for _ in range(_N_RANDOM))]
    before = images.numbers(target, images.tensor)
    found = np.empty((len(orders), n, len(shares)))
    for k, share in enumerate(shares):
        n_pixels = max(1, round(share * height * width))
        for which, each in enumerate(orders):
            mask = np.zeros((n, height * width), dtype=bool)
            np.put_along_axis(mask, each[:, :n_pixels], True, axis=1)
            after = images.numbers(target, _repaired(images.tensor, mask, fill))
            with np.errstate(all="ignore"):
                found[which, :, k] = np.where(before > target.smallest, 1 - after / before, np.nan)
    return Reduction(found[0], found[1:].mean(0))


def _repaired(x: Tensor, mask: np.ndarray, fill: str) -> Tensor:
    where = torch.from_numpy(mask).reshape(len(x), 1, *x.shape[2:])
    return torch.where(where, FILLS[fill](x, where.to(x.dtype)), x)


def _expected_fall(images: ImageRows, target: Target, fill: str) -> np.ndarray | None:
    """Return by how much a repair of each pixel lowers the uncertainty, to first order.

    Its shape is (n, height, width); it is None without a gradient.
    """
    if target.function is None or target.prefix is not None:
        return None
    parts = []
    for part in images.tensor.split(64):
        x = part.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(images.uncertainty(target, x, True).sum(), x)
        change = part - FILLS[fill](part, torch.zeros_like(part[:, :1]))
        parts.append((gradient * change).sum(1))
    return torch.cat(parts).double().numpy()

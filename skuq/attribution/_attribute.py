"""Attribute the uncertainty of rows to their pixels or columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from skuq._utils._messages import warn
from skuq._utils._progress import bar
from skuq._utils._random import PrivateGlobals
from skuq._utils._typing import MatrixLike, RandomState
from skuq.attribution._checks import check_name, check_number, seed_of
from skuq.attribution._images import ImageRows, are_images
from skuq.attribution._methods import BY_GRADIENT, BY_SEGMENTS
from skuq.attribution._perturbations import Perturbation
from skuq.attribution._problem import Problem
from skuq.attribution._result import Attribution
from skuq.attribution._search import Found, exhaustive, gumbel, single_flips
from skuq.attribution._segments import segments_of_images
from skuq.attribution._tables import TableRows
from skuq.attribution._target import Target, target_of
from skuq.attribution._work import ImageWork, TableWork, Work

__all__ = ["METHODS", "attribute_uncertainty"]

METHODS = ("optimized", "occlusion", *BY_SEGMENTS, *BY_GRADIENT)
OPTIMIZERS = ("greedy", "gumbel", "exhaustive")
PERTURBATIONS = ("infill", "blur")
N_NOISES = 4  # masks for each row in a step of "gumbel"


@torch.inference_mode(False)  # the caller may have switched gradients off
@torch.enable_grad()
def attribute_uncertainty(
    estimator: Any,
    X: MatrixLike,
    *,
    kind: str = "total",
    method: str = "optimized",
    segments: Any = None,
    perturbation: str | Perturbation | None = None,
    sparsity: float = 3.0,
    optimizer: str = "greedy",
    image_shape: tuple[int, ...] | None = None,
    background: MatrixLike | None = None,
    measure: str = "entropy",
    n_segments: int = 50,
    n_samples: int | None = None,
    batch_size: int = 256,
    random_state: RandomState = 0,
    verbose: int = 0,
) -> Attribution:
    """Attribute the uncertainty of rows to their pixels or columns.

    Method "optimized" searches the mask M of a few segments whose replacement lowers the
    uncertainty most for its area, after [1]_: it minimises U((1 − M) x + M x̂) / U(x) + λ area(M).
    The other methods are those of captum, on the same uncertainty, whose draws are fixed.

    Parameters
    ----------
    estimator : object
        A fitted skuq estimator or calibrator, or a scikit-learn Pipeline or search around one. Any
        other object whose uncertainty skuq can compute will do for methods without gradients. Or a
        differentiable function from a tensor of rows, of the type of X (modules get that of their
        parameters), to a tensor of shape (n,).
    X : array-like or DataFrame
        Rows, as the estimator takes them: images of shape (n, height, width) or (n, n_channels,
        height, width), flat images with `image_shape`, or a table of shape (n, n_columns).
    kind : {"total", "aleatoric", "epistemic"}, default="total"
        The part of the uncertainty to attribute.
    method : str, default="optimized"
        "optimized"; "occlusion" (replace one window or segment at a time), "kernel_shap" [2]_,
        "lime" [3]_; by gradients "gradient", "smoothgrad" [4]_, "integrated_gradients" [5]_ (from
        the replacement of the whole row to the row). "ua_backprop" is experimental: it divides U
        in proportion to the sizes of input times gradient, so that values are never negative and
        sum to U. It shares this with UA-Backprop [6]_, not the coefficients.
    segments : {"slic", "grid", "pixels"}, array-like or callable, default=None
        Parts that are attributed as a whole. For images: superpixels of SLIC, squares, single
        pixels, integer labels of shape (height, width) or (n, height, width), or a function from
        an image of shape (height, width, n_channels) to labels of its pixels or to boolean masks
        (n_masks, height, width); where those overlap, the smaller counts. None means "slic" for
        "optimized", "kernel_shap" and "lime", and no segments for the others. For tables: the group
        of each column; None leaves each column by itself.
    perturbation : {"infill", "blur"} or callable, default=None
        What stands in the place of replaced pixels: what the pixels around the mask suggest, the
        blurred image, or a function of tensors, images (m, n_channels, height, width) and masks (m,
        1, height, width), to images. None means "infill" for "optimized" and "blur" for the
        others. With "gumbel", the width of "blur" is learnt for each image. Tables ignore it.
    sparsity : float, default=3.0
        λ, the cost of the whole area in units of U(x). A mask of 5 % of the area must lower the
        uncertainty by at least 15 % at 3.
    optimizer : {"greedy", "gumbel", "exhaustive"}, default="greedy"
        How "optimized" searches: add or remove the best segment until none helps; Gumbel-sigmoid
        weights, learnt with straight-through gradients and then improved by single changes; or
        every mask, for at most 12 segments.
    image_shape : tuple of int, default=None
        (height, width) or (n_channels, height, width) of images in flat rows.
    background : array-like or DataFrame, default=None
        For tables, rows that show which values are usual, such as the training set. A replaced
        column gets its lower median, or its most frequent value if it holds no numbers. None
        takes X.
    measure : str, default="entropy"
        How to measure the uncertainty of a classifier, as in its `predict_uncertainty`.
    n_segments : int, default=50
        About how many segments "slic" and "grid" make.
    n_samples : int, default=None
        Masks that "kernel_shap" and "lime" evaluate for each row; None means 512 and two for each
        segment.
    batch_size : int, default=256
        How many perturbed rows are evaluated at a time.
    random_state : int, RandomState or None, default=0
        Seed of methods that sample.
    verbose : int, default=0
        1 shows a progress bar, if tqdm is installed.

    Returns
    -------
    Attribution
        Values of pixels or columns, the mask and the refined rows of "optimized", and the
        uncertainty before and after.

    Raises
    ------
    ValueError
        If a name is unknown, shapes do not fit, or an uncertainty is not finite.
    TypeError
        If a method needs a gradient that the estimator does not have; the message says why.

    Notes
    -----
    Steps of a Pipeline before the network are attributed as a whole. Linear scalers and PCA are
    differentiated. For others, such as a ColumnTransformer, inputs of the network count for the
    column that they come from, so one-hot columns are summed to their source. Gradients of
    tables are multiplied by the standard deviation of the input in `background`, so that units do
    not matter. "smoothgrad" takes noise of 15 % of the range of X, drawn for all rows at once: the
    values of a row depend a little on the rows beside it.

    References
    ----------
    .. [1] "Optimization-based Uncertainty Attribution Via Learning Informative
       Perturbations", ECCV 2024. Segments, replacement and search are skuq's own choice where the
       source leaves them open.
    .. [2] S. Lundberg, S. Lee, "A Unified Approach to Interpreting Model Predictions", NeurIPS
       2017, arXiv:1705.07874.
    .. [3] M. Ribeiro et al., "Why Should I Trust You?", KDD 2016, arXiv:1602.04938.
    .. [4] D. Smilkov et al., "SmoothGrad: removing noise by adding noise", arXiv:1706.03825.
    .. [5] M. Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017,
       arXiv:1703.01365.
    .. [6] H. Wang, D. Joshi, S. Wang, Q. Ji, "Gradient-based Uncertainty Attribution for
       Explainable Bayesian Deep Learning", CVPR 2023, arXiv:2304.04824.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> from skuq.attribution import attribute_uncertainty
    >>> X, y = load_iris(return_X_y=True)
    >>> network = TorchClassifier(max_epochs=20, random_state=0).fit(X, y)
    >>> found = attribute_uncertainty(network, X, method="integrated_gradients")
    >>> found.values.shape
    (150, 4)
    """
    seed = seed_of(random_state)
    _check_names(method, optimizer, perturbation)
    check_number("sparsity", sparsity, 0)
    check_number("n_segments", n_segments, 1, whole=True)
    check_number("batch_size", batch_size, 1, whole=True)
    if n_samples is not None:
        check_number("n_samples", n_samples, 1, whole=True)
    target = target_of(estimator, kind, measure, X)
    if method == "optimized" and optimizer == "gumbel" and target.function is None:
        raise TypeError(
            "optimizer='gumbel' needs a gradient, which this estimator does not have: "
            f"{target.why_not}. Take optimizer='greedy'"
        )
    work: Work
    if are_images(X, image_shape):
        images = ImageRows(X, image_shape)
        labels = _labels(images, method, segments, n_segments)
        default = "infill" if method == "optimized" else "blur"
        work = ImageWork(images, labels, target, perturbation or default, batch_size)
    else:
        work = TableWork(TableRows(X, background, target.prefix), segments, target, batch_size)
    before = work.uncertainty()
    active = _worth_it(before, target)
    size = max(1, batch_size // N_NOISES)
    groups = [active[first : first + size] for first in range(0, len(active), size)]
    progress = bar(groups, verbose, desc=f"attribution, {method}", unit="batch")
    values, found = np.zeros(work.shape), _Masked(work, before)
    with PrivateGlobals(seed):  # a perturbation of the user may draw
        for group in progress:
            if method == "optimized":
                problem = work.problem(group, before[group])
                values[group] = found.add(
                    group, problem, _searched(problem, optimizer, sparsity, seed)
                )
            else:
                values[group] = work.values(method, group, before[group], n_samples, seed)
    has_mask = method == "optimized"
    return Attribution(
        values=values,
        mask=found.mask if has_mask else None,
        uncertainty=before,
        refined=found.rows if has_mask else None,
        refined_uncertainty=found.uncertainty if has_mask else None,
        segments=work.segments,
        X=work.X,
        image_shape=work.image_shape,
        feature_names=work.names,
        kind=kind,
        method=method,
    )


def _check_names(method: str, optimizer: str, perturbation: Any) -> None:
    check_name("method", method, METHODS)
    check_name("optimizer", optimizer, OPTIMIZERS)
    if perturbation is not None and not callable(perturbation):
        check_name("perturbation", perturbation, PERTURBATIONS)


def _labels(images: ImageRows, method: str, segments: Any, n_segments: int) -> np.ndarray | None:
    """Return the segments of images, for methods that have them or users who want them."""
    if segments is None and method not in ("optimized", *BY_SEGMENTS):
        return None
    chosen = "slic" if segments is None else segments
    return segments_of_images(images.tensor.numpy(), chosen, n_segments)


class _Masked:
    """The masks that a search has found so far, and the rows with those masks replaced."""

    def __init__(self, work: Work, before: np.ndarray) -> None:
        self._work = work
        self.mask = np.zeros(work.shape, dtype=bool)
        self.rows, self.uncertainty = work.X.copy(), before.copy()

    def add(self, group: np.ndarray, problem: Problem, found: Found) -> np.ndarray:
        """Add those of some rows; return the values of their pixels or columns."""
        shape = (len(group), *self.mask.shape[1:])
        self.mask[group] = problem.spread(found.mask).reshape(shape).numpy()
        self.uncertainty[group] = found.uncertainty.numpy()
        self._work.put(self.rows, group, problem.replaced(found.mask.float(), found.learnt))
        each = found.contribution / problem.counts.clamp(min=1)
        values: np.ndarray = problem.spread(each).reshape(shape).numpy()
        return values


def _searched(problem: Problem, optimizer: str, sparsity: float, seed: int) -> Found:
    if optimizer == "exhaustive":
        return exhaustive(problem, sparsity)
    if optimizer == "greedy":
        return single_flips(problem, sparsity)
    if not problem.has_gradient:
        raise TypeError(
            "optimizer='gumbel' needs a gradient, and the steps before the network have none; "
            "take optimizer='greedy'"
        )
    return gumbel(problem, sparsity, seed, n_noises=N_NOISES)


def _worth_it(before: np.ndarray, target: Target) -> np.ndarray:
    """Return which rows have an uncertainty to attribute; warn of the others."""
    if not np.isfinite(before).all():
        bad = np.flatnonzero(~np.isfinite(before))
        raise ValueError(
            f"the uncertainty of {len(bad)} rows, the first is row {bad[0]}, is not finite; "
            "nothing can be attributed. Look for NaN and extreme values in X"
        )
    some = before > target.smallest
    if not some.all():
        warn(
            f"{(~some).sum()} of {len(before)} rows have no uncertainty to attribute (negative, "
            f"zero, or rounding: at most {target.smallest:g}); their values are zero"
        )
    return np.flatnonzero(some)

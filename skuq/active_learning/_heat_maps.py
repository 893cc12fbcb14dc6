"""Multi-peak entropy: how many places of a heat map could be the one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import max_pool2d

from skuq._utils._typing import MatrixLike
from skuq.active_learning._asked import check_fitted

__all__ = ["multi_peak_entropy"]


def multi_peak_entropy(
    estimator: Any,
    X: MatrixLike,
    *,
    map_shape: tuple[int, int, int] | None = None,
    window: int = 3,
) -> np.ndarray:
    """Score rows by the entropy over the peaks of their heat maps [1]_.

    The heights h of the local maxima of a map become probabilities, softmax(h); the score is their
    entropy −Σ p log p, a sum over the maps of a row. One peak has entropy 0, however blurred it is.

    Parameters
    ----------
    estimator : fitted regressor of heat maps
        Its `predict` returns maps of shape (n_pool, height, width) or (n_pool, n_maps, height,
        width), such as `skuq.TorchDenseRegressor`; or rows, with `map_shape`.
    X : array-like of shape (n_pool, ...)
        The pool, in any form that the estimator predicts.
    map_shape : tuple (n_maps, height, width), default=None
        The shape of the maps, if the estimator predicts them as flat rows.
    window : int, default=3
        A local maximum is the largest of its window × window pixels, and not equal to all of them;
        an odd number.

    Returns
    -------
    ndarray of shape (n_pool,)
        Nats; higher is better to label.

    References
    ----------
    .. [1] B. Liu, V. Ferrari, "Active Learning for Human Pose Estimation", ICCV 2017,
       doi:10.1109/ICCV.2017.468.
    """
    check_fitted(estimator, X)
    if window < 3 or window % 2 == 0:
        raise ValueError(f"window must be an odd number of at least 3, got {window!r}")
    maps = np.asarray(estimator.predict(X), dtype=float)
    if map_shape is not None:
        if maps.size != len(maps) * np.prod(map_shape):
            raise ValueError(f"map_shape={map_shape} does not fit predictions of {maps.shape}")
        maps = maps.reshape(len(maps), *map_shape)
    if maps.ndim == 3:
        maps = maps[:, None]
    if maps.ndim != 4:
        raise ValueError(
            f"expected heat maps of shape (n, n_maps, height, width), got {maps.shape}; give "
            "map_shape= if the estimator predicts flat rows"
        )
    values = torch.from_numpy(maps)
    largest = max_pool2d(values, window, stride=1, padding=window // 2)
    smallest = -max_pool2d(-values, window, stride=1, padding=window // 2)
    peaks = (values == largest) & (values > smallest)
    heights = torch.where(peaks, values, -torch.inf).flatten(2)
    heights = torch.where(peaks.flatten(2).any(2, keepdim=True), heights, 0.0)  # flat maps
    log_p = heights.log_softmax(2)
    terms = torch.where(log_p.isinf(), 0.0, log_p.exp() * log_p)
    terms = torch.where(peaks.flatten(2).any(2, keepdim=True), terms, 0.0)
    return -terms.sum((1, 2)).numpy()

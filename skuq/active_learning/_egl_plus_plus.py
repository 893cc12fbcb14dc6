"""EGL++: expected gradient length without a distribution of labels, from similar labelled rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier

from skuq._features import map_features
from skuq._utils._messages import warn
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.active_learning._affinities import affinities, squared_distances
from skuq.active_learning._asked import check_fitted, class_probabilities, embedding, means_of
from skuq.active_learning._network import network_of, squared_gradients

__all__ = ["egl_plus_plus"]

_PAIRS = 2**22  # pairs of rows that are compared at a time


def egl_plus_plus(
    estimator: Any,
    X: MatrixLike,
    X_labelled: MatrixLike,
    y_labelled: ArrayLike | None = None,
    *,
    perplexity: float = 20.0,
    n_neighbors: int = 30,
    scope: str = "last",
    layer: str | None = None,
) -> np.ndarray:
    """Score rows by Σ_j q_j ‖∇ℓ(x, y_j)‖² over similar labelled rows j [1]_.

    The label of x is likely that of a row with similar features. q are the affinities of t-SNE
    from x to the labelled rows, of the nearest ones only. It needs one deterministic network, and
    works for maps and several targets, where no distribution of labels is known.

    Parameters
    ----------
    estimator : fitted classifier or regressor
        A skuq estimator, or a Pipeline, search or calibrator around one (the calibration is not
        applied). The loss ℓ is the cross-entropy, or half the sum of squared errors of all targets
        and pixels, in units of y.
    X : array-like of shape (n_pool, ...)
        The pool, in any form that the estimator predicts.
    X_labelled : array-like of shape (n_labelled, ...)
        Labelled rows.
    y_labelled : array-like of shape (n_labelled, ...), default=None
        Their labels or targets. None takes what the network predicts for them, as the paper does.
    perplexity : float, default=20.0
        Effective number of neighbours: exp of the entropy of q in nats. It must be smaller than
        n_labelled, else n_labelled − 1 is taken, with a warning. The code of the paper has 2 to
        the power of that entropy; its 20 is about 75 here.
    n_neighbors : int, default=30
        How many nearest labelled rows count; their q are not made to sum to 1.
    scope : {"last", "all"}, default="last"
        The parameters whose gradient counts: those of the last `torch.nn.Linear`, in closed form,
        or all, by a backward pass for each neighbour of each row. Networks that answer for pixels
        need "all".
    layer : str, default=None
        The layer whose input is the feature, as in `skuq.predict_features`. Features with places
        are flattened; end a network of maps in one vector somewhere, or name a coarse layer.

    Returns
    -------
    ndarray of shape (n_pool,)
        Higher is better to label; lengths of several networks are averaged.

    Raises
    ------
    ValueError
        If there are no labelled rows, the perplexity is below 1, or rows and labels do not match.

    Warns
    -----
    UserWarning
        If the perplexity is too large for the labelled rows.

    References
    ----------
    .. [1] M. Shukla, "Bayesian Uncertainty and Expected Gradient Length - Regression: Two Sides Of
       The Same Coin?", WACV 2022, arXiv:2104.09493.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skuq import TorchRegressor
    >>> from skuq.active_learning import egl_plus_plus
    >>> from skuq.posteriors import PointEstimate
    >>> X, y = load_diabetes(return_X_y=True)
    >>> regressor = TorchRegressor(posterior=PointEstimate(), max_epochs=3, random_state=0)
    >>> egl_plus_plus(regressor.fit(X[:50], y[:50]), X[50:], X[:50]).shape
    (392,)
    """
    check_fitted(estimator, X)
    if scope not in ("last", "all"):
        raise ValueError(f"scope must be 'last' or 'all', got {scope!r}")
    if not np.issubdtype(type(n_neighbors), np.integer) or n_neighbors < 1:
        raise ValueError(f"n_neighbors must be an integer of at least 1, got {n_neighbors!r}")
    leaf, rows = network_of(estimator, X, "egl_plus_plus")
    if leaf._is_dense and scope == "last":
        raise ValueError(
            f"{type(leaf).__name__} answers for pixels: egl_plus_plus needs scope='all'"
        )
    _, known = network_of(estimator, X_labelled, "egl_plus_plus")
    outputs, targets = _outputs(leaf, rows), _outputs(leaf, known)
    if y_labelled is not None:
        targets = _encoded(leaf, y_labelled, targets)
    near, q = _neighbours(
        embedding(leaf, rows, layer), embedding(leaf, known, layer), perplexity, n_neighbors
    )
    if scope == "last":
        squared = map_features(leaf, rows, lambda f: ((f**2).sum(2) + 1).mean(0), layer=layer)
        apart = np.stack(
            [((outputs - targets[near[:, j]]) ** 2).sum(axis=1) for j in range(near.shape[1])], 1
        )
        return np.asarray(squared * (q * apart).sum(axis=1))
    return _by_backward(leaf, rows, outputs, targets, near, q)


def _by_backward(
    leaf: Any, rows: Any, outputs: np.ndarray, targets: np.ndarray, near: np.ndarray, q: np.ndarray
) -> np.ndarray:
    """Compute the score from gradients of all parameters, some rows at a time."""
    checked, score = leaf._check_rows(rows), np.empty(len(near))
    step = max(1, _PAIRS // (near.shape[1] * outputs.shape[1]))
    for start in range(0, len(near), step):
        some = slice(start, start + step)
        wanted = targets[near[some]]  # (rows, neighbours, functions)
        if leaf._task == "regression":
            wanted = outputs[some, None] - wanted
        lengths = squared_gradients(leaf, checked[some], wanted)
        score[some] = (q[some] * lengths).sum(axis=1)
    return score


def _outputs(leaf: Any, rows: Any) -> np.ndarray:
    """Return probabilities or means, of shape (n_rows, n_outputs), pixels last."""
    if is_classifier(leaf):
        return class_probabilities(leaf, rows, "egl_plus_plus")
    return means_of(leaf, rows)


def _encoded(leaf: Any, y: Any, outputs: np.ndarray) -> np.ndarray:
    """Return labels as the network should predict them."""
    labels = np.asarray(y)
    if len(labels) != len(outputs):
        raise ValueError(f"X_labelled has {len(outputs)} rows and y_labelled {len(labels)}")
    if is_classifier(leaf):
        if not np.isin(labels, leaf.classes_).all():
            raise ValueError(f"y_labelled must hold classes of the estimator, {leaf.classes_}")
        return np.asarray(labels[:, None] == leaf.classes_, dtype=float)
    targets = labels.astype(float).reshape(len(labels), -1)
    if targets.shape != outputs.shape or not np.isfinite(targets).all():
        raise ValueError(
            f"y_labelled must be finite numbers like the predictions, of shape {outputs.shape}"
        )
    return targets


def _neighbours(
    pool: np.ndarray, labelled: np.ndarray, perplexity: float, n_neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the nearest labelled rows, and their affinities."""
    n_labelled = len(labelled)
    if not perplexity >= 1:
        raise ValueError(f"perplexity must be at least 1, got {perplexity!r}")
    if perplexity >= n_labelled > 1:
        warn(
            f"perplexity={perplexity:g} must be smaller than the number of labelled rows, "
            f"{n_labelled}; {n_labelled - 1} is taken"
        )
        perplexity = n_labelled - 1
    k = min(n_neighbors, n_labelled)
    near, q = np.empty((len(pool), k), dtype=np.intp), np.empty((len(pool), k))
    step = max(1, _PAIRS // n_labelled)
    for start in range(0, len(pool), step):
        squared = squared_distances(pool[start : start + step], labelled)
        p = affinities(squared, perplexity) if n_labelled > 1 else np.ones_like(squared)
        some = np.argpartition(-p, k - 1, axis=1)[:, :k]
        near[start : start + step] = some
        q[start : start + step] = np.take_along_axis(p, some, axis=1)
    return near, q

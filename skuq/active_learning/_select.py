"""From scores of a pool to rows to label."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skuq._utils._typing import ArrayLike, RandomState
from skuq.active_learning._asked import checked_numbers

__all__ = ["checked_size", "kmeans_weighted", "select"]


def checked_size(n: Any, n_pool: int) -> int:
    """Return how many rows to choose: n, or all of a smaller pool."""
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise ValueError(f"n must be an integer of at least 1, got {n!r}")
    return min(int(n), n_pool)


def select(
    scores: ArrayLike,
    n: int,
    *,
    method: str = "top",
    power: float = 1.0,
    labelled: ArrayLike | None = None,
    random_state: RandomState = None,
) -> np.ndarray:
    """Choose the rows to label from scores.

    Parameters
    ----------
    scores : array-like of shape (n_pool,)
        A score of each row; higher is better to label.
    n : int
        How many rows to choose. A pool with fewer gives all.
    method : {"top", "power"}, default="top"
        "top" takes the highest scores. "power" draws rows without replacement with probabilities
        proportional to score^power [1]_, so a batch holds fewer rows that tell the same; scores
        must not be negative.
    power : float, default=1.0
        The power β; 0 draws uniformly, a large one takes the top.
    labelled : array-like of bool of shape (n_pool,), default=None
        Which rows are labelled already; they are never chosen.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws, and of the order of equal scores.

    Returns
    -------
    ndarray of int of shape (n,)
        Places in the pool, the best first.

    Raises
    ------
    ValueError
        If scores are NaN or infinite, or negative with ``method="power"``.

    References
    ----------
    .. [1] A. Kirsch, S. Farquhar, P. Atighehchian, A. Jesson, F. Branchaud-Charron, Y. Gal,
       "Stochastic Batch Acquisition: A Simple Baseline for Deep Active Learning", TMLR 2023,
       arXiv:2106.12059.

    Examples
    --------
    >>> from skuq.active_learning import select
    >>> select([0.1, 0.9, 0.5, 0.7], 2, labelled=[False, True, False, False])
    array([3, 2])
    """
    values = checked_numbers(scores, "scores")
    free = np.arange(len(values))
    if labelled is not None:
        mask = np.asarray(labelled)
        if mask.dtype != bool or mask.shape != values.shape:
            raise ValueError(
                f"labelled must be booleans of shape {values.shape}, got {mask.dtype} of shape "
                f"{mask.shape}"
            )
        free = np.flatnonzero(~mask)
    n = checked_size(n, len(free))
    random = check_random_state(random_state)
    values, ties = values[free], random.random_sample(len(free))
    if method == "power":
        if (values < 0).any():
            raise ValueError(
                f"method='power' needs scores of at least 0, got {values.min():.3g}; "
                "method='top' takes any"
            )
        if not power >= 0:
            raise ValueError(f"power must be at least 0, got {power!r}")
        with np.errstate(divide="ignore"):
            logarithms = np.log(values) if power else np.zeros(len(values))
        values = power * logarithms + random.gumbel(size=len(values)) if power else ties
    elif method != "top":
        raise ValueError(f"method must be 'top' or 'power', got {method!r}")
    return np.asarray(free[np.lexsort((ties, -values))[:n]])


def kmeans_weighted(
    features: ArrayLike,
    scores: ArrayLike,
    n: int,
    *,
    share: int = 10,
    random_state: RandomState = None,
) -> np.ndarray:
    """Choose rows that have high scores and lie apart: centres of a weighted k-means [1]_.

    The rows of the ``share · n`` highest scores are grouped into n clusters, weighted by their
    scores; the row next to each centre is chosen.

    Parameters
    ----------
    features : array-like of shape (n_pool, n_features)
        Where the rows lie, such as `skuq.predict_features` of them.
    scores : array-like of shape (n_pool,)
        Scores of at least 0; higher is better to label.
    n : int
        How many rows to choose. A pool with fewer gives all.
    share : int, default=10
        How many times n rows are clustered.
    random_state : int, RandomState instance or None, default=None
        Seed of k-means, and of the order of equal scores.

    Returns
    -------
    ndarray of int of shape (n,)
        Places in the pool, the highest score first.

    References
    ----------
    .. [1] F. Zhdanov, "Diverse mini-batch Active Learning", 2019, arXiv:1901.05954.

    Examples
    --------
    >>> from skuq.active_learning import kmeans_weighted
    >>> kmeans_weighted([[0.0], [0.1], [5.0], [5.1]], [0.8, 0.9, 0.5, 0.6], 2, random_state=0)
    array([1, 3])
    """
    from sklearn.cluster import KMeans

    rows, values = checked_numbers(features, "features", 2), checked_numbers(scores, "scores")
    if len(rows) != len(values):
        raise ValueError(f"features has {len(rows)} rows and scores {len(values)}; expected equal")
    if (values < 0).any():
        raise ValueError(f"scores must be at least 0, got {values.min():.3g}")
    n, random = checked_size(n, len(rows)), check_random_state(random_state)
    best = select(values, min(share * n, len(rows)), random_state=random)
    weights = np.maximum(values[best], 1e-12 * max(values.max(), 1e-300))
    n_distinct = len(np.unique(rows[best], axis=0))
    chosen: list[int] = []
    if n < len(best) and n <= n_distinct:
        means = KMeans(n, n_init=1, random_state=random).fit(rows[best], sample_weight=weights)
        apart = np.linalg.norm(rows[best] - means.cluster_centers_[means.labels_], axis=1)
        for k in range(n):
            members = np.flatnonzero(means.labels_ == k)
            if len(members):
                nearest = members[apart[members] <= apart[members].min() * (1 + 1e-9)]
                chosen.append(int(nearest[values[best[nearest]].argmax()]))
    left = [place for place in range(len(best)) if place not in set(chosen)]
    places = sorted((chosen + left)[:n])
    return best[places]

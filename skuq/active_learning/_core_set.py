"""Core-sets: rows that cover the pool."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state

from skuq._utils._typing import ArrayLike, RandomState
from skuq.active_learning._asked import checked_numbers
from skuq.active_learning._select import checked_size

__all__ = ["core_set"]

_CENTRES = 256  # labelled rows whose distances are computed together


def core_set(
    features: ArrayLike,
    labelled: ArrayLike | None,
    n: int,
    *,
    random_state: RandomState = None,
) -> np.ndarray:
    """Choose rows that cover the pool: again and again the one that is farthest from all others.

    This greedy way has at most twice the smallest possible radius, the largest distance of any row
    to the next labelled one [1]_.

    Parameters
    ----------
    features : array-like of shape (n_pool, n_features)
        Where the rows of the pool lie, such as `skuq.predict_features` of them.
    labelled : array-like of shape (n_labelled, n_features) or None
        Where the labelled rows lie, which cover their neighbourhood already. Without any, the
        first row is a random one.
    n : int
        How many rows to choose. A pool with fewer gives all.
    random_state : int, RandomState instance or None, default=None
        Seed of the order of rows that are equally far.

    Returns
    -------
    ndarray of int of shape (n,)
        Places in the pool, in the order of choice.

    References
    ----------
    .. [1] O. Sener, S. Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set
       Approach", ICLR 2018, arXiv:1708.00489.

    Examples
    --------
    >>> from skuq.active_learning import core_set
    >>> core_set([[1.0], [10.0], [0.0]], [[0.0]], 2)
    array([1, 0])
    """
    pool = checked_numbers(features, "features", 2)
    known = np.empty((0, pool.shape[1]))
    if labelled is not None and len(labelled):  # type: ignore[arg-type]
        known = checked_numbers(labelled, "labelled", 2)
    if known.shape[1] != pool.shape[1]:
        raise ValueError(
            f"features and labelled must have equally many columns, got {pool.shape[1]} and "
            f"{known.shape[1]}"
        )
    n, random = checked_size(n, len(pool)), check_random_state(random_state)
    centre = pool.mean(axis=0)  # differences of small numbers are more exact
    pool, known = pool - centre, known - centre
    squares = np.einsum("ij,ij->i", pool, pool)
    distances = np.full(len(pool), np.inf)
    for start in range(0, len(known), _CENTRES):
        block = known[start : start + _CENTRES]
        apart = (block**2).sum(axis=1) - 2 * (pool @ block.T)
        np.minimum(distances, squares + apart.min(axis=1), out=distances)
    ties = random.permutation(len(pool))
    pool, squares, distances = pool[ties], squares[ties], distances[ties]
    chosen = np.empty(n, dtype=np.intp)
    for k in range(n):
        place = chosen[k] = int(distances.argmax())
        distances[place] = -np.inf  # never again
        apart = squares + squares[place] - 2 * (pool @ pool[place])
        np.minimum(distances, np.maximum(apart, 0.0), out=distances)
    return np.asarray(ties[chosen])

"""BatchBALD: the mutual information of a whole batch and the parameters."""

from __future__ import annotations

import numpy as np
from scipy.special import entr
from sklearn.utils import check_random_state

from skuq._utils._typing import ArrayLike, RandomState
from skuq.active_learning._asked import checked_numbers
from skuq.active_learning._select import checked_size, select

__all__ = ["batch_bald"]

_BLOCK = 2**22  # numbers of joint probabilities at a time


def batch_bald(
    draws: ArrayLike,
    n: int,
    *,
    n_candidates: int = 500,
    n_exact: int = 4,
    n_samples: int = 2000,
    random_state: RandomState = None,
) -> np.ndarray:
    """Choose rows whose labels together tell most about the parameters [1]_.

    BALD adds up what each row tells, and takes ten copies of the best. This takes, one after
    another, the row that most increases the mutual information H(y₁, …, y_b) − mean_θ Σ H(y_i | θ)
    of all labels of the batch and the parameters.

    Parameters
    ----------
    draws : array-like of shape (n_draws, n_pool, n_classes)
        Probabilities of each draw: `skuq.predict_draws` of a classifier.
    n : int
        How many rows to choose: small, as the information of many is hard to estimate. A pool with
        fewer gives all.
    n_candidates : int, default=500
        Only rows of this many of the highest BALD scores are looked at.
    n_exact : int, default=4
        The largest batch whose joint entropy is computed exactly, from all combinations of labels;
        beyond, or above a million combinations, it is estimated from sampled ones.
    n_samples : int, default=2000
        Number of sampled combinations.
    random_state : int, RandomState instance or None, default=None
        Seed of the samples, and of the order of rows that are equally good.

    Returns
    -------
    ndarray of int of shape (n,)
        Places in the pool, in the order of choice.

    Raises
    ------
    ValueError
        If there is one draw, which can learn nothing, or if rows do not sum to 1.

    References
    ----------
    .. [1] A. Kirsch, J. van Amersfoort, Y. Gal, "BatchBALD: Efficient and Diverse Batch Acquisition
       for Deep Bayesian Active Learning", NeurIPS 2019, arXiv:1906.08158.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.active_learning import batch_bald
    >>> first = np.array([[0.9, 0.1], [0.9, 0.1], [0.7, 0.3]])  # rows 0 and 1 say the same
    >>> second = np.array([[0.1, 0.9], [0.1, 0.9], [0.9, 0.1]])
    >>> third = np.array([[0.5, 0.5], [0.5, 0.5], [0.1, 0.9]])
    >>> set(batch_bald([first, second, third], 2, random_state=0).tolist()) == {0, 1}
    False
    """
    proba = checked_numbers(draws, "draws", 3)
    if len(proba) < 2:
        raise ValueError(
            "batch_bald needs at least 2 draws, got 1: give a posterior with more, such as "
            "DeepEnsemble() or MCDropout()"
        )
    if proba.min() < 0 or np.abs(proba.sum(axis=2) - 1).max() > 1e-3:
        raise ValueError("draws must be probabilities, which sum to 1 over the last axis")
    n, random = checked_size(n, proba.shape[1]), check_random_state(random_state)
    conditional = entr(proba).sum(axis=2).mean(axis=0)
    alone = entr(proba.mean(axis=0)).sum(axis=1) - conditional
    places = select(alone, max(n, n_candidates), random_state=random)
    chosen = _greedy(proba[:, places], conditional[places], n, n_exact, n_samples, random)
    return np.asarray(places[chosen])


def _greedy(
    proba: np.ndarray,
    conditional: np.ndarray,
    n: int,
    n_exact: int,
    n_samples: int,
    random: np.random.RandomState,
) -> np.ndarray:
    """Choose one row after another; labels of the first few are enumerated, then sampled."""
    n_draws, _, n_classes = proba.shape
    joint = np.ones((n_draws, 1))  # probabilities of combinations of the labels chosen so far
    weights = np.ones(1)  # 1 / their number, if they are sampled
    sampled, chosen = False, np.empty(0, dtype=np.intp)
    for k in range(n):
        if not sampled and k and (k >= n_exact or n_classes ** (k + 1) > 2**20):
            joint, sampled = _sampled(proba[:, chosen], n_samples, random), True
            weights = np.full(n_samples, 1.0 / n_samples)
        gain = _joint_entropy(joint, weights, proba) - conditional
        gain[chosen] = -np.inf
        best = int(gain.argmax())
        chosen = np.append(chosen, best)
        if sampled:  # one more label for each sample
            joint = _with_label(joint, proba[:, best], random)
        else:
            joint = (joint[:, :, None] * proba[:, best][:, None, :]).reshape(n_draws, -1)
            weights = np.ones(joint.shape[1])
    return chosen


def _joint_entropy(joint: np.ndarray, weights: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Compute the entropy of the chosen labels with that of each candidate.

    Sampled combinations have a mean of 1 over the draws, for else the product of many small
    probabilities would be 0. This adds the same number to the entropy of every candidate.
    """
    n_draws, n_pool, n_classes = proba.shape
    found = np.empty(n_pool)
    step = max(1, _BLOCK // (joint.shape[1] * n_classes))
    for start in range(0, n_pool, step):
        some = proba[:, start : start + step]
        together = joint.T @ some.reshape(n_draws, -1) / n_draws
        terms = weights @ entr(together, out=together)
        found[start : start + step] = terms.reshape(-1, n_classes).sum(axis=1)
    return found


def _sampled(proba: np.ndarray, n_samples: int, random: np.random.RandomState) -> np.ndarray:
    """Sample labels of the chosen rows; return how probable they are under each draw."""
    joint = np.ones((len(proba), n_samples))
    draw = random.randint(len(proba), size=n_samples)
    for k in range(proba.shape[1]):
        edges = proba[draw, k].cumsum(axis=1)
        label = (random.random_sample((n_samples, 1)) * edges[:, -1:] > edges).sum(axis=1)
        joint *= proba[:, k, label]
        joint /= joint.mean(axis=0)
    return joint


def _with_label(joint: np.ndarray, proba: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Add a sampled label of one more row to each sample, given its other labels."""
    posterior = joint / joint.sum(axis=0)
    edges = (posterior.T @ proba).cumsum(axis=1)
    label = (random.random_sample((len(edges), 1)) * edges[:, -1:] > edges).sum(axis=1)
    joint = joint * proba[:, label]
    return np.asarray(joint / joint.mean(axis=0))

"""Tests of the hypothesis that new rows come from where the old ones came from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skuq._composition import predictions
from skuq._estimator._base import TorchEstimator
from skuq._features import predict_features
from skuq._meta import innermost, warn_of_rows_seen
from skuq._utils._sklearn_compat import _num_samples
from skuq._utils._typing import MatrixLike

__all__ = ["ShiftTest", "classifier_test", "kolmogorov_smirnov_test", "shift_test"]


class ShiftTest(NamedTuple):
    """The result of `shift_test`.

    Attributes
    ----------
    p_value : float
        p-value of both tests together, twice the smaller one (at most 1). Below the level that
        you chose before, the rows have changed.
    auroc : float
        How well a classifier tells new rows from old ones by their features, on rows that it has
        not seen; 0.5 is chance.
    auroc_p_value : float
        Its p-value, by permutation.
    ks : float
        Largest distance between the distribution functions of the uncertainties.
    ks_p_value : float
        Its p-value, by permutation.
    """

    p_value: float
    auroc: float
    auroc_p_value: float
    ks: float
    ks_p_value: float


def shift_test(
    estimator: Any,
    X_reference: MatrixLike,
    X_new: MatrixLike,
    *,
    features: Any = None,
    n_permutations: int = 999,
    random_state: int = 0,
) -> ShiftTest:
    """Test whether new rows differ from old ones, by their features and their uncertainty.

    A logistic regression learns to tell half of the new rows from half of the old ones by the
    features of the network; its AUROC on the other halves is the statistic of a two-sample
    test [1]_. The two-sample test of Kolmogorov and Smirnov compares the total uncertainties. Both
    p-values come from permutations of what is new and old, so they hold for any number of rows. No
    labels are needed. A shift that neither features nor uncertainty show is not found; and one
    that is found need not cost accuracy: see `expected_accuracy`.

    Parameters
    ----------
    estimator : fitted classifier or regressor
        A skuq estimator, or scikit-learn objects around one; or another classifier with
        `predict_proba`, or regressor with ``return_std``, whose rows are their own features.
    X_reference : array-like of shape (n_reference, ...)
        Rows of the old world that did not train the estimator, which is more certain of those.
    X_new : array-like of shape (n_new, ...)
        New rows.
    features : callable, default=None
        Maps rows to features of shape (n_samples, n_features). None takes
        `skuq.predict_features`, those of all networks of an ensemble side by side.
    n_permutations : int, default=999
        Number of permutations; the least p-value is 1 / (1 + n_permutations) for each test.
    random_state : int, default=0
        Seed of the halves and the permutations.

    Returns
    -------
    ShiftTest
        Named tuple of the p-value of both tests together, and of their statistics and p-values.

    Raises
    ------
    ValueError
        If there are fewer than 4 rows of either kind, or features are no table of numbers.

    Warns
    -----
    UserWarning
        If the estimator was trained on many of the reference rows.

    References
    ----------
    .. [1] D. Lopez-Paz and M. Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017,
       arXiv:1610.06545.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skuq import TorchClassifier
    >>> from skuq.shift import corrupt, shift_test
    >>> X, y = load_digits(return_X_y=True)
    >>> network = TorchClassifier(lr=0.01, max_epochs=20, random_state=0).fit(X[:900], y[:900])
    >>> blurred = corrupt(X[1400:], "blur", 5, image_shape=(8, 8))
    >>> shift_test(network, X[900:1400], blurred).p_value < 0.01
    True
    """
    whole = isinstance(n_permutations, int | np.integer) and not isinstance(n_permutations, bool)
    if not whole or n_permutations < 1:
        raise ValueError(f"n_permutations must be an integer of at least 1, got {n_permutations!r}")
    warn_of_rows_seen(estimator, X_reference, to="stand for the old world")
    old, new = (
        np.asarray(_features(estimator, X, features), dtype=float) for X in (X_reference, X_new)
    )
    if min(len(old), len(new)) < 4:
        raise ValueError(f"at least 4 rows of each kind are needed, got {len(old)} and {len(new)}")
    auroc, auroc_p = classifier_test(old, new, n_permutations, random_state)
    doubts, new_doubts = (_uncertainty(estimator, X) for X in (X_reference, X_new))
    ks, ks_p = kolmogorov_smirnov_test(doubts, new_doubts, n_permutations, random_state)
    return ShiftTest(min(1.0, 2 * min(auroc_p, ks_p)), auroc, auroc_p, ks, ks_p)


def _features(estimator: Any, X: Any, features: Any) -> np.ndarray:
    if features is not None:
        given = np.asarray(features(X))
        n_rows = _num_samples(X)
        if given.ndim != 2 or len(given) != n_rows:
            raise ValueError(
                f"features must give an array of shape (n_samples, n_features) for {n_rows} rows, "
                f"got {given.shape}"
            )
        return given
    leaf, inner = innermost(estimator, X)
    if not isinstance(leaf, TorchEstimator):
        rows = inner.toarray() if hasattr(inner, "toarray") else np.asarray(inner)
        try:
            return rows.reshape(len(rows), -1).astype(float)
        except (TypeError, ValueError):
            raise ValueError(
                f"the rows that {type(leaf).__name__} gets hold more than numbers; give features, "
                "a function that maps rows to numbers"
            ) from None
    found = predict_features(estimator, X)
    return np.concatenate(list(found), axis=1) if found.ndim == 3 else found


def _uncertainty(estimator: Any, X: Any) -> np.ndarray:
    asked: Any
    asked, inner = predictions(estimator, X)
    total: np.ndarray = asked.predict_uncertainty(inner)
    means: np.ndarray = total.reshape(len(total), -1).mean(axis=1)
    return means


def classifier_test(
    old: np.ndarray, new: np.ndarray, n_permutations: int, seed: int
) -> tuple[float, float]:
    """Return the AUROC of a classifier on rows that it has not seen, and its p-value.

    The classifier is fixed before the other halves are looked at, so permuting what is new and old
    among them gives a p-value that holds exactly, without fitting again.

    Parameters
    ----------
    old, new : ndarray of shape (n_old, n_features), (n_new, n_features)
        Features of the rows.
    n_permutations : int
        Number of permutations.
    seed : int
        Seed of the halves and of the permutations.
    """
    random = np.random.default_rng([seed, 0])
    halves = [np.array_split(rows[random.permutation(len(rows))], 2) for rows in (old, new)]
    train = np.concatenate([half[0] for half in halves])
    is_new = np.repeat([False, True], [len(half[0]) for half in halves])
    # C=0.1 on standardised features: there may be more features than rows.
    judge = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000)
    model = make_pipeline(StandardScaler(), judge)
    model.fit(train, is_new)
    scores = model.decision_function(np.concatenate([half[1] for half in halves]))
    ranks, n_new = stats.rankdata(scores), len(halves[1][1])
    n_old = len(ranks) - n_new
    sums = [ranks[n_old:].sum()]
    sums += [random.permutation(ranks)[:n_new].sum() for _ in range(n_permutations)]
    aurocs = (np.array(sums) - n_new * (n_new + 1) / 2) / (n_new * n_old)
    return float(aurocs[0]), _p_value(aurocs)


def kolmogorov_smirnov_test(
    old: np.ndarray, new: np.ndarray, n_permutations: int, seed: int
) -> tuple[float, float]:
    """Return the largest distance of two distribution functions and its p-value by permutation.

    Parameters
    ----------
    old, new : ndarray of shape (n_old,), (n_new,)
        Uncertainties; equal ones are allowed.
    n_permutations : int
        Number of permutations.
    seed : int
        Seed of the permutations.
    """
    random = np.random.default_rng([seed, 1])
    values = np.concatenate([old, new])
    order = np.argsort(values, kind="stable")
    last = np.append(np.diff(values[order]) > 0, True)  # the last place of each value
    n_below = np.arange(1, len(values) + 1)[last]

    def distance(is_new: np.ndarray) -> float:
        n_new = is_new.cumsum()[last]
        return float(np.abs(n_new / len(new) - (n_below - n_new) / len(old)).max())

    is_new = order >= len(old)
    found = [distance(is_new)]
    found += [distance(random.permutation(is_new)) for _ in range(n_permutations)]
    return found[0], _p_value(np.array(found))


def _p_value(statistics: np.ndarray) -> float:
    """Return the share of statistics that reach the first one, which counts itself."""
    return float((statistics >= statistics[0] - 1e-12).mean())

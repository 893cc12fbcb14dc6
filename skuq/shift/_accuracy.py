"""The accuracy to expect on rows without labels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skuq._composition import predictions
from skuq._data._checks import refuse_no_labels
from skuq._predict import ClassifierPredictions
from skuq._utils._messages import name_of
from skuq._utils._typing import MatrixLike
from skuq.metrics._losses import sample_losses

__all__ = ["ExpectedAccuracy", "expected_accuracy", "mean_confidence", "thresholded_confidence"]


class ExpectedAccuracy(NamedTuple):
    """The result of `expected_accuracy`.

    Attributes
    ----------
    confidence : float
        Mean confidence: the accuracy if the probabilities are calibrated on these rows.
    confidence_std : float
        Its standard error, from the rows.
    thresholded : float
        Average thresholded confidence; NaN without a reference.
    thresholded_std : float
        Its standard error, from these rows and the reference; NaN without a reference.
    threshold : float
        The confidence above which a row counts as right; NaN without a reference.
    """

    confidence: float
    confidence_std: float
    thresholded: float
    thresholded_std: float
    threshold: float


def expected_accuracy(
    estimator: Any,
    X: MatrixLike,
    reference: tuple[Any, Any] | None = None,
    *,
    n_bootstraps: int = 200,
    random_state: int = 0,
) -> ExpectedAccuracy:
    """Estimate the accuracy on rows without labels, from the confidence of a classifier.

    Mean confidence is right if the probabilities are calibrated on these very rows. Average
    thresholded confidence [1]_ takes labelled rows of the old world, finds the confidence that as
    many of them exceed as are right, and counts the new rows above it. Both assume how confidence
    and errors go together, and both fail where that changes: under shift a network is often sure
    and wrong, and then both are too high. A standard error does not include that failure.

    Parameters
    ----------
    estimator : fitted classifier
        A skuq classifier, a calibrator (recommended), a Pipeline or search around one, or any
        classifier with `predict_proba`.
    X : array-like of shape (n_samples, ...)
        Rows without labels.
    reference : pair (X, y), default=None
        Rows with labels that trained nothing, for the average thresholded confidence.
    n_bootstraps : int, default=200
        Number of resamples of both sets of rows, for the standard error of the latter.
    random_state : int, default=0
        Seed of the resamples.

    Returns
    -------
    ExpectedAccuracy
        Named tuple of both estimates, their standard errors, and the threshold.

    Raises
    ------
    TypeError
        If the estimator is no classifier.

    References
    ----------
    .. [1] S. Garg, S. Balakrishnan, Z. C. Lipton, B. Neyshabur, H. Sedghi, "Leveraging Unlabeled
       Data to Predict Out-of-Distribution Performance", ICLR 2022, arXiv:2201.04234.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skuq import TorchClassifier
    >>> from skuq.shift import expected_accuracy
    >>> X, y = load_digits(return_X_y=True)
    >>> network = TorchClassifier(lr=0.01, max_epochs=20, random_state=0).fit(X[:900], y[:900])
    >>> found = expected_accuracy(network, X[1200:], reference=(X[900:1200], y[900:1200]))
    >>> bool(abs(found.thresholded - network.score(X[1200:], y[1200:])) < 0.1)
    True
    """
    if isinstance(n_bootstraps, bool) or not isinstance(n_bootstraps, int | np.integer):
        raise ValueError(f"n_bootstraps must be an integer, got {n_bootstraps!r}")
    confidence, _ = _confidence(estimator, X)
    mean, error = mean_confidence(confidence)
    if reference is None:
        return ExpectedAccuracy(mean, error, np.nan, np.nan, np.nan)
    if not isinstance(reference, tuple | list) or len(reference) != 2:
        raise ValueError(f"reference must be a pair (X, y), got {type(reference).__name__}")
    refuse_no_labels("y of the reference", reference[1])
    truth = column_or_1d(reference[1])
    known, labels = _confidence(estimator, reference[0])
    check_consistent_length(known, truth)
    right = sample_losses(truth, labels, "zero_one") == 0
    share, threshold = thresholded_confidence(confidence, known, right)
    random, shares = np.random.default_rng(random_state), []
    for _ in range(n_bootstraps):
        some = confidence[random.integers(0, len(confidence), len(confidence))]
        drawn = random.integers(0, len(known), len(known))
        shares.append(thresholded_confidence(some, known[drawn], right[drawn])[0])
    spread = float(np.std(shares, ddof=1)) if n_bootstraps > 1 else float("nan")
    return ExpectedAccuracy(mean, error, share, spread, threshold)


def _confidence(estimator: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest probability of each row, and its label."""
    asked, inner = predictions(estimator, X)
    if not isinstance(asked, ClassifierPredictions) or asked._multilabel:
        raise TypeError(
            f"expected_accuracy needs a classifier of one label per row, got {name_of(estimator)}"
        )
    proba = asked.predict_proba(inner)
    return proba.max(axis=1), asked.classes_[proba.argmax(axis=1)]


def mean_confidence(confidence: np.ndarray) -> tuple[float, float]:
    """Compute the mean and its standard error.

    Parameters
    ----------
    confidence : ndarray of shape (n_samples,)
        Largest probability of each row.
    """
    n = len(confidence)
    error = confidence.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return float(confidence.mean()), float(error)


def thresholded_confidence(
    confidence: np.ndarray, known: np.ndarray, right: np.ndarray
) -> tuple[float, float]:
    """Compute the share of rows above the threshold that as many known rows exceed as are right.

    Parameters
    ----------
    confidence, known : ndarray of shape (n_samples,), (n_known,)
        Largest probability of each new row, and of each row with a label.
    right : ndarray of bool, of shape (n_known,)
        Whether the prediction of the row with a label is right.
    """
    n_right = int(right.sum())
    if n_right == 0:
        return 0.0, np.inf
    threshold = float(np.sort(known)[len(known) - n_right])
    return float((confidence >= threshold).mean()), threshold

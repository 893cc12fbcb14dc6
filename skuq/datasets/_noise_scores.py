"""Find labels that look wrong."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_validate
from sklearn.utils.validation import check_consistent_length, column_or_1d
from torch import Tensor

from skuq._composition import predictions
from skuq._distributions._softmax import Softmax, log_mean
from skuq._predict import ClassifierPredictions
from skuq._utils._messages import name_of
from skuq._utils._sklearn_compat import _safe_indexing
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.metrics import uncertainty_error_auroc
from skuq.metrics._targets import encoded_targets, is_multilabel

__all__ = ["NoiseScores", "noise_scores"]


class NoiseScores(NamedTuple):
    """How wrong each label looks, in three ways; higher is more suspicious.

    Attributes
    ----------
    loss : ndarray of shape (n_samples,)
        −log p(y | x) of the given label, in nats; p is the mean over the draws.
    noise_variance : ndarray of shape (n_samples,), or None
        The noise σ² = e^s that `UncertaintyAware` learnt for x, averaged over the draws. It does
        not depend on the label. None for every other likelihood, and for calibrators.
    disagreement : ndarray of shape (n_samples,)
        The share of draws whose most probable class is not the given label; with one draw 0 or 1.
    """

    loss: np.ndarray
    noise_variance: np.ndarray | None
    disagreement: np.ndarray

    def auroc(self, flipped: ArrayLike) -> dict[str, float]:
        """Compute how well each score finds the flipped labels: area under the ROC curve.

        Parameters
        ----------
        flipped : array-like of bool of shape (n_samples,)
            Whether each label was flipped.

        Returns
        -------
        dict of float in [0, 1], by the name of the score
            The probability that a flipped label has a higher score than another label; ties count
            half. 0.5 is chance.

        Raises
        ------
        ValueError
            If all labels are flipped, or none, or their number differs from the number of scores.
        """
        truth: np.ndarray = column_or_1d(flipped)
        check_consistent_length(truth, self.loss)
        if not np.isin(truth, (0, 1)).all():
            raise ValueError(f"flipped must hold only True and False, got {truth[:5]}")
        if truth.all() or not truth.any():
            which = "all" if truth.all() else "none"
            raise ValueError(
                f"{which} of the labels are flipped; expected some flipped labels and some others"
            )
        truth, nothing = truth.astype(int), np.zeros(len(truth), dtype=int)
        return {
            name: uncertainty_error_auroc(truth, nothing, score)
            for name, score in self._asdict().items()
            if score is not None
        }


def noise_scores(
    estimator: Any, X: MatrixLike, y: ArrayLike, cv: Any = None, n_jobs: int | None = None
) -> NoiseScores:
    """Score how wrong each label looks: by its loss, the noise at x, and disagreeing draws.

    Parameters
    ----------
    estimator : classifier
        A skuq classifier; a Pipeline, search, FrozenEstimator or calibrator around one; or a
        scikit-learn classifier with probabilities. It must be fitted if `cv` is None.
    X : array-like of shape (n_samples, ...)
        Rows whose labels are in doubt.
    y : array-like of shape (n_samples,)
        The labels in doubt.
    cv : int, splitter or iterable, default=None
        None uses the fitted estimator. Otherwise copies of it are fitted, and a copy that has not
        seen a row scores it, as in `sklearn.model_selection.cross_val_predict`. A network that has
        memorised wrong labels no longer doubts them. So use `cv` [1]_ if the accuracy on training
        rows is much higher than on other rows.
    n_jobs : int, default=None
        Number of copies to fit at the same time.

    Returns
    -------
    NoiseScores
        The scores; their method `auroc` measures how well they find known flips.

    Raises
    ------
    TypeError
        If the estimator is no classifier, or predicts several labels at once.
    ValueError
        If y holds labels that the estimator was not fitted on, or `cv` does not leave each row
        out once.

    References
    ----------
    .. [1] C. Northcutt, L. Jiang, I. Chuang, "Confident Learning: Estimating Uncertainty in Dataset
       Labels", JAIR 2021, doi:10.1613/jair.1.12125.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skuq import TorchClassifier
    >>> from skuq.datasets import flip_labels, noise_scores
    >>> X, y = load_iris(return_X_y=True)
    >>> noisy, flipped, _ = flip_labels(y, [(0, 1)], 0.1, random_state=0)
    >>> network = TorchClassifier(lr=0.01, max_epochs=20, random_state=0)
    >>> scores = noise_scores(make_pipeline(StandardScaler(), network), X, noisy, cv=5)
    >>> scores.auroc(flipped)["loss"] > 0.95
    True
    """
    labels = column_or_1d(y)
    check_consistent_length(X, labels)
    if cv is None:
        return _scores_of(estimator, X, labels)
    if isinstance(estimator, FrozenEstimator):
        raise ValueError(
            "cv needs an estimator that can be fitted, got a FrozenEstimator: leave cv out, or "
            "give the estimator inside"
        )
    fits = cross_validate(
        estimator,
        X,
        labels,
        cv=cv,
        n_jobs=n_jobs,
        scoring=lambda *_: 0.0,  # cross_validate needs a scorer; this one costs nothing
        return_estimator=True,
        return_indices=True,
        error_score="raise",
    )
    left_out = fits["indices"]["test"]
    if not np.array_equal(np.sort(np.concatenate(left_out)), np.arange(len(labels))):
        raise ValueError(f"cv must leave each row out exactly once, got {cv!r}; use a KFold")
    back = np.argsort(np.concatenate(left_out))
    parts = [
        _scores_of(fitted, _safe_indexing(X, rows), labels[rows])
        for fitted, rows in zip(fits["estimator"], left_out)
    ]
    noise = [part.noise_variance for part in parts if part.noise_variance is not None]
    return NoiseScores(
        np.concatenate([part.loss for part in parts])[back],
        np.concatenate(noise)[back] if noise else None,
        np.concatenate([part.disagreement for part in parts])[back],
    )


def _scores_of(fitted: Any, X: Any, y: np.ndarray) -> NoiseScores:
    asked, inner = predictions(fitted, X)
    name = name_of(fitted)
    if not isinstance(asked, ClassifierPredictions):
        raise TypeError(f"noise_scores needs a classifier, got {name}, which is a regressor")
    if is_multilabel(asked):
        raise TypeError(
            f"noise_scores needs one label per row, but {name} was fitted on several at once"
        )

    def reduction(predictive: Softmax, label: Tensor) -> tuple[Tensor, ...]:
        loss = -log_mean(predictive).gather(-1, label[:, None])[:, 0]
        against = (predictive.logits.argmax(-1) != label).to(loss.dtype).mean(0)
        noise = getattr(predictive, "noise_variance", None)
        return (loss, against) if noise is None else (loss, against, noise.mean(0))

    loss, against, *noise = asked._reduce(inner, reduction, encoded_targets(asked, y))
    return NoiseScores(loss.clip(min=0), noise[0] if noise else None, against)

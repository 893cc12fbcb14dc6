"""The base of all calibrators.

A calibrator learns from rows that the estimator has not seen. It changes the predictive
distribution of every draw, and so every answer.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from joblib import delayed
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.utils import indexable
from sklearn.utils.validation import check_is_fitted
from torch.distributions import Distribution

from skuq._composition import predictions
from skuq._data._checks import weights_of_size
from skuq._meta import Around, checked_validation, fit_clone, folds_of, warn_of_rows_seen
from skuq._predict import Predictions
from skuq._utils._messages import unfrozen
from skuq._utils._progress import Task, parallel, watchers
from skuq._utils._sklearn_compat import (
    CallbackSupportMixin,
    _check_sample_weight,
    _safe_indexing,
    with_callbacks,
)
from skuq._utils._typing import ArrayLike, MatrixLike, RandomState

__all__ = ["Calibrator"]


class Calibrator(Around, CallbackSupportMixin, MetaEstimatorMixin, BaseEstimator):
    """Base class and contract of the calibrators.

    A subclass gives:

    * ``_read_targets(y)``: checked targets;
    * ``_evidence(estimator, X, y)``: the predictions of a fitted estimator for X, as an array with
      one row for each row of X; NaN in rows without a prediction;
    * ``_learn(evidence, y, weight)``: sets the fitted attributes, from rows that were left out;
      weights are as given, so their sums can overflow;
    * ``_calibrated(predictive)``: the distributions of the draws, changed.

    This class fits and evaluates estimators. A subclass gets the same evidence from cross-fitting
    and from a frozen estimator.
    """

    _classifies: ClassVar[bool]
    _learnt_above: ClassVar[dict[str, float]] = {}  # fitted attributes, and their lower bounds
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "cv": ["cv_object"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any,
        cv: Any = 5,
        n_jobs: int | None = None,
        verbose: int = 0,
        random_state: RandomState = 0,
    ) -> None:
        self.estimator = estimator
        self.cv = cv
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.random_state = random_state

    def _read_targets(self, y: Any) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} does not implement _read_targets")

    def _evidence(self, estimator: Any, X: Any, y: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} does not implement _evidence")

    def _learn(self, evidence: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not implement _learn")

    def _calibrated(self, predictive: Any) -> Distribution:
        raise NotImplementedError(f"{type(self).__name__} does not implement _calibrated")

    def _as_rows(
        self, evidence: np.ndarray, y: np.ndarray, weight: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Make a row of each place, if rows have places."""
        return evidence, y, weight

    # -- fit -------------------------------------------------------------------------------------

    @with_callbacks
    def fit(
        self,
        X: MatrixLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        *,
        X_val: MatrixLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Fit the calibration, and the estimator unless it is frozen.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them. Around a frozen estimator also a torch Dataset of
            pairs (x, y).
        y : array-like of shape (n_samples,), or (n_samples, n_targets), default=None
            True labels or targets; None if X is a Dataset, which has them.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows. The estimator gets them, too; in a Pipeline the last step does.
        groups : array-like of shape (n_samples,), default=None
            The group of each row. If `cv` is a number, or a splitter that knows groups, folds do
            not separate rows of one group.
        X_val, y_val, sample_weight_val : array-like, default=None
            Validation rows for the `fit` of the estimator, in each fold the same: early stopping
            watches them. They calibrate nothing.

        Returns
        -------
        self : Calibrator
            The fitted calibrator itself.

        Raises
        ------
        ValueError
            If data or parameters cannot be used.

        Warns
        -----
        UserWarning
            If a frozen estimator was trained on many of the rows.
        """
        X, y = self._check_call_of_fit(X, y)
        self._check_estimator()
        target = self._read_targets(y)
        X, target = indexable(X, target)
        given: np.ndarray | None = None
        if sample_weight is not None:
            given = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        weight = None if given is None else weights_of_size(given)
        own = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
        own = checked_validation(self, {name: v for name, v in own.items() if v is not None})
        with Task("fit", watchers(self, X, y, weight)) as task:
            if isinstance(self.estimator, FrozenEstimator):
                fitted, evidence = self._evidence_of_frozen(task, X, target)
            else:
                fitted, evidence = self._cross_fitted(task, X, target, weight, groups, own)
            evidence, target, given = self._as_rows(evidence, target, given)
            self._learn(*_that_count(evidence, target, given))
            self.estimator_ = fitted
            task.end(dict)  # a copy of self has every attribute
        return self

    def _check_estimator(self) -> None:
        """Refuse estimators that this calibrator cannot calibrate."""

    def _begin(self, fitted: Any, y: np.ndarray) -> None:
        """Copy the attributes that decode predictions from the fitted estimator."""

    def _evidence_of_frozen(self, task: Task, X: Any, y: np.ndarray) -> tuple[Any, np.ndarray]:
        """Return the frozen estimator, and its evidence on all rows."""
        check_is_fitted(unfrozen(self.estimator))
        warn_of_rows_seen(self.estimator, X)
        self._begin(self.estimator, y)
        task.begin()
        return self.estimator, self._evidence(self.estimator, X, y)

    def _cross_fitted(
        self,
        task: Task,
        X: Any,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        groups: Any,
        own: dict[str, Any],
    ) -> tuple[Any, np.ndarray]:
        """Return the estimator fitted on all rows, and evidence on rows that were left out."""
        splits = folds_of(
            self.cv, X, y, groups, classifies=self._classifies, random_state=self.random_state
        )
        task.begin(1 + len(splits), of="fit")
        whole = task.subtask("fit-estimator").begin()
        fitted = fit_clone(whole, self.estimator, X, y, sample_weight, **own)
        whole.end()
        self._begin(fitted, y)
        folds = [task.subtask("fit-fold") for _ in splits]
        jobs = (
            delayed(_fold_evidence)(fold.begin(), self, X, y, sample_weight, own, *split)
            for fold, split in zip(folds, splits)
        )
        evidence = np.full(0, np.nan)
        for (_, test), fold, part in zip(
            splits, folds, parallel(self.n_jobs, jobs, bool(task.watchers))
        ):
            if not len(evidence):
                evidence = np.full((len(y), *part.shape[1:]), np.nan)
            evidence[test] = part
            fold.end()
        return fitted, evidence

    def check_learnt(self) -> None:
        """Refuse fitted numbers that no fit gives; a changed file may hold such numbers."""
        for name, bound in self._learnt_above.items():
            numbers = np.asarray(getattr(self, name, 1.0), dtype=float)
            if not np.isfinite(numbers).all() or not (numbers > bound).all():
                raise ValueError(
                    f"{name} of a {type(self).__name__} must be finite and above {bound}, got "
                    f"{numbers.min():.3g} to {numbers.max():.3g}"
                )

    # -- predict ---------------------------------------------------------------------------------

    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        """Reduce the calibrated predictive distributions; see `skuq._predict`."""
        check_is_fitted(self)
        asked, inner = self._ask(self.estimator_, X)

        def calibrated(predictive: Any, *rows: Any) -> Any:
            return reduction(self._calibrated(predictive), *rows)

        return asked._reduce(inner, calibrated, *aligned)

    def _ask(self, estimator: Any, X: Any) -> tuple[Predictions, Any]:
        return predictions(estimator, X)


def _that_count(
    evidence: np.ndarray, target: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Keep rows with a prediction and a positive weight."""
    known = ~np.isnan(evidence).reshape(len(evidence), -1).any(axis=1)
    if weight is not None:
        known &= weight > 0
        weight = weight[known]
    if not known.any():
        raise ValueError(
            "no row is left to calibrate on: each has the weight 0, an ignored label, or a class "
            "that the estimator of its fold has not seen. Give rows with labels that count and, if "
            "a splitter is given as cv, shuffled folds, as those of cv=5 or "
            "StratifiedKFold(5, shuffle=True)"
        )
    return evidence[known], target[known], weight


def _fold_evidence(
    task: Task,
    calibrator: Calibrator,
    X: Any,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    own: dict[str, Any],
    train: np.ndarray,
    test: np.ndarray,
) -> np.ndarray:
    weight = None if sample_weight is None else sample_weight[train]
    rows = _safe_indexing(X, train)
    fold = fit_clone(task, calibrator.estimator, rows, y[train], weight, **own)
    return calibrator._evidence(fold, _safe_indexing(X, test), y[test])

"""Which rows a detector learns from, and which calibrate it."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import KFold
from sklearn.utils import indexable

from skuq._data._indexed import IndexedDataset
from skuq._data._streams import is_dataset, with_targets
from skuq._meta import fit_clone, folds_of
from skuq._utils._progress import Task
from skuq._utils._random import Purpose, derive_seed
from skuq._utils._sklearn_compat import _num_samples, _safe_indexing
from skuq.novelty._judge import Judge, Learnt
from skuq.novelty._rows import codes_of, has_classes, kind_of_labels

__all__ = ["Learning"]

_CALIBRATION_SHARE = 0.25  # of the rows, without cv
_FOLDS = 5  # without an estimator and without cv


class Learning:
    """Splits known rows, learns, and judges the rows that were left out.

    Parameters
    ----------
    judge : Judge
        The measure.
    cv : cross-validation generator, iterable, int or None
        As in `NoveltyDetector`.
    root : int
        Seed of the splits.
    """

    def __init__(self, judge: Judge, cv: Any, root: int) -> None:
        judge.check()
        self.judge = judge
        self.cv = cv
        self.root = root

    def needs_labels(self, estimator: Any) -> bool:
        """Return whether the measure tells the classes of this estimator apart."""
        measure = self.judge.of_features
        return measure is not None and measure.classes != "unused" and has_classes(estimator)

    def learn(self, estimator: Any, X: Any, y: Any = None) -> tuple[Learnt | None, np.ndarray]:
        """Learn beside an estimator that stays as it is, or without one.

        Returns what was learnt, and the novelty of each row from what was learnt without it; NaN
        for rows that were never left out.
        """
        if self.judge.of_features is None:
            return None, self.judge(estimator, None, X)
        features = self.judge.features(estimator, X)
        codes = self._codes(estimator, y, features.shape[1])
        splits = self._splits(y, codes)
        left_out = np.full(len(codes), np.nan)
        for train, test in splits:
            learnt = self.judge.learn(features[:, train], codes[train])
            left_out[test] = self.judge.by_features(learnt, features[:, test])
        if len(splits) > 1:
            learnt = self.judge.learn(features, codes)
        return learnt, left_out

    def fit(self, estimator: Any, X: Any, y: Any) -> tuple[Any, Learnt | None, np.ndarray]:
        """Fit an estimator, and learn from the same rows; return both, and as `learn`."""
        if isinstance(X, IndexedDataset):
            X, y = with_targets(X, y)
        elif is_dataset(X):
            raise ValueError(
                f"X is a {type(X).__name__}; expected an array, as NoveltyDetector fits its "
                "estimator on parts of the rows. Give skuq.datasets.IndexedDataset(dataset); or "
                "fit the estimator on one Dataset, and give "
                "NoveltyDetector(FrozenEstimator(estimator)) another Dataset, with other rows"
            )
        if y is None:
            raise ValueError(
                "NoveltyDetector requires y to be passed, but the target y is None: its estimator "
                "learns from y. Give fit(X, y), or a fitted estimator as FrozenEstimator(estimator)"
            )
        X, y = indexable(X, y)
        n_rows = _num_samples(X)
        codes = self._codes(estimator, y, n_rows)
        strata = codes  # the estimator learns each class, even if the measure tells none apart
        if has_classes(estimator) and kind_of_labels(y) in ("binary", "multiclass"):
            strata = codes_of(estimator, y, n_rows, "fit")
        splits = self._splits(y, strata)
        left_out = np.full(len(codes), np.nan)
        for train, test in splits:
            fitted, learnt = self._fit_on(estimator, X, y, codes, train)
            left_out[test] = self.judge(fitted, learnt, _safe_indexing(X, test))
        if len(splits) > 1:
            fitted, learnt = self._fit_on(estimator, X, y, codes, np.arange(len(codes)))
        return fitted, learnt, left_out

    def _fit_on(
        self, estimator: Any, X: Any, y: Any, codes: np.ndarray, index: np.ndarray
    ) -> tuple[Any, Learnt | None]:
        rows, targets = _safe_indexing(X, index), _safe_indexing(y, index)
        fitted = fit_clone(Task("fit"), estimator, rows, targets, None)
        if self.judge.of_features is None:
            return fitted, None
        return fitted, self.judge.learn(self.judge.features(fitted, rows), codes[index])

    def _codes(self, estimator: Any, y: Any, n_rows: int) -> np.ndarray:
        """Return the class of each row as a number, 0 for all where there are no classes."""
        measure, why = self.judge.of_features, f"measure={self.judge.by!r}"
        if measure is None or measure.classes == "unused":  # then y may be missing
            return np.zeros(n_rows, dtype=np.intp)
        codes = codes_of(estimator, y, n_rows, why)
        if measure.classes == "needed" and codes.max(initial=0) == 0:
            raise ValueError(
                f"{why} compares classes: expected a classifier and rows of at least 2 classes, "
                "got 1 class or none; use measure='mahalanobis'"
            )
        return codes

    def _splits(self, y: Any, codes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """List the rows to learn from, and those left out to calibrate, for each fold."""
        if len(codes) < 2:
            raise ValueError(f"NoveltyDetector needs at least 2 rows, got {len(codes)} sample")
        if self.cv is not None:
            X, classifies = np.zeros(len(codes)), bool(codes.any())
            y = codes if y is None else y  # for splitters that look at labels
            return folds_of(self.cv, X, y, None, classifies=classifies, random_state=self.root)
        seed = derive_seed(self.root, Purpose.SPLIT)
        if not self.judge.beside:
            folds = KFold(min(_FOLDS, len(codes)), shuffle=True, random_state=seed % 2**32)
            return list(folds.split(codes))
        order = np.random.default_rng(seed).permutation(len(codes))
        n_left_out = max(1, round(_CALIBRATION_SHARE * len(codes)))
        left_out, kept = order[:n_left_out], order[n_left_out:]
        missing = np.setdiff1d(codes, codes[kept])  # of each of these classes, learn from one row
        first = [left_out[codes[left_out] == code][0] for code in missing]
        kept = np.append(kept, np.array(first, dtype=np.intp))
        return [(kept, np.setdiff1d(left_out, first))]

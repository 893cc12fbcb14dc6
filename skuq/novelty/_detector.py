"""`NoveltyDetector`: whether rows are like those that are known."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold
from sklearn.utils import indexable
from sklearn.utils.validation import check_is_fitted

from skuq._data._streams import is_dataset, with_targets
from skuq._features import map_features
from skuq._meta import fit_clone, folds_of, warn_of_rows_seen
from skuq._utils._messages import unfrozen
from skuq._utils._progress import Task
from skuq._utils._random import Purpose, derive_seed, root_seed
from skuq._utils._sklearn_compat import (
    Interval,
    StrOptions,
    _num_samples,
    _safe_indexing,
    validate_parameter_constraints,
)
from skuq._utils._typing import ArrayLike, MatrixLike, RandomState
from skuq.novelty._judgement import Learnt, judge_features, judge_outputs, learn, look_up
from skuq.novelty._levels import discoveries, p_values_of, threshold
from skuq.novelty._rows import (
    OnFeatures,
    blocks,
    checked_network,
    codes_of,
    features_of,
    judged_rows,
    on_numpy,
)
from skuq.novelty._measures import FEATURE_MEASURES, OUTPUT_MEASURES, FeatureMeasure, OutputMeasure

__all__ = ["NoveltyDetector"]

_CALIBRATION_SHARE = 0.25  # of the rows, without cv
_FOLDS = 5  # without an estimator and without cv


class NoveltyDetector(OutlierMixin, OnFeatures, BaseEstimator):
    """Finds rows that are unlike the known ones."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "measure": [StrOptions({*FEATURE_MEASURES, *OUTPUT_MEASURES}), callable],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
        "cv": ["cv_object"],
        "layer": [str, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        measure: str | Callable[[Any, Any], ArrayLike] = "mahalanobis",
        contamination: float = 0.05,
        cv: Any = None,
        layer: str | None = None,
        random_state: RandomState = 0,
    ) -> None:
        self.estimator = estimator
        self.measure = measure
        self.contamination = contamination
        self.cv = cv
        self.layer = layer
        self.random_state = random_state

    # -- fit -------------------------------------------------------------------------------------

    def fit(self, X: MatrixLike, y: ArrayLike | None = None) -> Self:
        """Learn what known rows are like."""
        parameters = self.get_params(deep=False)
        validate_parameter_constraints(self._parameter_constraints, parameters, "NoveltyDetector")
        self.__dict__.pop("estimator_", None)  # after an error, the detector is not fitted
        self._by, self._at = self.measure, self.layer
        look_up(self.measure, self.estimator)
        if self.estimator is None:
            known, flagged = self._learn(None, self._read_rows(X, reset=True), None)
            fitted = None
        elif isinstance(self.estimator, FrozenEstimator):
            check_is_fitted(unfrozen(self.estimator))
            X, y = with_targets(X, y)
            warn_of_rows_seen(self.estimator, X, to="show what is normal")
            fitted = self.estimator
            known, flagged = self._learn(fitted, X, y)
        else:
            fitted, known = self._fit_estimator(X, y)
            flagged = known
        self.calibration_scores_ = np.sort(known[~np.isnan(known)])
        self.offset_ = -threshold(flagged[~np.isnan(flagged)], self.contamination)
        self.estimator_ = fitted
        return self

    def _learn(self, estimator: Any, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Learn from the rows, beside an estimator that stays as it is.

        Returns the novelty of rows that were left out, and of the rows of which to flag a share.
        """
        measure = look_up(self._by, estimator)
        if not isinstance(measure, FeatureMeasure):
            self._learnt = None
            return (self._judge(estimator, None, X),) * 2
        features = X[None] if estimator is None else self._features(estimator, X)
        codes = self._codes(measure, estimator, y, features.shape[1])
        splits = self._splits(features.shape[1], y, codes)
        left_out = np.full(len(codes), np.nan)
        for train, test in splits:
            learnt = learn(measure, features[:, train], codes[train], self._resolution)
            left_out[test] = judge_features(measure, learnt, features[:, test])
        if len(splits) > 1:
            learnt = learn(measure, features, codes, self._resolution)
        self._learnt = learnt
        if estimator is None and self.cv is None:  # as scikit-learn's detectors
            return left_out, judge_features(measure, learnt, features)
        return left_out, left_out

    def _fit_estimator(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        """Fit the estimator, and learn from the same rows; return the novelty of those left out."""
        if is_dataset(X):
            raise ValueError(
                f"X is a {type(X).__name__}; expected an array, as NoveltyDetector fits its "
                "estimator on parts of the rows. Fit the estimator on one Dataset, and give "
                "NoveltyDetector(FrozenEstimator(estimator)) another Dataset, with other rows"
            )
        if y is None:
            raise ValueError(
                "NoveltyDetector requires y to be passed, but the target y is None: its estimator "
                "learns from y. Give fit(X, y), or a fitted estimator as FrozenEstimator(estimator)"
            )
        X, y = indexable(X, y)
        measure = look_up(self._by, self.estimator)
        codes = self._codes(measure, self.estimator, y, _num_samples(X))
        splits = self._splits(len(codes), y, codes)
        everything = np.arange(len(codes))
        left_out = np.full(len(codes), np.nan)
        for train, test in splits:
            fitted, learnt = self._fit_on(X, y, codes, train)
            left_out[test] = self._judge(fitted, learnt, _safe_indexing(X, test))
        if len(splits) > 1:
            fitted, learnt = self._fit_on(X, y, codes, everything)
        self._learnt = learnt
        return fitted, left_out

    def _fit_on(self, X: Any, y: Any, codes: np.ndarray, index: np.ndarray) -> tuple[Any, Any]:
        """Fit the estimator, and learn from its features, on some of the rows."""
        measure = look_up(self._by, self.estimator)
        rows, targets = _safe_indexing(X, index), _safe_indexing(y, index)
        fitted = fit_clone(Task("fit"), self.estimator, rows, targets, None)
        if not isinstance(measure, FeatureMeasure):
            return fitted, None
        features = self._features(fitted, rows)
        return fitted, learn(measure, features, codes[index], self._resolution)

    def _features(self, estimator: Any, X: Any) -> np.ndarray:
        return features_of(estimator, X, self._at, f"measure={self._by!r}")

    def _codes(self, measure: Any, estimator: Any, y: Any, n_rows: int) -> np.ndarray:
        """Return the class of each row as a number, 0 for all where there are no classes."""
        if not isinstance(measure, FeatureMeasure) or measure.classes == "unused":
            return np.zeros(n_rows, dtype=np.intp)
        codes = codes_of(estimator, y, n_rows, f"measure={self._by!r}")
        if measure.classes == "needed" and codes.max(initial=0) == 0:
            raise ValueError(
                f"measure={self._by!r} compares classes: expected a classifier and rows of at least "
                "2 classes, got 1 class or none; use measure='mahalanobis'"
            )
        return codes

    def _splits(
        self, n_rows: int, y: Any, codes: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """List the rows to learn from, and those left out to calibrate, for each fold."""
        root = root_seed(self.random_state)
        seed = derive_seed(root, Purpose.SPLIT)
        if self.cv is not None:
            X = np.zeros(n_rows)
            return folds_of(self.cv, X, y, None, classifies=codes.any(), random_state=root)
        if self.estimator is None:
            folds = KFold(min(_FOLDS, n_rows), shuffle=True, random_state=seed % 2**32)
            return list(folds.split(codes))
        order = np.random.default_rng(seed).permutation(n_rows)
        n_left_out = max(1, round(_CALIBRATION_SHARE * n_rows))
        left_out, kept = order[:n_left_out], order[n_left_out:]
        missing = np.setdiff1d(codes, codes[kept])
        first = [left_out[codes[left_out] == code][0] for code in missing]  # learnt from
        kept = np.append(kept, np.array(first, dtype=np.intp))
        return [(kept, np.setdiff1d(left_out, first))]

    # -- predict ---------------------------------------------------------------------------------

    def _judge(self, estimator: Any, learnt: Learnt | None, X: Any) -> np.ndarray:
        """Compute the novelty of rows, checked."""
        measure = look_up(self._by, estimator)
        if isinstance(measure, FeatureMeasure):
            assert learnt is not None

            def judged(features: np.ndarray) -> np.ndarray:
                return judge_features(measure, learnt, features)

            if estimator is None:
                novelty = np.concatenate([judged(block[None]) for block in blocks(X)])
            else:
                checked_network(estimator, X, f"measure={self._by!r}")
                novelty = map_features(estimator, X, on_numpy(judged), layer=self._at)
        elif isinstance(measure, OutputMeasure):
            novelty = judge_outputs(measure, self._by, estimator, X)
        else:
            novelty = measure(estimator, X)
        return judged_rows(novelty, X, self._by)

    def predict_novelty(self, X: MatrixLike) -> np.ndarray:
        """Compute how strange each row is."""
        check_is_fitted(self)
        rows = X if self.estimator_ is not None else self._read_rows(X, reset=False)
        return self._judge(self.estimator_, self._learnt, rows)

    def score_samples(self, X: MatrixLike) -> np.ndarray:
        """Compute how normal each row is."""
        return -self.predict_novelty(X)

    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """Compute by how much."""
        normality = self.score_samples(X)
        return normality - self.offset_

    def p_values(self, X: MatrixLike) -> np.ndarray:
        """Compute conformal p-values."""
        return p_values_of(self.predict_novelty(X), self.calibration_scores_)

    def predict(self, X: MatrixLike, fdr: float | None = None) -> np.ndarray:
        """Predict."""
        if fdr is None:
            strange = self.decision_function(X) < 0
        else:
            strange = discoveries(self.p_values(X), fdr, len(self.calibration_scores_))
        return np.where(strange, -1, 1)

    def fit_predict(self, X: MatrixLike, y: ArrayLike | None = None, **options: Any) -> np.ndarray:
        """Fit and predict."""
        return self.fit(X, y, **options).predict(X)

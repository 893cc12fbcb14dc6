"""The base of both selective estimators: where calibration rows come from, and the threshold."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils import indexable
from sklearn.utils.validation import check_is_fitted

from skuq._composition import predictions
from skuq._data._checks import weights_of_size
from skuq._data._streams import with_targets
from skuq._meta import Around
from skuq._utils._messages import warn
from skuq._utils._progress import Task, watchers
from skuq._utils._sklearn_compat import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    _check_sample_weight,
    with_callbacks,
)
from skuq._utils._typing import ArrayLike, MatrixLike, RandomState
from skuq.metrics._guarantees import (
    METHODS,
    SelectiveGuarantee,
    at_coverage,
    at_threshold,
    certified,
    fewest_rows,
    ranked,
)
from skuq.metrics._losses import sample_losses
from skuq.selective._calibration_rows import calibration_rows, check_detector, novelty_of
from skuq.selective._refusals import Refusals, refusals

__all__ = ["Selective"]

_WAYS = ("target_risk", "coverage", "reject_cost", "threshold")
KINDS = ("total", "aleatoric", "epistemic")


class Selective(Around, CallbackSupportMixin, MetaEstimatorMixin, BaseEstimator):
    """Base class of the selective estimators.

    A subclass gives:

    * ``_check_estimator()`` and ``_read_targets(y)``: checked input;
    * ``_check_to_fit(y)``: what else refuses targets before training, if anything does;
    * ``_measured(asked, X)``: the uncertainty by the name in `uncertainty`;
    * ``_losses(estimator, X, y)``: the loss of each row;
    * ``_largest_loss()``: where losses are clipped;
    * ``_check_cost()``: whether `reject_cost` fits the other parameters;
    * ``_begin(fitted)``: attributes that decode predictions.
    """

    target_risk: float | None
    coverage: float | None
    reject_cost: float | None
    threshold: float | None
    uncertainty: Any
    confidence_level: float
    method: str
    n_starts: int
    loss: Any
    calibration_size: float
    random_state: RandomState

    verbose: ClassVar[int] = 0  # for the watchers of `fit`
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "target_risk": [Interval(Real, 0, None, closed="neither"), None],
        "coverage": [Interval(Real, 0, 1, closed="right"), None],
        "reject_cost": [Interval(Real, 0, None, closed="left"), None],
        "threshold": [Real, None],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "method": [StrOptions(set(METHODS))],
        "n_starts": [Interval(Integral, 1, None, closed="left")],
        "calibration_size": [
            Interval(Real, 0, 1, closed="neither"),
            Interval(Integral, 1, None, closed="left"),
        ],
        "random_state": ["random_state"],
    }

    def _check_estimator(self) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not implement _check_estimator")

    def _check_cost(self) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not implement _check_cost")

    def _read_targets(self, y: Any) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} does not implement _read_targets")

    def _check_to_fit(self, y: np.ndarray) -> None:
        """Refuse targets with which no threshold is wanted, before anything is trained."""

    def _measured(self, asked: Any, X: Any) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} does not implement _measured")

    def _losses(self, estimator: Any, X: Any, y: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} does not implement _losses")

    def _largest_loss(self) -> float:
        raise NotImplementedError(f"{type(self).__name__} does not implement _largest_loss")

    def _begin(self, fitted: Any, y: np.ndarray) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not implement _begin")

    # -- fit -------------------------------------------------------------------------------------

    @with_callbacks
    def fit(
        self,
        X: MatrixLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit the estimator unless it is frozen, and choose the threshold on other rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them. Around a frozen estimator also a torch Dataset of
            pairs (x, y).
        y : array-like of shape (n_samples,), or (n_samples, n_targets), default=None
            True labels or targets; None if X is a Dataset, which has them.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the training of the estimator; in a Pipeline the last step gets
            them. The threshold counts all rows of positive weight equally.
        groups : array-like of shape (n_samples,), default=None
            The group of each row. The split does not separate rows of one group. Rows of one group
            depend on each other, so a threshold is certified only if each calibration row has its
            own group.

        Returns
        -------
        self : SelectiveClassifier or SelectiveRegressor
            The fitted estimator itself.

        Raises
        ------
        ValueError
            If not exactly one of `target_risk`, `coverage`, `reject_cost` and `threshold` is given,
            or if data or parameters cannot be used.

        Warns
        -----
        UserWarning
            If no threshold holds the target, or if the rows can certify nothing.
        """
        X, y = self._check_call_of_fit(X, y)
        self._check_ways()
        self._check_estimator()
        if not isinstance(self.uncertainty, str):
            check_detector(self.uncertainty)
        target = self._read_targets(y)
        self._check_to_fit(target)
        X, target = indexable(X, target)
        weight: np.ndarray | None = None
        if sample_weight is not None:
            checked = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
            weight = weights_of_size(checked)
        with Task("fit", watchers(self, X, target, weight)) as task:
            rows = calibration_rows(
                self.estimator, task, X, target, weight, groups,
                self.calibration_size, self.random_state,
            )  # fmt: skip
            self._begin(rows.estimator, target)
            scores = self._scores(rows.estimator, rows.X)
            losses = self._losses(rows.estimator, rows.X, rows.y)
            self._choose(losses, scores, rows.doubts)
            self.estimator_ = rows.estimator
            task.end(dict)  # a copy of self has every attribute
        return self

    def _check_ways(self) -> None:
        """Check that exactly one way to choose the threshold is given."""
        ways = {name: getattr(self, name) for name in _WAYS}
        given = [f"{name}={value!r}" for name, value in ways.items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"{type(self).__name__} needs exactly one of {', '.join(_WAYS)}, which chooses the "
                f"threshold; got {' and '.join(given) or 'none of them'}"
            )
        if self.reject_cost is not None:
            self._check_cost()
        largest = self._largest_loss() if self.target_risk is not None else 1.0
        if self.target_risk is not None and self.target_risk >= largest:
            raise ValueError(
                f"target_risk={self.target_risk} must be smaller than the largest loss, which is "
                f"{largest:g}; any threshold holds it"
            )
        if np.isnan(self.threshold or 0.0):
            raise ValueError("threshold must be a number, got NaN")

    def _choose(self, losses: np.ndarray, scores: np.ndarray, doubts: list[str]) -> None:
        """Set the threshold, and what is known about it."""
        largest, delta = self._largest_loss(), round(1 - self.confidence_level, 12)
        bounded = np.isfinite(largest)
        # Without a bound, only to divide and multiply by.
        scale = largest if bounded else max(1.0, float(losses.max()))
        rows = ranked(losses.clip(max=scale) / scale, scores)
        if self.target_risk is not None:
            target = self.target_risk / largest
            found = certified(rows, target, delta, self.method, self.n_starts)
            if not found.coverage:
                self._warn_of_nothing(len(losses), fewest_rows(target, delta, self.method))
        elif self.coverage is not None:
            found = at_coverage(rows, self.coverage, delta)
        else:
            chosen = self.threshold if self.reject_cost is None else self.reject_cost
            found = at_threshold(rows, float(chosen), delta)  # type: ignore[arg-type]
        if doubts or not bounded:
            found = found._replace(bound=np.nan)
        if doubts:
            name, why = type(self).__name__, ". Also, ".join(doubts)
            warn(
                f"the risk of this {name} is not certified: {why}",
                UserWarning,
            )
        self._keep(found, scale, len(losses))

    def _keep(self, found: SelectiveGuarantee, largest: float, n_rows: int) -> None:
        self.threshold_ = found.threshold
        self.coverage_ = found.coverage
        self.risk_ = found.risk * largest
        self.bound_ = found.bound * largest
        self.certified_ = bool(np.isfinite(found.bound))
        self.n_calibration_ = n_rows

    def _warn_of_nothing(self, n_rows: int, fewest: int) -> None:
        why = (
            f"the {n_rows} calibration rows are too few: at least {fewest} are needed, and suffice "
            "if none of them has a loss"
            if n_rows < fewest
            else f"even the most certain of the {n_rows} calibration rows lose too much (without "
            f"losses {fewest} would do)"
        )
        warn(
            f"no threshold is certified to hold target_risk={self.target_risk} with "
            f"confidence_level={self.confidence_level}, so every row is refused: {why}. Give more "
            "rows, raise target_risk, lower confidence_level, or choose an uncertainty that ranks "
            "errors later.",
            UserWarning,
        )

    # -- predict ---------------------------------------------------------------------------------

    def _scores(self, estimator: Any, X: Any) -> np.ndarray:
        """Measure the uncertainty that ranks the rows, higher for those to refuse."""
        if isinstance(self.uncertainty, str):
            asked, inner = predictions(estimator, X)
            scores = self._measured(asked, inner)
        else:
            scores = novelty_of(self.uncertainty, X)
        scores = np.asarray(scores, dtype=float)
        if scores.ndim > 1:
            scores = scores.reshape(len(scores), -1).mean(axis=1)
        if np.isnan(scores).any():
            raise ValueError(
                f"the uncertainty is NaN in {np.isnan(scores).sum()} of {len(scores)} rows, the "
                f"first one at place {np.flatnonzero(np.isnan(scores))[0]}; expected numbers"
            )
        return scores

    def _sample_losses(self, y: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        losses = sample_losses(y, predicted, self.loss)
        if (losses < 0).any():
            raise ValueError(f"loss must not be negative, got {losses.min():.3g}")
        return losses

    def accept(self, X: MatrixLike) -> np.ndarray:
        """Decide for each row whether to answer.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, in any form that `predict` takes.

        Returns
        -------
        ndarray of bool, of shape (n_samples,)
            Whether the uncertainty of the row is at most `threshold_`.
        """
        check_is_fitted(self)
        accepted: np.ndarray = self._scores(self.estimator_, X) <= self.threshold_
        return accepted

    def report(
        self, X: MatrixLike, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Refusals:
        """Count who is refused, and how often the accepted are wrong, on rows of known truth.

        A threshold that is right on average can refuse most rows of one class or group. Look at
        these rates before refusals are put to use.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows that neither trained the estimator nor chose the threshold.
        y : array-like of shape (n_samples,), or (n_samples, n_targets), default=None
            True labels or targets; None if X is a Dataset, which has them.
        groups : array-like of shape (n_samples,), default=None
            A group of each row, to be counted apart: a hospital, a sex, a device.

        Returns
        -------
        Refusals
            Counts and rates of all rows, by true class of a classifier, and by group.
        """
        check_is_fitted(self)
        X, y = with_targets(X, y)
        if y is None:
            raise ValueError(f"report of {type(self).__name__} needs the targets y, got None")
        target = self._read_targets(y)
        losses = self._losses(self.estimator_, X, target).clip(max=self._largest_loss())
        classes = target if hasattr(self, "classes_") else None
        return refusals(self.accept(X), losses, classes, groups, self.confidence_level)

    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        """Reduce the predictive distributions of the estimator; see `skuq._predict`."""
        check_is_fitted(self)
        asked, inner = predictions(self.estimator_, X)
        return asked._reduce(inner, reduction, *aligned)

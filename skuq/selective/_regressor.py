"""A regressor that may refuse."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Literal, overload

import numpy as np
from sklearn.base import RegressorMixin, is_regressor
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_array, check_is_fitted

from skuq._composition import predictions
from skuq._data._streams import rereadable, with_targets
from skuq._predict import RegressorPredictions
from skuq._utils._messages import name_of
from skuq._utils._sklearn_compat import Interval, StrOptions
from skuq._utils._typing import ArrayLike, MatrixLike, RandomState
from skuq.selective._base import KINDS, Selective
from skuq.selective._refusals import accepted_else

__all__ = ["SelectiveRegressor"]


class SelectiveRegressor(RegressorPredictions, RegressorMixin, Selective):
    """A regressor that answers where its uncertainty is at most a threshold.

    The threshold is chosen as by `SelectiveClassifier`. A guarantee on a mean loss needs a bounded
    loss: squared and absolute errors are clipped at `loss_bound`, or the loss is 1 where y lies
    outside of the predicted interval.

    Parameters
    ----------
    estimator : regressor
        A skuq regressor; a calibrator, Pipeline or search around one; or any regressor whose
        `predict` takes ``return_std=True``. Pass a fitted regressor as
        ``FrozenEstimator(estimator)``: then all rows of X and y choose the threshold.
    target_risk : float > 0, default=None
        Largest mean of the clipped loss among accepted rows, in units of the loss. With
        ``method="crc"`` the joint risk E[loss · accepted] is meant.
    coverage : float in (0, 1], default=None
        Share of the calibration rows to accept.
    reject_cost : float >= 0, default=None
        Cost of a refusal in squared units of y, where an answer costs its squared error. Rows whose
        predicted variance is larger are refused [1]_, which is the best rule if variances are
        right. It needs ``uncertainty="total"`` and ``loss="squared"``.
    threshold : float, default=None
        The largest uncertainty that is accepted; for the variances, in squared units of y.
    uncertainty : {"total", "aleatoric", "epistemic"}, or fitted object with `predict_novelty`, \
            default="total"
        What ranks the rows: a part of the predicted variance, averaged over targets, or a fitted
        detector, whose `predict_novelty` is higher for stranger rows; clones and searches keep it
        fitted as ``FrozenEstimator(detector)``. It must not have learnt from the calibration rows.
    confidence_level : float in (0, 1), default=0.95
        Probability over the calibration rows that the guarantee holds.
    method : {"fixed_sequence", "sgr", "crc"}, default="fixed_sequence"
        How `target_risk` is certified, as in `SelectiveClassifier`. The p-values are binomial for
        "outside_interval", and otherwise the bounds of Hoeffding and Bentkus.
    n_starts : int, default=2
        Number of evenly spaced places at which a fixed sequence starts.
    loss : {"squared", "absolute", "outside_interval"} or callable, default="squared"
        Loss of a row. "outside_interval" is 1 where y lies outside of the interval that
        `predict_interval` gives, in any of the targets, and 0 elsewhere. A callable maps (y_true,
        y_pred) to a loss of each row. Losses of several targets are averaged.
    loss_bound : float > 0, default=None
        The bound at which losses are clipped, in their units. It is needed for a guarantee and for
        a bound; None is allowed for "outside_interval", and without `target_risk`, where losses
        are then clipped nowhere and `bound_` is NaN.
    interval_level : float in (0, 1), default=0.9
        Level of the interval of the loss "outside_interval".
    reject_label : float, default=None
        The number that `predict` gives to refused rows, such as NaN. None gives every row its
        prediction; `accept` has the decisions.
    calibration_size : float in (0, 1) or int, default=0.3
        Share or number of the rows that choose the threshold, unless the estimator is frozen.
    random_state : int, RandomState instance or None, default=0
        Seed of the split. Training uses the `random_state` of the estimator.

    Attributes
    ----------
    threshold_, coverage_, certified_, n_calibration_ : as in `SelectiveClassifier`
        The threshold, the share of calibration rows that it accepts, whether the risk is certified,
        and the number of calibration rows.
    risk_ : float
        Mean clipped loss of the accepted calibration rows; NaN if there are none.
    bound_ : float
        What is certified, in units of the loss, as in `SelectiveClassifier`.
    estimator_ : regressor
        The fitted estimator.
    n_features_in_ : int
        Number of features that the estimator was fitted on.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of these features; only if all are strings.

    References
    ----------
    .. [1] A. Zaoui, C. Denis, M. Hebiri, "Regression with reject option and application to kNN",
       NeurIPS 2020, arXiv:2006.16597.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skuq import TorchRegressor
    >>> from skuq.selective import SelectiveRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> network = TorchRegressor(lr=0.01, max_epochs=20, random_state=0)
    >>> selective = SelectiveRegressor(network, coverage=0.5).fit(X, y)
    >>> bool(abs(selective.coverage_ - 0.5) < 0.01)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Selective._parameter_constraints,
        "loss": [StrOptions({"squared", "absolute", "outside_interval"}), callable],
        "loss_bound": [Interval(Real, 0, None, closed="neither"), None],
        "interval_level": [Interval(Real, 0, 1, closed="neither")],
        "reject_label": [Real, None],
    }

    def __init__(
        self,
        estimator: Any,
        *,
        target_risk: float | None = None,
        coverage: float | None = None,
        reject_cost: float | None = None,
        threshold: float | None = None,
        uncertainty: Any = "total",
        confidence_level: float = 0.95,
        method: str = "fixed_sequence",
        n_starts: int = 2,
        loss: Any = "squared",
        loss_bound: float | None = None,
        interval_level: float = 0.9,
        reject_label: float | None = None,
        calibration_size: float = 0.3,
        random_state: RandomState = 0,
    ) -> None:
        self.estimator = estimator
        self.target_risk = target_risk
        self.coverage = coverage
        self.reject_cost = reject_cost
        self.threshold = threshold
        self.uncertainty = uncertainty
        self.confidence_level = confidence_level
        self.method = method
        self.n_starts = n_starts
        self.loss = loss
        self.loss_bound = loss_bound
        self.interval_level = interval_level
        self.reject_label = reject_label
        self.calibration_size = calibration_size
        self.random_state = random_state

    def _check_estimator(self) -> None:
        if not is_regressor(self.estimator):
            raise TypeError(
                f"{type(self).__name__} needs a regressor, got {name_of(self.estimator)}"
            )
        if isinstance(self.uncertainty, str) and self.uncertainty not in KINDS:
            raise ValueError(
                f"uncertainty must be one of {', '.join(map(repr, KINDS))}, or a fitted object "
                f"with predict_novelty, got {self.uncertainty!r}"
            )

    def _check_cost(self) -> None:
        if self.uncertainty != "total" or self.loss != "squared":
            raise ValueError(
                "reject_cost compares the predicted variance with the cost, so it needs "
                f"uncertainty='total' and loss='squared', got {self.uncertainty!r} and "
                f"{self.loss!r}"
            )

    def _read_targets(self, y: Any) -> np.ndarray:
        target: np.ndarray = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        return target

    def _begin(self, fitted: Any, y: np.ndarray) -> None:
        self._target_shape = y.shape[1:]

    def _measured(self, asked: Any, X: Any) -> np.ndarray:
        measured: np.ndarray = asked.predict_uncertainty(X, kind=self.uncertainty)
        return measured

    def _losses(self, estimator: Any, X: Any, y: np.ndarray) -> np.ndarray:
        if self.loss == "outside_interval":
            asked: Any
            asked, inner = predictions(estimator, X)
            interval = asked.predict_interval(inner, self.interval_level)
            inside = (interval[..., 0] <= y) & (y <= interval[..., 1])
            outside: np.ndarray = ~inside.reshape(len(y), -1).all(axis=1)
            return outside.astype(float)
        predicted = np.asarray(estimator.predict(X), dtype=float)
        return self._sample_losses(y, predicted.reshape(y.shape))

    def _largest_loss(self) -> float:
        if self.loss_bound is not None:
            return float(self.loss_bound)
        if self.loss == "outside_interval":
            return 1.0
        if self.target_risk is not None:
            raise ValueError(
                f"a guarantee needs a bounded loss: give loss_bound, at which loss={self.loss!r} "
                "is clipped, in its units, or loss='outside_interval'"
            )
        return np.inf

    @overload
    def predict(self, X: MatrixLike, return_std: Literal[False] = ...) -> np.ndarray: ...

    @overload
    def predict(
        self, X: MatrixLike, return_std: Literal[True]
    ) -> tuple[np.ndarray, np.ndarray]: ...

    @overload
    def predict(
        self, X: MatrixLike, return_std: bool
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]: ...

    def predict(
        self, X: MatrixLike, return_std: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict the target of each row, or `reject_label` where it is given and a row is refused.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows to predict, as the estimator takes them.
        return_std : bool, default=False
            Whether to also return the standard deviation (aleatoric and epistemic together).

        Returns
        -------
        mean : ndarray of shape (n_samples,) or (n_samples, n_targets)
            The prediction of the estimator, or `reject_label`.
        std : ndarray of the same shape
            The standard deviation in the units of y; only with ``return_std=True``.
        """
        check_is_fitted(self)
        if self.reject_label is not None:
            X = rereadable(X)
        mean = np.asarray(self.estimator_.predict(X))
        if self.reject_label is not None:
            mean = accepted_else(self.accept(X), mean, float(self.reject_label))
        return (mean, super().predict(X, return_std=True)[1]) if return_std else mean

    def score(
        self, X: MatrixLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Compute R² on all rows, refused or not; `report` has the risk of accepted rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows, as in `fit`.
        y : array-like of shape (n_samples,), or (n_samples, n_targets), default=None
            True targets; None if X is a Dataset of pairs (x, y), which has them.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts; None weighs all equally.

        Returns
        -------
        float
            At most 1; greater is better.
        """
        check_is_fitted(self)
        X, y = with_targets(X, y)
        if y is None:
            raise ValueError(f"score of {type(self).__name__} needs the targets y, got None")
        return float(r2_score(y, self.estimator_.predict(X), sample_weight=sample_weight))

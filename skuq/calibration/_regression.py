"""Calibrators of predicted distributions of real targets."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
from sklearn.base import RegressorMixin, is_regressor
from sklearn.utils.validation import check_array
from torch import Tensor
from torch.distributions import Distribution

from skuq._composition import predictions
from skuq._data._checks import weights_of_size
from skuq._distributions._derived import affine, recalibrated
from skuq._distributions._mixture import is_discrete, mixture_cdf
from skuq._distributions._transformed import Transformed
from skuq._predict import RegressorPredictions
from skuq._reductions import of_targets, target_uncertainty
from skuq._utils._messages import name_of, warn
from skuq._utils._sklearn_compat import _check_sample_weight
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.calibration._base import Calibrator

__all__ = ["QuantileRecalibrator", "VarianceScaler", "fit_variance_scale"]


def fit_variance_scale(
    y_true: ArrayLike, mean: ArrayLike, std: ArrayLike, sample_weight: ArrayLike | None = None
) -> float | np.ndarray:
    """Find the factor k of the standard deviations that fits the errors best [1]_.

    k² = mean((y − mean)² / std²) minimises the negative log-likelihood of normal distributions
    whose standard deviation is k · std.

    Parameters
    ----------
    y_true, mean, std : array-like of shape (n_samples,) or (n_samples, n_targets)
        True targets, predicted means and standard deviations.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each sample counts; None weighs all equally.

    Returns
    -------
    float, or ndarray of shape (n_targets,)
        The factor k of the standard deviation of each target.

    References
    ----------
    .. [1] D. Levi, L. Gispan, N. Giladi, E. Fetaya, "Evaluating and Calibrating Uncertainty
       Prediction in Regression Tasks", Sensors 22, 2022, arXiv:1905.11659.

    Examples
    --------
    >>> from skuq.calibration import fit_variance_scale
    >>> fit_variance_scale([1.0, -1.0], [0.0, 0.0], [0.5, 0.5])
    2.0
    """
    y, centre, spread = (np.asarray(values, dtype=float) for values in (y_true, mean, std))
    if not y.shape == centre.shape == spread.shape or y.ndim not in (1, 2) or not len(y):
        raise ValueError(
            "y_true, mean and std must have one shape, (n_samples,) or (n_samples, n_targets), got "
            f"{y.shape}, {centre.shape} and {spread.shape}"
        )
    if not (spread > 0).all():
        raise ValueError("std must be positive")
    square = ((y - centre) / spread) ** 2
    if not np.isfinite(square).all():
        raise ValueError("y_true, mean or std contains NaN or infinity, or std is too small")
    if sample_weight is None:
        return _scale_of(square, None)
    weight = _check_sample_weight(sample_weight, square, ensure_non_negative=True)
    if not weight.any():
        raise ValueError("sample_weight is zero everywhere")
    return _scale_of(square, weights_of_size(weight))


def _scale_of(square: np.ndarray, weight: np.ndarray | None) -> float | np.ndarray:
    if not len(square) or not np.isfinite(square).all():
        raise ValueError(
            "the regressor is certain of some rows: their variance is 0, which no factor scales. "
            "Use members that know their noise, such as trees with min_samples_leaf above 1"
        )
    scale: np.ndarray = np.sqrt(np.average(square, axis=0, weights=weight))
    if not np.all(scale > 0):
        raise ValueError(
            "every prediction is exact, so no scale fits the errors: calibrate on rows that the "
            "estimator was not fitted on"
        )
    return scale if np.ndim(scale) else float(scale)


class _RegressorCalibrator(RegressorPredictions, RegressorMixin, Calibrator):
    _classifies = False

    def _check_estimator(self) -> None:
        if not is_regressor(self.estimator):
            raise TypeError(
                f"{type(self).__name__} needs a regressor, got {name_of(self.estimator)}"
            )

    def _read_targets(self, y: Any) -> np.ndarray:
        target: np.ndarray = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        self._target_shape = target.shape[1:]
        return target

    def _reduce_with_targets(
        self, estimator: Any, X: Any, y: np.ndarray, reduction: Any
    ) -> np.ndarray:
        """Reduce the predictive distributions and the targets (n_rows, n_targets)."""
        asked, inner = predictions(estimator, X)
        evidence: np.ndarray = asked._reduce(inner, of_targets(reduction), y.reshape(len(y), -1))
        return evidence


def _check_scalable(predictive: Distribution) -> None:
    """Refuse distributions that scaling about the mean would move out of their range."""
    base = predictive
    while True:
        if is_discrete(base):
            raise ValueError(
                "VarianceScaler cannot calibrate counts: ends of intervals that are scaled about "
                "the mean need not be whole or positive. Use QuantileRecalibrator, which keeps "
                "counts; fit_variance_scale measures by how much counts vary more than predicted"
            )
        if isinstance(base, Transformed) and base.is_bounded():
            raise ValueError(
                "VarianceScaler cannot scale y about its mean if a nonlinear transformer of "
                "targets, such as log(y), keeps y in a range. Put it inside: "
                "TransformedTargetRegressor(VarianceScaler(regressor), ...), or use "
                "QuantileRecalibrator"
            )
        if not hasattr(base, "base"):
            return
        base = base.base


class VarianceScaler(_RegressorCalibrator):
    """Calibrates a regressor by one factor k for the standard deviation of each target [1]_.

    Every draw is scaled about the mean of all: μ_m → μ̄ + k (μ_m − μ̄), σ_m → k σ_m. So the mean
    stays. The total standard deviation and the distances of intervals from the mean grow k-fold.
    Aleatoric and epistemic variances keep their shares. k² is the mean of (y − μ̄)²/σ² over rows
    that were left out, where σ² is the total variance.

    Scaling would move counts out of their range, and also targets that a nonlinear transformer
    keeps within a bound. `fit` refuses both; the message names an alternative.

    Parameters
    ----------
    estimator : regressor
        A skuq regressor; a Pipeline, a TransformedTargetRegressor or a search around one; or a
        scikit-learn regressor whose `predict` takes ``return_std=True``. Pass a fitted regressor
        as ``FrozenEstimator(estimator)``: then all rows of X and y calibrate it.
    cv : int, cross-validation generator or iterable, default=5
        Folds for an estimator that is not frozen: each fold is predicted by an estimator that was
        fitted on the others, and at the end the estimator is fitted on all rows. A number makes
        that many shuffled folds, which do not separate rows of one group. A splitter is used
        unchanged: `TimeSeriesSplit`, or ``KFold(5)`` for folds in the order of the rows.
    n_jobs : int, default=None
        Number of folds that joblib fits at the same time.
    verbose : int, default=0
        1 shows a progress bar over the folds.
    random_state : int, RandomState instance or None, default=0
        Seed of the shuffled folds; None shuffles differently in each call. Training uses the
        `random_state` of the estimator.

    Attributes
    ----------
    scale_ : float, or ndarray of shape (n_targets,)
        The factor k; above 1 widens.
    estimator_ : regressor
        The fitted estimator.
    n_features_in_ : int
        Number of features that the estimator was fitted on.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of these features; only if all are strings.

    References
    ----------
    .. [1] D. Levi, L. Gispan, N. Giladi, E. Fetaya, "Evaluating and Calibrating Uncertainty
       Prediction in Regression Tasks", Sensors 22, 2022, arXiv:1905.11659.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skuq import TorchRegressor
    >>> from skuq.calibration import VarianceScaler
    >>> X, y = load_diabetes(return_X_y=True)
    >>> network = TorchRegressor(lr=0.01, max_epochs=20, random_state=0)
    >>> scaler = VarianceScaler(network, cv=3).fit(X, y)
    >>> mean, std = scaler.predict(X, return_std=True)
    """

    _learnt_above: ClassVar[dict[str, float]] = {"scale_": 0.0}

    def _evidence(self, estimator: Any, X: Any, y: np.ndarray) -> np.ndarray:
        total = target_uncertainty("total")

        def reduction(predictive: Distribution, rows: Tensor) -> Tensor:
            _check_scalable(predictive)
            ratio: Tensor = (rows - predictive.mean.mean(0)).square() / total(predictive)
            return ratio

        return self._reduce_with_targets(estimator, X, y, reduction)

    def _learn(self, evidence: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> None:
        weight = None if weight is None else weights_of_size(weight)
        scale = np.atleast_1d(_scale_of(evidence, weight))
        self.scale_ = scale if self._target_shape else float(scale[0])

    def _calibrated(self, predictive: Distribution) -> Distribution:
        _check_scalable(predictive)
        centre = predictive.mean.mean(0)
        scale = centre.new_tensor(self.scale_)
        return affine(predictive, (1 - scale) * centre, scale)


class QuantileRecalibrator(_RegressorCalibrator):
    """Calibrates the quantiles of a regressor: P(Y ≤ y) = R(F(y)) [1]_.

    F is the distribution function of the predictive mixture. R(p) is the share of left-out rows for
    which F(y) is at most p. R is an increasing piecewise linear map, one for each target, made from
    the ranks i / (n + 1); it is its own isotonic regression. The calibrated q-quantile is the old
    quantile at level R⁻¹(q), so quantiles and intervals reach their levels for any shape of F.
    `predict` and ``return_std`` give the moments of the recalibrated distribution.

    A `sample_weight` of 2 is the same as the row twice, and n is the sum of the weights. So give
    weights of mean 1, not of sum 1.

    One distribution replaces the draws, so there is only a total uncertainty and no
    `predict_draws`. R is linear outside of the n ranks, where no data support it: levels below
    1/(n + 1) and above n/(n + 1) are guesses.

    Parameters
    ----------
    estimator, cv, n_jobs, verbose, random_state : as in `VarianceScaler`
        The estimator and how it is cross-fitted.

    Attributes
    ----------
    levels_ : list of ndarray, one per target
        Knots of R: levels of F, from 0 to 1.
    frequencies_ : list of ndarray, one per target
        Values of R at the knots: shares of targets at or below these levels.
    estimator_, n_features_in_, feature_names_in_ : as in `VarianceScaler`
        The fitted estimator and its features.

    Warns
    -----
    UserWarning
        In `fit`, if F(y) of a target rounds to 0 or 1: scale variances first.

    References
    ----------
    .. [1] V. Kuleshov, N. Fenner, S. Ermon, "Accurate Uncertainties for Deep Learning Using
       Calibrated Regression", ICML 2018, arXiv:1807.00263.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skuq import TorchRegressor
    >>> from skuq.calibration import QuantileRecalibrator
    >>> X, y = load_diabetes(return_X_y=True)
    >>> network = TorchRegressor(lr=0.01, max_epochs=20, random_state=0)
    >>> recalibrator = QuantileRecalibrator(network, cv=3).fit(X, y)
    >>> recalibrator.predict_interval(X, confidence_level=0.8).shape
    (442, 2)
    """

    def _evidence(self, estimator: Any, X: Any, y: np.ndarray) -> np.ndarray:
        return self._reduce_with_targets(estimator, X, y, mixture_cdf)

    def _learn(self, evidence: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> None:
        weight = None if weight is None else weights_of_size(weight)
        maps = [_frequencies_below(column, weight) for column in evidence.T]
        self.levels_ = [levels for levels, _ in maps]
        self.frequencies_ = [frequencies for _, frequencies in maps]

    def _calibrated(self, predictive: Distribution) -> Distribution:
        return recalibrated(predictive, self.levels_, self.frequencies_)

    def predict_uncertainty(  # type: ignore[override]  # there are no parts to return
        self, X: MatrixLike, kind: Literal["total"] = "total"
    ) -> np.ndarray:
        """Compute the variance of the recalibrated distribution.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        kind : {"total"}, default="total"
            Only "total": the recalibrated distribution has no parts, but `estimator_` has.

        Returns
        -------
        ndarray of the shape of y
            Total variances, in squared units of y.
        """
        if kind != "total":
            raise ValueError(
                f"QuantileRecalibrator has only kind='total', got kind={kind!r}: quantiles of the "
                "whole mixture are recalibrated, not of single draws. Use VarianceScaler, or call "
                "predict_uncertainty of estimator_"
            )
        return super().predict_uncertainty(X, kind)

    @property
    def predict_draws(self) -> NoReturn:
        """Raise an AttributeError, since one distribution replaces the draws."""
        raise AttributeError(
            "QuantileRecalibrator has no predict_draws: quantiles of the whole mixture are "
            "recalibrated, not of single draws. Use VarianceScaler, or predict_draws of estimator_"
        )


def _frequencies_below(pit: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Make the knots of R: distinct values of F(y), and the mean of their ranks i / (n + 1)."""
    if (beyond := (pit <= 0) | (pit >= 1)).any():
        warn(
            f"{beyond.sum()} of {len(pit)} targets lie where the predicted distribution has no "
            "mass at all, so no quantile reaches them: calibrate variances first, as in "
            "QuantileRecalibrator(VarianceScaler(estimator))",
            UserWarning,
        )
    order = np.argsort(pit, kind="stable")
    mass = np.ones(len(pit)) if weight is None else weight[order]
    ranks = (mass.cumsum() - (mass - 1) / 2) / (mass.sum() + 1)  # i / (n + 1), also of ties
    levels, group = np.unique(pit[order], return_inverse=True)
    frequencies = np.bincount(group, mass * ranks) / np.bincount(group, mass)
    inside = (levels > 0) & (levels < 1)
    return (
        np.concatenate([[0.0], levels[inside], [1.0]]),
        np.concatenate([[0.0], frequencies[inside], [1.0]]),
    )

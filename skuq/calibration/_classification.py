"""Calibrators of probabilities: they change the logits of every draw."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch

from skuq._distributions._softmax import Softmax
from skuq._utils._sklearn_compat import Interval, StrOptions
from skuq._utils._typing import RandomState
from skuq.calibration._base import Calibrator
from skuq.calibration._classifier import ClassifierCalibrator, changed
from skuq.calibration._matrix import scaled_logits, search_matrix
from skuq.calibration._temperature import loss_at, search_temperature
from skuq.calibration._vector import search_scales

__all__ = ["MatrixScaler", "TemperatureScaler", "VectorScaler"]


class TemperatureScaler(ClassifierCalibrator):
    """Calibrates a classifier by one temperature for the logits of every draw [1]_.

    The logits of each draw are divided by T before probabilities are averaged, so every answer is
    calibrated: `predict_proba`, `predict_uncertainty`, `predict_draws`, `decision_function`. With
    one draw the predicted class never changes; with several it can, and `predict` is the most
    probable class of the calibrated mean.

    Parameters
    ----------
    estimator : classifier
        A skuq classifier; a Pipeline or a search around one; or any scikit-learn classifier with
        `decision_function` or `predict_proba`, which counts as one draw. Pass a fitted classifier
        as ``FrozenEstimator(estimator)``: then all rows of X and y calibrate it, and it must not
        have been fitted on them. A multilabel classifier gets one temperature for each label.
    cv : int, cross-validation generator or iterable, default=5
        Folds for an estimator that is not frozen: each fold is predicted by an estimator that was
        fitted on the others, T is fitted on these predictions, and at the end the estimator is
        fitted on all rows. A search inside runs in each fold. A number makes that many shuffled
        folds, stratified by class, which do not separate rows of one group. A splitter is used
        unchanged: `TimeSeriesSplit`, or ``KFold(5)`` for folds in the order of the rows.
    objective : {"nll", "brier", "ece"}, default="nll"
        The objective that T minimises: negative log-likelihood, Brier score, or the expected
        calibration error (top label, 15 bins).
    n_jobs : int, default=None
        Number of folds that joblib fits at the same time.
    verbose : int, default=0
        1 shows a progress bar over the folds.
    random_state : int, RandomState instance or None, default=0
        Seed of the shuffled folds; None shuffles differently in each call. Training uses the
        `random_state` of the estimator.

    Attributes
    ----------
    temperature_ : float, or ndarray of shape (n_labels,) for multilabel
        The temperature T: above 1 softens, below 1 sharpens.
    n_iter_ : int
        Number of evaluations of the objective (with several labels, the largest number).
    loss_before_, loss_after_ : float
        The objective at T = 1 and at T, on the rows that T was fitted on (mean over the labels).
    flat_range_ : tuple of two floats
        Temperatures between which the calibration error is less than 0.001 above its best. Only
        with ``objective="ece"`` and one label per row: this error jumps when rows change bins.
    estimator_ : classifier
        The fitted estimator.
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, in the order of the columns.
    n_features_in_ : int
        Number of features that the estimator was fitted on.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of these features; only if all are strings.

    See Also
    --------
    MatrixScaler : Also what one class says about another; the best of the three on many rows.
    VectorScaler : A scale and a bias for each class.
    sklearn.calibration.CalibratedClassifierCV : Isotonic and sigmoid calibration.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks",
       ICML 2017, arXiv:1706.04599.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> from skuq.calibration import TemperatureScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> network = TorchClassifier(lr=0.01, max_epochs=20, random_state=0)
    >>> scaler = TemperatureScaler(network, cv=3).fit(X, y)
    >>> scaler.predict_proba(X).shape
    (150, 3)
    >>> scaler.loss_after_ <= scaler.loss_before_
    True
    """

    _learnt_above: ClassVar[dict[str, float]] = {"temperature_": 0.0}
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Calibrator._parameter_constraints,
        "objective": [StrOptions({"nll", "brier", "ece"})],
    }

    def __init__(
        self,
        estimator: Any,
        cv: Any = 5,
        objective: str = "nll",
        n_jobs: int | None = None,
        verbose: int = 0,
        random_state: RandomState = 0,
    ) -> None:
        super().__init__(estimator, cv, n_jobs, verbose, random_state)
        self.objective = objective

    def _learn(self, evidence: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> None:
        columns = self._checked_logits(evidence, y, weight)
        found = [search_temperature(column, self.objective) for column in columns]
        temperatures = np.array([search.temperature for search in found])
        self.temperature_ = temperatures if self._multilabel else float(temperatures[0])
        self.n_iter_ = max(search.n_iter for search in found)
        before = [loss_at(column, 1.0, self.objective) for column in columns]
        after = [loss_at(c, t, self.objective) for c, t in zip(columns, temperatures)]
        self.loss_before_, self.loss_after_ = float(np.mean(before)), float(np.mean(after))
        if len(found) == 1 and found[0].flat_range is not None:
            self.flat_range_ = found[0].flat_range

    def _calibrated(self, predictive: Softmax) -> Softmax:
        temperature: Any = self.temperature_
        if self._multilabel:
            temperature = predictive.logits.new_tensor(temperature)[:, None]
        return changed(predictive, lambda logits: logits / temperature)


class _PenalisedScaler(ClassifierCalibrator):
    """Base of calibrators with several numbers for each class, and a penalty on them."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Calibrator._parameter_constraints,
        "l2": [Interval(Real, 0, None, closed="left")],
    }

    def _read_targets(self, y: Any) -> np.ndarray:
        target = super()._read_targets(y)
        if self._multilabel:
            raise ValueError(
                f"{type(self).__name__} is not for multilabel targets: use TemperatureScaler"
            )
        return target


class VectorScaler(_PenalisedScaler):
    """Calibrates a classifier by a scale and a bias for each class [1]_.

    The log-probabilities z of each draw become a ⊙ z + b, as logits, before probabilities are
    averaged. So subtract the logsumexp of raw logits before you use a and b on them. a and b
    minimise the mean negative log-likelihood plus a penalty: `l2`/n times the squared distance from
    a single temperature, 20 Σ_k (a_k − ā)² + Σ_k b_k², where n is the number of samples (or the sum
    of their weights). The larger `l2` and the smaller n, the nearer is the result to
    `TemperatureScaler`. The predicted class can change even with one draw. Not for several labels
    at once.

    Parameters
    ----------
    estimator, cv, n_jobs, verbose, random_state : as in `TemperatureScaler`
        The estimator and how it is cross-fitted.
    l2 : float >= 0, default=5.0
        Strength of the penalty, in rows. `sample_weight` counts rows: weights of sum 1 are as weak
        against the penalty as a single row.

    Attributes
    ----------
    scale_ : ndarray of shape (n_classes,)
        The factors a of the log-probabilities.
    bias_ : ndarray of shape (n_classes,)
        The offsets b, of mean 0.
    n_iter_ : int
        Number of iterations of the optimizer.
    loss_before_, loss_after_ : float
        Mean negative log-likelihood without scaling and with it, on the rows that it was fitted
        on.
    estimator_, classes_, n_features_in_, feature_names_in_ : as in `TemperatureScaler`
        The fitted estimator, its classes and its features.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks",
       ICML 2017, arXiv:1706.04599.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> from skuq.calibration import VectorScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> network = TorchClassifier(lr=0.01, max_epochs=20, random_state=0)
    >>> VectorScaler(network, cv=3).fit(X, y).scale_.shape
    (3,)
    """

    _learnt_above: ClassVar[dict[str, float]] = {"scale_": -np.inf, "bias_": -np.inf}

    def __init__(
        self,
        estimator: Any,
        cv: Any = 5,
        l2: float = 5.0,
        n_jobs: int | None = None,
        verbose: int = 0,
        random_state: RandomState = 0,
    ) -> None:
        super().__init__(estimator, cv, n_jobs, verbose, random_state)
        self.l2 = l2

    def _learn(self, evidence: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> None:
        (logits,) = self._checked_logits(evidence, y, weight)
        found = search_scales(logits, self.l2)
        self.scale_, self.bias_, self.n_iter_ = found.scale, found.bias, found.n_iter
        self.loss_before_, self.loss_after_ = loss_at(logits, 1.0, "nll"), found.loss

    def _calibrated(self, predictive: Softmax) -> Softmax:
        scale, bias = (torch.as_tensor(v) for v in (self.scale_, self.bias_))
        return changed(predictive, lambda z: z * scale.to(z) + bias.to(z))


class MatrixScaler(_PenalisedScaler):
    """Calibrates a classifier by a matrix: what the probability of one class says about another.

    Let p = softmax(z/T) be the probabilities of a draw after `TemperatureScaler`. The logits of
    class k become s_k log p_k + Σ_j M_kj p_j. So M_kj is what the logit of class k gains where the
    classifier says j. Where it says cat, the truth can well be dog, but hardly ship: no temperature
    learns this, and no `VectorScaler`.

    T is fitted first. Then s and M minimise the mean negative log-likelihood plus a penalty,
    `l2`/n times Σ_kj M_kj² + 100 Σ_k (s_k − s̄)², where n is the number of samples (or the sum of
    their weights). The larger `l2` and the smaller n, the nearer is the result to
    `TemperatureScaler`. The predicted class can change even with one draw. Not for several labels
    at once.

    Matrix scaling [1]_ multiplies logits by its matrix, as do its forms with penalties [2]_ [3]_.
    Logits have no bound, so few rows that a network is sure of decide about such a matrix.
    Probabilities have one: on public outputs they gave a lower loss for eight of ten networks.

    With K classes, the time of a step of the search is proportional to n K², and the memory of the
    search to K²: about 0.4 GB for 1,000 classes.

    Parameters
    ----------
    estimator, cv, n_jobs, verbose, random_state : as in `TemperatureScaler`
        The estimator and how it is cross-fitted.
    l2 : float >= 0, default=1.0
        Strength of the penalty, in rows. `sample_weight` counts rows: weights of sum 1 are as weak
        against the penalty as a single row.

    Attributes
    ----------
    temperature_ : float
        The temperature T of the probabilities that the matrix multiplies.
    scale_ : ndarray of shape (n_classes,)
        The factors s of the log-probabilities, near 1.
    matrix_ : ndarray of shape (n_classes, n_classes)
        The matrix M, in nats: row k, column j is what p_j adds to the logit of class k. Each column
        has mean 0.
    n_iter_ : int
        Number of iterations of the optimizer.
    loss_before_, loss_after_ : float
        Mean negative log-likelihood without scaling and with it, on the rows that it was fitted
        on.
    estimator_, classes_, n_features_in_, feature_names_in_ : as in `TemperatureScaler`
        The fitted estimator, its classes and its features.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks",
       ICML 2017, arXiv:1706.04599.
    .. [2] M. Kull et al., "Beyond temperature scaling: Obtaining well-calibrated multi-class
       probabilities with Dirichlet calibration", NeurIPS 2019, arXiv:1910.12656.
    .. [3] E. Berta, D. Holzmüller, M. I. Jordan, F. Bach, "Structured Matrix Scaling for
       Multi-Class Calibration", AISTATS 2026, arXiv:2511.03685.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> from skuq.calibration import MatrixScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> network = TorchClassifier(lr=0.01, max_epochs=20, random_state=0)
    >>> MatrixScaler(network, cv=3).fit(X, y).matrix_.shape
    (3, 3)
    """

    _learnt_above: ClassVar[dict[str, float]] = {
        "temperature_": 0.0,
        "scale_": -np.inf,
        "matrix_": -np.inf,
    }

    def __init__(
        self,
        estimator: Any,
        cv: Any = 5,
        l2: float = 1.0,
        n_jobs: int | None = None,
        verbose: int = 0,
        random_state: RandomState = 0,
    ) -> None:
        super().__init__(estimator, cv, n_jobs, verbose, random_state)
        self.l2 = l2

    def _learn(self, evidence: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> None:
        (logits,) = self._checked_logits(evidence, y, weight)
        found = search_matrix(logits, self.l2)
        self.temperature_, self.scale_, self.matrix_ = found.temperature, found.scale, found.matrix
        self.n_iter_ = found.n_iter
        self.loss_before_, self.loss_after_ = loss_at(logits, 1.0, "nll"), found.loss

    def _calibrated(self, predictive: Softmax) -> Softmax:
        scale, matrix = (torch.as_tensor(v) for v in (self.scale_, self.matrix_))
        return changed(
            predictive, lambda z: scaled_logits(z, self.temperature_, scale.to(z), matrix.to(z))
        )

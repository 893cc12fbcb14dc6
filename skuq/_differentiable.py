"""Uncertainty as a differentiable function of tensors, through scalers and calibrators."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn import pipeline as sklearn_pipeline
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.distributions import Distribution

from skuq._data._places import places_as_rows
from skuq._estimator._base import TorchEstimator
from skuq._reductions import class_uncertainty, target_uncertainty
from skuq._utils._sklearn_compat import BaseSearchCV, is_transformed_target_regressor
from skuq.calibration._base import Calibrator

__all__ = ["predictive_function", "uncertainty_function"]

_LINEAR = (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, PCA)


def uncertainty_function(
    estimator: Any, kind: str = "total", measure: str = "entropy"
) -> Callable[[Tensor], Tensor]:
    """Make a differentiable function that maps rows to one uncertainty for each row.

    It gives the same numbers as `predict_uncertainty`. Its gradients show which features make the
    network uncertain.

    Parameters
    ----------
    estimator : object
        A fitted skuq estimator, or a calibrator around one. It may be the last step of a
        scikit-learn Pipeline whose other steps are linear scalers or PCA, and it may be inside of a
        search or a FrozenEstimator.
    kind : {"total", "aleatoric", "epistemic"}, default="total"
        The part of the uncertainty to compute.
    measure : {"entropy", "variance", "margin", "least_confidence"}, default="entropy"
        How to measure the uncertainty of a classifier, as in its `predict_uncertainty`. A regressor
        ignores this and always uses the variance.

    Returns
    -------
    callable
        A function from a tensor of rows, of shape (n_rows, ...) as the estimator takes them, to a
        tensor of shape (n_rows,) in float64 on the device of the network. Units are nats for the
        entropy of a classifier, and squared units of y for a regressor. With several labels or
        targets it is their sum; of a segmenter, the mean over the pixels.

    Raises
    ------
    TypeError
        If a step or an estimator on the way cannot be differentiated; the message names it.
    ValueError
        If `kind` or `measure` is unknown, or the measure does not have this kind.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> import skuq
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = skuq.TorchClassifier(max_epochs=5, random_state=0).fit(X, y)
    >>> uncertainty = skuq.uncertainty_function(classifier, kind="epistemic")
    >>> x = torch.tensor(X[:3], requires_grad=True)
    >>> (gradient,) = torch.autograd.grad(uncertainty(x).sum(), x)
    >>> gradient.shape
    torch.Size([3, 4])
    """
    if kind == "all":
        raise ValueError(
            "kind='all' is three numbers per row; choose total, aleatoric or epistemic"
        )
    if measure == "variation_ratio":
        raise ValueError("measure='variation_ratio' counts votes, which have no gradient")
    predictive, network = predictive_function(estimator)
    classifies = network._task == "classification"
    reduction: Any = class_uncertainty(kind, measure) if classifies else target_uncertainty(kind)

    def uncertainty(x: Tensor) -> Tensor:
        found: Tensor = reduction(predictive(x))
        one = found if found.ndim == 1 else found.flatten(1).sum(1)
        return one.reshape(len(x), -1).mean(1) if network._is_dense else one

    return uncertainty


def predictive_function(estimator: Any) -> tuple[Callable[[Tensor], Distribution], TorchEstimator]:
    """Return the distributions of all draws as a function of rows, and the estimator itself."""
    if isinstance(estimator, FrozenEstimator):
        return predictive_function(estimator.estimator)
    if is_transformed_target_regressor(estimator):
        raise TypeError(
            "uncertainty_function does not support TransformedTargetRegressor: give its "
            "regressor_; variances are then in the units of the transformed target"
        )
    check_is_fitted(estimator)
    if getattr(estimator, "_answers_by_estimator", False):
        return predictive_function(estimator.estimator_)
    if isinstance(estimator, BaseSearchCV):
        if not hasattr(estimator, "best_estimator_"):
            raise TypeError("uncertainty_function needs a search with refit=True")
        return predictive_function(estimator.best_estimator_)
    if isinstance(estimator, sklearn_pipeline.Pipeline):
        steps = [_linear(step) for _, step in estimator.steps[:-1] if step != "passthrough"]
        inner, network = predictive_function(estimator.steps[-1][1])
        return lambda x: inner(_through(steps, x)), network
    if isinstance(estimator, Calibrator):
        inner, network = predictive_function(estimator.estimator_)
        return lambda x: estimator._calibrated(inner(x)), network
    if not isinstance(estimator, TorchEstimator):
        raise TypeError(
            f"uncertainty_function needs a skuq estimator or a calibrator around one, got "
            f"{type(estimator).__name__}, which has no gradient"
        )
    if estimator._layout is not None:
        raise TypeError(
            f"{type(estimator.module_).__name__} takes several inputs, such as token ids and "
            "codes, in which the uncertainty has no gradient"
        )
    return _network_predictive(estimator), estimator


def _network_predictive(estimator: TorchEstimator) -> Callable[[Tensor], Distribution]:
    outputs, numerics = estimator._engine._function(), estimator._engine.numerics
    likelihood, shape = estimator.likelihood_, tuple(estimator._row_shape)

    def predictive(x: Tensor) -> Distribution:
        if x.ndim != len(shape) + 1:
            raise ValueError(
                f"expected a tensor of rows of shape {shape}, got shape {tuple(x.shape)}"
            )
        raw = outputs(x.to(numerics.device, numerics.dtype)).double()
        return likelihood.predictive(places_as_rows(raw))

    return predictive


def _linear(step: Any) -> tuple[Tensor, Tensor]:
    """Return the matrix and the offset of a linear step, x → x A + b."""
    if type(step) not in _LINEAR or getattr(step, "clip", False):
        known = ", ".join(cls.__name__ for cls in _LINEAR)
        raise TypeError(
            f"uncertainty_function cannot differentiate the Pipeline's step {step!r}; it knows "
            f"{known}. Give the last step, and rows that the steps before it have transformed"
        )
    n_features = step.n_features_in_
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        offset = np.array(step.transform(np.zeros((1, n_features))), dtype=float)
        matrix = np.array(step.transform(np.eye(n_features)), dtype=float) - offset
    return torch.from_numpy(matrix), torch.from_numpy(offset)


def _through(steps: list[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    for matrix, offset in steps:
        x = x.double() @ matrix.to(x.device) + offset.to(x.device)
    return x

"""The uncertainty that is attributed: numbers for rows, and gradients where there are any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn import pipeline as sklearn_pipeline
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skuq._composition import predictions
from skuq._differentiable import uncertainty_function
from skuq._predict import ClassifierPredictions
from skuq._utils._arrays import tensor_of
from skuq._utils._sklearn_compat import BaseSearchCV

__all__ = ["Target", "target_of"]


@dataclass(frozen=True)
class Target:
    """An uncertainty as a function of rows.

    Attributes
    ----------
    numbers : callable
        From rows, as the estimator takes them, to an array of shape (n,).
    function : callable or None
        The differentiable function of tensors that `prepare` returned; None without a gradient.
    prefix : object or None
        The steps of a Pipeline before those that `function` contains.
    why_not : str
        Why there is no gradient.
    smallest : float
        An uncertainty up to this is rounding.
    """

    numbers: Callable[[Any], np.ndarray]
    function: Callable[[Tensor], Tensor] | None
    prefix: Any = None
    why_not: str = ""
    smallest: float = 1e-30


def target_of(estimator: Any, kind: str, measure: str, X: Any = None) -> Target:
    """Find the uncertainty of an estimator, or take a function of tensors as one.

    Parameters
    ----------
    estimator, kind, measure : as in `attribute_uncertainty`
        Where the uncertainty comes from, and which it is.
    X : array-like, default=None
        The rows. Functions get tensors of their type, modules of the type of their parameters.
    """
    if kind not in ("total", "aleatoric", "epistemic"):
        raise ValueError(f"kind must be 'total', 'aleatoric' or 'epistemic', got {kind!r}")
    if callable(estimator) and not hasattr(estimator, "predict"):
        function = _checked(estimator, str(getattr(X, "dtype", "")).endswith("float32"))
        return Target(_numbers_of_function(function), function)
    numbers, smallest = _numbers_of_estimator(estimator, kind, measure)
    if measure == "variation_ratio":
        return Target(numbers, None, None, "variation_ratio counts votes", smallest)
    inside = _unwrapped(estimator)
    try:
        return Target(numbers, uncertainty_function(inside, kind, measure), smallest=smallest)
    except TypeError as error:
        why_not = str(error)
    if isinstance(inside, sklearn_pipeline.Pipeline):
        for first in range(1, len(inside.steps)):
            try:
                function = uncertainty_function(inside[first:], kind, measure)
            except TypeError as error:
                why_not = str(error)
                continue
            return Target(numbers, function, inside[:first], smallest=smallest)
    return Target(numbers, None, None, why_not, smallest)


def _unwrapped(estimator: Any) -> Any:
    """Return the Pipeline or estimator inside of searches and FrozenEstimators."""
    while True:
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif isinstance(estimator, BaseSearchCV) and hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return estimator


def _checked(function: Callable[[Tensor], Any], single: bool) -> Callable[[Tensor], Tensor]:
    """Return a user's function with a check of what it returns, of rows in the right type."""
    like: Any = torch.float32 if single else None
    if isinstance(function, torch.nn.Module):
        like = next((p for p in function.parameters() if p.is_floating_point()), like)

    def uncertainty(x: Tensor) -> Tensor:
        found = function(x if like is None else x.to(like))
        if not isinstance(found, Tensor) or found.shape != (len(x),):
            raise ValueError(
                "the function must map a tensor of rows to a tensor with one uncertainty for each, "
                f"of shape ({len(x)},), got {getattr(found, 'shape', repr(found))}"
            )
        if x.requires_grad and torch.is_grad_enabled() and not found.requires_grad:
            raise TypeError(
                "the function has no gradient: what it returns does not depend on its argument by "
                "operations of torch. Take a method without gradients, such as 'occlusion'"
            )
        return found

    return uncertainty


def _numbers_of_function(function: Callable[[Tensor], Tensor]) -> Callable[[Any], np.ndarray]:
    def numbers(rows: Any) -> np.ndarray:
        with torch.no_grad():
            found = function(tensor_of(np.asarray(rows, dtype=float)))
        return found.cpu().double().numpy()

    return numbers


def _numbers_of_estimator(
    estimator: Any, kind: str, measure: str
) -> tuple[Callable[[Any], np.ndarray], float]:
    check_is_fitted(_unwrapped(estimator))

    def numbers(rows: Any) -> np.ndarray:
        asked: Any
        asked, inner = predictions(estimator, rows)
        options = {"measure": measure} if isinstance(asked, ClassifierPredictions) else {}
        found = np.asarray(asked.predict_uncertainty(inner, kind=kind, **options), dtype=float)
        each = found.reshape(len(found), -1)
        one: np.ndarray = each.mean(1) if getattr(asked, "_is_dense", False) else each.sum(1)
        return one

    classifies = hasattr(estimator, "classes_")
    return numbers, 1e-7 if classifies else 1e-30

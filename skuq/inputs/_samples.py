"""Noise in the inputs by Monte Carlo: copies of each row, moved by the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import is_classifier
from torch import Tensor

from skuq._utils._random import Purpose, derive_seed
from skuq.augmentation import View
from skuq.augmentation._answers import AveragedClasses, MixedTargets
from skuq.augmentation._evaluation import Evaluation
from skuq.inputs._parts import InputUncertainty

__all__ = ["sampled_answers", "standard_samples"]


class Moved(View):
    """Adds one vector to every row."""

    def __init__(self, by: Tensor) -> None:
        self.by = by

    def __call__(self, X: Tensor, generator: torch.Generator) -> Tensor:
        return X + self.by.to(X).reshape(X.shape[1:])


def standard_samples(n_samples: int, n_features: int, seed: int) -> np.ndarray:
    """Draw standard normal vectors with the mean 0, and the covariance I if there are enough.

    With fewer pairs than features, only the variance of each feature is 1. The row itself, which
    always is one more sample, counts in both moments.

    Parameters
    ----------
    n_samples : int
        Number of vectors: pairs z and −z.
    n_features : int
        Their length.
    seed : int
        The seed.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
    """
    half = np.random.default_rng(seed).normal(size=(n_samples // 2, n_features))
    size = 2 * len(half) + 1
    if len(half) >= n_features:  # U of the decomposition U S V has U'U = 1
        left, _, right = np.linalg.svd(half, full_matrices=False)
        half = np.sqrt(size / 2) * (left @ right)
    else:
        half *= np.sqrt(size / 2 / np.square(half).sum(axis=0))
    return np.concatenate([half, -half])


def _moves(scale: np.ndarray, n_samples: int, seed: int) -> np.ndarray:
    if scale.ndim == 1:
        return standard_samples(n_samples, len(scale), seed) * scale
    values, vectors = np.linalg.eigh(scale)
    root = vectors * np.sqrt(values.clip(min=0))
    moves: np.ndarray = standard_samples(n_samples, len(scale), seed) @ root.T
    return moves


def sampled_answers(
    estimator: Any, scale: np.ndarray, n_samples: int, root: int, multilabel: bool
) -> Any:
    """Return the object that predicts from moved copies of each row."""
    moves = _moves(scale, n_samples, derive_seed(root, Purpose.OTHER))
    evaluation: Any = _Evaluation(estimator, moves, multilabel)
    if is_classifier(estimator):
        return _SampledClasses(evaluation, estimator.classes_, multilabel)
    return _SampledTargets(evaluation)


class _Evaluation:
    """Evaluates moved copies; it learns sizes from the rows of each call."""

    _is_dense = False
    target_shape: tuple[int, ...] = ()

    def __init__(self, estimator: Any, moves: np.ndarray, multilabel: bool) -> None:
        self.estimator = estimator
        self._views = [(Moved(torch.from_numpy(by)), 0) for by in moves]
        self._multilabel = multilabel

    def fold(self, X: Any, *arguments: Any) -> Any:
        evaluation = Evaluation(self.estimator, self._views, X, self._multilabel)
        self.target_shape = evaluation.target_shape
        return evaluation.fold(X, *arguments)


class _SampledClasses(AveragedClasses):
    def predict_uncertainty(self, X: Any, kind: str = "total", measure: str = "entropy") -> Any:
        found = super().predict_uncertainty(X, kind, measure)
        return InputUncertainty(*found) if kind == "nested" else found


class _SampledTargets(MixedTargets):
    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        found = super()._reduce(X, reduction, *aligned)
        self._target_shape = self._evaluation.target_shape
        return found

    def predict_uncertainty(self, X: Any, kind: str = "total") -> Any:
        found = super().predict_uncertainty(X, kind)
        return InputUncertainty(*found) if kind == "nested" else found

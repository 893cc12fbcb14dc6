"""Noise in the inputs by Monte Carlo: copies of each row, moved by the same numbers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats.qmc import Sobol
from sklearn.base import is_classifier
from sklearn.utils import indexable
from torch import Tensor

from skuq._data._checks import CheckedRows
from skuq._utils._random import Purpose, derive_seed
from skuq.augmentation._answers import AveragedClasses, MixedTargets
from skuq.augmentation._evaluation import Evaluation
from skuq.inputs._parts import InputUncertainty
from skuq.inputs._scale import order_of_columns

__all__ = ["sampled_answers", "standard_samples"]

_MOST_SPREAD = 64  # features: in more, random vectors are as good as even ones
_SOBOL_TAKES_RNG = "rng" in inspect.signature(Sobol).parameters  # SciPy 1.15


class Moved:
    """A view that adds one vector to every row."""

    def __init__(self, by: np.ndarray) -> None:
        self._by = torch.from_numpy(by)

    def __call__(self, X: Tensor) -> Tensor:
        return X + self._by.to(X).reshape(X.shape[1:])


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
    half = _normal(n_samples // 2, n_features, seed)
    size = 2 * len(half) + 1
    if len(half) >= n_features:  # U of the decomposition U S V has U'U = 1
        left, _, right = np.linalg.svd(half, full_matrices=False)
        half = np.sqrt(size / 2) * (left @ right)
    else:
        half *= np.sqrt(size / 2 / np.square(half).sum(axis=0))
    return np.concatenate([half, -half])


def _normal(n_samples: int, n_features: int, seed: int) -> np.ndarray:
    """Draw normal vectors, evenly spread in few dimensions."""
    random = np.random.default_rng(seed)
    if n_features > _MOST_SPREAD:
        return random.normal(size=(n_samples, n_features))
    sobol = Sobol(n_features, rng=random) if _SOBOL_TAKES_RNG else Sobol(n_features, seed=random)
    even = sobol.random_base2(math.ceil(math.log2(n_samples)))[:n_samples]
    vectors: np.ndarray = ndtri(even.clip(1e-12, 1 - 1e-12))
    return vectors


def _moves(scale: np.ndarray, n_samples: int, seed: int) -> np.ndarray:
    if scale.ndim == 1:
        scaled: np.ndarray = standard_samples(n_samples, len(scale), seed) * scale
        return scaled
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
        self._moves = moves
        self._multilabel = multilabel

    def fold(self, X: Any, *arguments: Any) -> Any:
        if isinstance(X, CheckedRows):  # a view of test-time augmentation
            X = X.tensor.cpu().numpy()
        (X,) = indexable(X)  # a sparse matrix becomes one that has rows
        evaluation = Evaluation(self.estimator, [], X, self._multilabel)
        order = order_of_columns(evaluation._leaf) if evaluation._directly else slice(None)
        moved: list[Any] = [Moved(by) for by in self._moves[:, order]]
        evaluation.views = moved  # which need no trial
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

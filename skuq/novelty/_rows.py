"""What detectors look at: rows themselves, or features of a network; in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import assert_all_finite, column_or_1d, validate_data
from torch import Tensor

from skuq._composition import predictions
from skuq._data._checks import refuse_no_labels
from skuq._estimator._base import TorchEstimator
from skuq._features import map_features
from skuq._meta import Around, innermost, segmenter_in
from skuq._utils._arrays import tensor_of

__all__ = [
    "OnFeatures",
    "blocks",
    "checked_network",
    "codes_of",
    "features_of",
    "has_classes",
    "kind_of_labels",
    "on_numpy",
    "outputs_of",
]

_ROWS = 4096  # looked at together


class _OfEstimator:
    """An attribute of the estimator inside, unless `fit` has set one on the object itself."""

    def __init__(self, attribute: str) -> None:
        self.attribute = attribute

    def __get__(self, around: Any, owner: Any = None) -> Any:
        if around is None:
            return self
        return getattr(around._fitted_estimator(self.attribute), self.attribute)


class OnFeatures(Around):
    """Mixin of what stands on features: of an estimator's network, or, without one, X itself."""

    layer: str | None
    estimator_: Any

    n_features_in_ = _OfEstimator("n_features_in_")
    feature_names_in_ = _OfEstimator("feature_names_in_")

    def __sklearn_tags__(self) -> Any:
        if self.estimator is not None:
            return super().__sklearn_tags__()
        return super(Around, self).__sklearn_tags__()  # type: ignore[misc]

    def _forget(self) -> None:
        """Forget the last fit, so that after an error it is not fitted, and no old name stays."""
        for name in ("estimator_", "n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)

    def _read_rows(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        """Check rows of X, and y if given, without an estimator."""
        checks = {"dtype": np.float64, "ensure_min_samples": 2 if reset else 1}
        return validate_data(self, X, y, reset=reset, **checks)


def features_of(estimator: Any, X: Any, layer: str | None, why: str) -> np.ndarray:
    """Compute all features, of shape (n_networks, n_samples, n_features)."""
    features: np.ndarray = map_features(
        checked_network(estimator, X, why), X, lambda rows: rows.movedim(0, 1), layer=layer
    )
    return np.ascontiguousarray(np.moveaxis(features, 1, 0))


def checked_network(estimator: Any, X: Any, why: str) -> Any:
    """Return the estimator; refuse one without a network."""
    leaf, _ = innermost(estimator, X)
    if not isinstance(leaf, TorchEstimator):
        raise TypeError(
            f"{why} needs features of a network, but {type(leaf).__name__} has none: expected a "
            "skuq estimator, or a Pipeline, search or calibrator around one"
        )
    return estimator


def outputs_of(estimator: Any, X: Any, *, of_network: bool) -> tuple[Any, Any]:
    """Return the object that predicts, and X as it takes it."""
    if of_network:
        estimator, X = innermost(estimator, X)
    return predictions(estimator, X, logits=of_network)


def blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a few thousand rows at a time."""
    for start in range(0, len(rows), _ROWS):
        yield rows[start : start + _ROWS]


def on_numpy(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensor], Tensor]:
    """Let a function of arrays reduce tensors."""
    return lambda rows: tensor_of(function(rows.cpu().numpy()), copy=True)


def kind_of_labels(y: Any) -> str:
    """Return scikit-learn's name for this kind of labels; refuse missing ones."""
    refuse_no_labels("y", y)
    assert_all_finite(y, input_name="y")
    kind: str = type_of_target(y)
    return kind


def has_classes(estimator: Any) -> bool:
    """Return whether this is a classifier of rows; a segmenter labels the pixels of each row."""
    return estimator is not None and is_classifier(estimator) and segmenter_in(estimator) is None


def codes_of(estimator: Any, y: Any, n_rows: int, why: str) -> np.ndarray:
    """Return the place of each row's class among those in y; 0 for all if there are no classes.

    Only classifiers of one label for each row have classes.
    """
    if not has_classes(estimator):
        return np.zeros(n_rows, dtype=np.intp)
    if y is None:
        raise ValueError(
            f"{why} looks at each class of a classifier, and needs their labels: expected y, or X "
            "a torch Dataset of pairs (x, y), got y=None"
        )
    if kind_of_labels(y) == "multilabel-indicator":
        return np.zeros(n_rows, dtype=np.intp)
    labels: np.ndarray = column_or_1d(y, warn=True)
    if len(labels) != n_rows:
        raise ValueError(f"X has {n_rows} rows, but y has {len(labels)} labels; expected as many")
    classes, codes = np.unique(labels, return_inverse=True)
    if isinstance(estimator, FrozenEstimator):
        unknown = np.setdiff1d(classes, estimator.classes_)
        missing = np.setdiff1d(estimator.classes_, classes)
        if len(unknown) or len(missing):
            raise ValueError(
                f"y must hold each class of the estimator and no other: expected "
                f"{estimator.classes_}, got {classes}. Without rows of a class, all its rows would "
                "look strange"
            )
    return np.asarray(codes)

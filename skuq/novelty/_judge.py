"""How a measure learns from known rows, and how it then judges rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from skuq._data._inputs import as_inputs
from skuq._features import map_features
from skuq._predict import ClassifierPredictions
from skuq._utils._messages import name_of
from skuq._utils._sklearn_compat import _num_samples
from skuq.novelty._measures import FEATURE_MEASURES, OUTPUT_MEASURES, FeatureMeasure, OutputMeasure
from skuq.novelty._rows import (
    blocks,
    checked_network,
    features_of,
    on_numpy,
    outputs_of,
)

__all__ = ["Judge", "Learnt"]


class Learnt(NamedTuple):
    """What a measure of features has learnt, for each network.

    Attributes
    ----------
    models : list
        What `FeatureMeasure.learn` gave for each network.
    location, scale : ndarray of shape (n_networks,)
        Mean and standard deviation of the scores of the rows learnt from.
    """

    models: list[Any]
    location: np.ndarray
    scale: np.ndarray


class Judge(NamedTuple):
    """A measure, as it was when `fit` began.

    Attributes
    ----------
    by : str or callable
        The measure.
    layer : str or None
        The layer whose inputs are the features; None takes the last linear layer.
    beside : bool
        Whether there is an estimator; otherwise features are the columns of X.
    """

    by: Any
    layer: str | None
    beside: bool

    @property
    def of_features(self) -> FeatureMeasure | None:
        """The entry of a measure of features in the table; None for other measures."""
        return FEATURE_MEASURES.get(self.by) if isinstance(self.by, str) else None

    def check(self) -> None:
        """Refuse measures that need an estimator, if there is none."""
        if self.of_features is None and not self.beside:
            raise ValueError(
                f"measure={self.by!r} needs an estimator, got estimator=None; expected one of "
                f"{', '.join(map(repr, FEATURE_MEASURES))}"
            )

    def features(self, estimator: Any, X: Any) -> np.ndarray:
        """Compute all features, of shape (n_networks, n_samples, n_features)."""
        if not self.beside:
            return np.asarray(X)[None]
        return features_of(estimator, X, self.layer, f"measure={self.by!r}")

    def learn(self, features: np.ndarray, codes: np.ndarray) -> Learnt:
        """Learn from known rows and the codes of their classes, by a measure of features."""
        measure = self.of_features
        assert measure is not None
        codes = np.unique(codes, return_inverse=True)[1]  # some folds may lack a class
        models = [measure.learn(rows, codes, self.beside) for rows in features]
        if len(models) == 1:
            return Learnt(models, np.zeros(1), np.ones(1))
        scores = [measure.judge(model, rows) for model, rows in zip(models, features)]
        location, scale = np.mean(scores, axis=1), np.std(scores, axis=1)
        return Learnt(models, location, np.where(scale > 0, scale, 1.0))

    def by_features(self, learnt: Learnt, features: np.ndarray) -> np.ndarray:
        """Judge rows by features of shape (n_networks, n_samples, n_features).

        Several networks count equally: their scores are standardised, then averaged.
        """
        measure = self.of_features
        assert measure is not None
        judged = [measure.judge(model, rows) for model, rows in zip(learnt.models, features)]
        standard = (np.stack(judged) - learnt.location[:, None]) / learnt.scale[:, None]
        mean: np.ndarray = standard.mean(axis=0)
        return mean

    def __call__(self, estimator: Any, learnt: Learnt | None, X: Any) -> np.ndarray:
        """Judge rows; refuse results that are no numbers."""
        if learnt is not None:

            def judged(features: np.ndarray) -> np.ndarray:
                return self.by_features(learnt, features)

            if self.beside:
                checked_network(estimator, X, f"measure={self.by!r}")
                novelty = map_features(estimator, X, on_numpy(judged), layer=self.layer)
            else:
                novelty = np.concatenate([judged(block[None]) for block in blocks(X)])
        elif isinstance(self.by, str):
            novelty = _by_outputs(self.by, OUTPUT_MEASURES[self.by], estimator, X)
        else:
            novelty = self.by(estimator, X)
        return self._checked(novelty, X)

    def _checked(self, novelty: Any, X: Any) -> np.ndarray:
        judged = np.asarray(novelty, dtype=np.float64)
        X = as_inputs(X)
        n_rows = _num_samples(X) if hasattr(X, "__len__") else len(judged)
        if judged.shape != (n_rows,):
            raise ValueError(
                f"measure={self.by!r} must give one number for each row, of shape ({n_rows},), got "
                f"{judged.shape}"
            )
        if not np.isfinite(judged).all():
            row = int(np.flatnonzero(~np.isfinite(judged))[0])
            raise ValueError(
                f"measure={self.by!r} gave {judged[row]} for row {row} of X; expected finite "
                "numbers"
            )
        return judged


def _by_outputs(name: str, measure: OutputMeasure, estimator: Any, X: Any) -> np.ndarray:
    """Judge rows by the predictive distribution of a fitted estimator."""
    asked, inner = outputs_of(estimator, X, of_network=measure.of_network)
    classifies = isinstance(asked, ClassifierPredictions)
    reduction: Callable[..., Any] | None = measure.of_classifier
    if not classifies:
        reduction = measure.of_regressor
    if reduction is None:
        raise TypeError(
            f"measure={name!r} needs a classifier, got {name_of(estimator)}: use 'epistemic', or a "
            "measure of features, such as 'mahalanobis'"
        )
    judged: np.ndarray = asked._reduce(inner, reduction)
    judged = judged.reshape(len(judged), -1)
    if judged.shape[1] != 1:
        raise ValueError(
            f"measure={name!r} needs one label or target for each row, but {name_of(estimator)} "
            f"predicts {judged.shape[1]}: use a measure of features, such as 'mahalanobis'"
        )
    return judged[:, 0]

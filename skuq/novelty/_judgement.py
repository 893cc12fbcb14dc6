"""What a detector learns from known rows, and how it then judges rows, by any measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from skuq._predict import ClassifierPredictions
from skuq._utils._messages import name_of
from skuq.novelty._measures import FEATURE_MEASURES, OUTPUT_MEASURES, FeatureMeasure, OutputMeasure
from skuq.novelty._rows import outputs_of

__all__ = ["Learnt", "Measure", "judge_features", "judge_outputs", "learn", "look_up"]

Measure = FeatureMeasure | OutputMeasure | Callable[..., Any]


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


def look_up(measure: Any, estimator: Any) -> Measure:
    """Return the entry of a measure in the table, or the callable itself."""
    if callable(measure):
        if estimator is None:
            raise ValueError(
                "a function as measure needs an estimator to look at, got estimator=None"
            )
        function: Callable[..., Any] = measure
        return function
    if measure in FEATURE_MEASURES:
        return FEATURE_MEASURES[measure]
    if estimator is None:
        raise ValueError(
            f"measure={measure!r} needs the outputs of an estimator, got estimator=None; expected "
            f"one of {', '.join(map(repr, FEATURE_MEASURES))}"
        )
    return OUTPUT_MEASURES[measure]


def learn(
    measure: FeatureMeasure, features: np.ndarray, codes: np.ndarray, resolution: float
) -> Learnt:
    """Learn from known rows.

    Parameters
    ----------
    measure : FeatureMeasure
        The measure.
    features : ndarray of shape (n_networks, n_samples, n_features)
        Features of the rows.
    codes : ndarray of shape (n_samples,)
        Classes of the rows.
    resolution : float
        Relative size of rounding in the features.
    """
    codes = np.unique(codes, return_inverse=True)[1]  # some may lack a class
    models = [measure.learn(rows, codes, resolution) for rows in features]
    if len(models) == 1:
        return Learnt(models, np.zeros(1), np.ones(1))
    scores = [measure.judge(model, rows) for model, rows in zip(models, features)]
    location, scale = np.mean(scores, axis=1), np.std(scores, axis=1)
    return Learnt(models, location, np.where(scale > 0, scale, 1.0))


def judge_features(measure: FeatureMeasure, learnt: Learnt, features: np.ndarray) -> np.ndarray:
    """Judge rows by features of shape (n_networks, n_samples, n_features).

    Several networks count equally: their scores are standardised, then averaged.
    """
    judged = [measure.judge(model, rows) for model, rows in zip(learnt.models, features)]
    if len(judged) == 1:
        return judged[0]
    standard = (np.stack(judged) - learnt.location[:, None]) / learnt.scale[:, None]
    mean: np.ndarray = standard.mean(axis=0)
    return mean


def judge_outputs(measure: OutputMeasure, name: str, estimator: Any, X: Any) -> np.ndarray:
    """Judge rows by the predictive distribution of a fitted estimator."""
    asked, inner = outputs_of(estimator, X, of_network=measure.of_network)
    classifies = isinstance(asked, ClassifierPredictions)
    reduction = measure.of_classifier if classifies else measure.of_regressor
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

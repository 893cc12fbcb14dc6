"""The measures of novelty, as a table of functions. High is strange.

A measure of features learns from known rows, and then maps features of new rows to numbers. A
measure of outputs only looks at the predictive distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from skuq._distributions._members import whole_of
from skuq._distributions._softmax import Softmax
from skuq._reductions import class_uncertainty, target_uncertainty
from skuq.novelty._gaussians import distances, fit_gaussians, log_densities

__all__ = ["FEATURE_MEASURES", "OUTPUT_MEASURES", "FeatureMeasure", "OutputMeasure"]

_N_NEIGHBORS = 5


class FeatureMeasure(NamedTuple):
    """A measure that learns from the features of known rows.

    Attributes
    ----------
    learn : callable
        Maps features of shape (n_samples, n_features), codes of classes, and whether the features
        are a network's, to what is learnt: arrays, or tuples of them.
    judge : callable
        Maps what was learnt, and features, to one number for each row.
    classes : {"unused", "used", "needed"}
        Whether it tells classes apart; if needed, there must be two of them.
    """

    learn: Callable[[np.ndarray, np.ndarray, bool], Any]
    judge: Callable[[Any, np.ndarray], np.ndarray]
    classes: Literal["unused", "used", "needed"] = "used"


class OutputMeasure(NamedTuple):
    """A measure of the predictive distribution.

    Attributes
    ----------
    of_classifier, of_regressor : callable or None
        Maps the distribution of all draws to one number for each row; None if there is none.
    of_network : bool
        Whether it is the distribution of the network itself, without any calibrator around it.
    """

    of_classifier: Callable[[Any], Tensor]
    of_regressor: Callable[[Any], Tensor] | None = None
    of_network: bool = False


# ---------------------------------------------------------------------------------------------
# Features


def _learn_relative(features: np.ndarray, codes: np.ndarray, network: bool) -> Any:
    alike = np.zeros_like(codes)
    return (
        fit_gaussians(features, codes, network=network),
        fit_gaussians(features, alike, network=network),
    )


def _relative(learnt: Any, features: np.ndarray) -> np.ndarray:
    of_classes, of_all = (distances(gaussians, features) for gaussians in learnt)
    difference: np.ndarray = of_classes.min(axis=1) - of_all[:, 0]
    return difference


def _rarity(learnt: Any, features: np.ndarray) -> np.ndarray:
    """Compute −log p(features), the classes summed over."""
    rarity: np.ndarray = -np.logaddexp.reduce(log_densities(learnt, features), axis=1)
    return rarity


def _to_neighbours(learnt: Any, features: np.ndarray) -> np.ndarray:
    """Compute the distance to the fifth nearest known row, a row equal to it left out."""
    centre = learnt.mean(axis=0)  # against cancellation
    n_neighbors = min(_N_NEIGHBORS + 1, len(learnt))
    neighbours = NearestNeighbors(n_neighbors=n_neighbors).fit(learnt - centre)
    found, places = neighbours.kneighbors(features - centre)
    itself = np.zeros(len(features), dtype=bool)
    for nearest in places.T:
        itself |= (learnt[nearest] == features).all(axis=1)
    last = np.minimum(_N_NEIGHBORS - 1 + itself, n_neighbors - 1)
    fifth: np.ndarray = found[np.arange(len(found)), last]
    return fifth


FEATURE_MEASURES: dict[str, FeatureMeasure] = {
    "mahalanobis": FeatureMeasure(
        lambda features, codes, network: fit_gaussians(features, codes, network=network),
        lambda learnt, features: np.sqrt(distances(learnt, features).min(axis=1)),
    ),
    "relative_mahalanobis": FeatureMeasure(_learn_relative, _relative, classes="needed"),
    "density": FeatureMeasure(
        lambda features, codes, network: fit_gaussians(
            features, codes, tied=False, network=network
        ),
        _rarity,
    ),
    "knn": FeatureMeasure(
        lambda features, codes, network: features.copy(), _to_neighbours, classes="unused"
    ),
}


# ---------------------------------------------------------------------------------------------
# Outputs


def _raw_logits(predictive: Softmax) -> Tensor:
    """Return logits as the network gave them, of shape (n_draws, n_rows, n_classes)."""
    logits = whole_of(predictive)._param
    if bool((logits.logsumexp(-1).abs() < 1e-6).all()):
        raise ValueError(
            "the estimator gives probabilities, not logits, so that their sum says nothing: "
            "expected a network or a classifier with decision_function. Use measure='entropy' or "
            "'max_probability'"
        )
    if not logits[..., 0].any():  # one logit for two classes: the other is 0 by convention
        logits = logits - logits.mean(-1, keepdim=True)
    return logits


OUTPUT_MEASURES: dict[str, OutputMeasure] = {
    "energy": OutputMeasure(lambda p: -_raw_logits(p).logsumexp(-1).mean(0), of_network=True),
    "max_logit": OutputMeasure(lambda p: -_raw_logits(p).amax(-1).mean(0), of_network=True),
    "max_probability": OutputMeasure(lambda p: 1 - p.mean_probs.amax(-1)),
    "entropy": OutputMeasure(class_uncertainty("total")),
    "epistemic": OutputMeasure(class_uncertainty("epistemic"), target_uncertainty("epistemic")),
}

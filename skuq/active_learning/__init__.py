"""Active learning: which rows to label next.

Queries are functions of a fitted estimator and a pool of rows; `select` and others make batches;
`ActiveLearner` plays the rounds, and `compare_queries` compares strategies.
"""

from skuq.active_learning._badge import badge
from skuq.active_learning._batch_bald import batch_bald
from skuq.active_learning._comparison import QueryComparison, compare_queries
from skuq.active_learning._core_set import core_set
from skuq.active_learning._display import LearningCurvesDisplay
from skuq.active_learning._egl_plus_plus import egl_plus_plus
from skuq.active_learning._gradient_length import expected_gradient_length, expected_model_change
from skuq.active_learning._heat_maps import multi_peak_entropy
from skuq.active_learning._learner import ActiveLearner
from skuq.active_learning._scores import (
    bald,
    entropy,
    least_confidence,
    margin,
    mean_std,
    random_scores,
    variance,
    variation_ratio,
)
from skuq.active_learning._select import kmeans_weighted, select
from skuq.active_learning._strategies import QueryStrategy

__all__ = [
    "ActiveLearner",
    "LearningCurvesDisplay",
    "QueryComparison",
    "QueryStrategy",
    "badge",
    "bald",
    "batch_bald",
    "compare_queries",
    "core_set",
    "egl_plus_plus",
    "entropy",
    "expected_gradient_length",
    "expected_model_change",
    "kmeans_weighted",
    "least_confidence",
    "margin",
    "mean_std",
    "multi_peak_entropy",
    "random_scores",
    "select",
    "variance",
    "variation_ratio",
]

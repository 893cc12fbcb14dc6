"""Gradient boosting: later stages as a virtual ensemble.

A boosted model is one sum of trees. Its shorter sums, from half of the trees on, disagree where
the model is unsure; A. Malinin, L. Prokhorenkova, A. Ustimenko, "Uncertainty in Gradient Boosting
via Ensembles", ICLR 2021, arXiv:2006.10562, call them a virtual ensemble. Their mean is a model of
fewer trees, so they are moved: their mean is the prediction of the whole model.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from skuq._distributions._members import around

__all__ = ["stages_of_classifier", "stages_of_regressor"]

_N_STAGES = 10


def stages_of_classifier(model: Any, X: Any) -> np.ndarray:
    """Return the probabilities of up to ten stages, moved to those of the model."""
    each = _later(model, model.staged_predict_proba(X))
    moved: np.ndarray = around(each, model.predict_proba(X))
    return moved


def stages_of_regressor(model: Any, X: Any) -> np.ndarray:
    """Return the predictions of up to ten stages, moved to that of the model."""
    if model.loss == "quantile":
        raise TypeError(
            f"{type(model).__name__}(loss='quantile') predicts one quantile, which is no "
            "distribution. Register a class that holds models of several quantiles by "
            "skuq.register_draws"
        )
    each = _later(model, model.staged_predict(X))
    moved: np.ndarray = each - each.mean(axis=0) + model.predict(X)
    return moved


def _later(model: Any, stages: Iterable[np.ndarray]) -> np.ndarray:
    """Take up to ten stages, evenly from half of them to the last."""
    n_stages = getattr(model, "n_estimators_", None) or model.n_iter_
    chosen = set(np.linspace(n_stages, n_stages // 2 + 1, _N_STAGES).round().astype(int).tolist())
    return np.stack([np.array(one) for n, one in enumerate(stages, 1) if n in chosen])

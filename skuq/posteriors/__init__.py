"""Posteriors: ways to be uncertain about the function that a network computes.

Each ends, after `fit`, as a stack of function draws that one engine evaluates. To write another,
subclass `Posterior`: its `fit` takes a `Problem` and returns `Draws`.
"""

from skuq._engine._draws import Draws
from skuq._training._hooks import TrainingHook
from skuq._training._problem import Problem
from skuq.posteriors._base import Posterior
from skuq.posteriors._deep_ensemble import DeepEnsemble
from skuq.posteriors._last_layer_laplace import LastLayerLaplace
from skuq.posteriors._mc_dropout import MCDropout
from skuq.posteriors._point_estimate import PointEstimate
from skuq.posteriors._sgmcmc import SGMCMC
from skuq.posteriors._snapshot_ensemble import SnapshotEnsemble
from skuq.posteriors._swag import SWAG
from skuq.posteriors._variational import Variational

__all__ = [
    "SGMCMC",
    "SWAG",
    "DeepEnsemble",
    "Draws",
    "LastLayerLaplace",
    "MCDropout",
    "PointEstimate",
    "Posterior",
    "Problem",
    "SnapshotEnsemble",
    "TrainingHook",
    "Variational",
]

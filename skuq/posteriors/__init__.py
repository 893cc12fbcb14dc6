"""Posteriors: ways to be uncertain about the function that a network computes.

Each ends, after `fit`, as a stack of function draws that one engine evaluates.
"""

from skuq.posteriors._base import Posterior
from skuq.posteriors._deep_ensemble import DeepEnsemble
from skuq.posteriors._mc_dropout import MCDropout
from skuq.posteriors._point_estimate import PointEstimate

__all__ = ["DeepEnsemble", "MCDropout", "PointEstimate", "Posterior"]

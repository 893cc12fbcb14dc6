"""Estimators that may refuse to answer, with a guarantee on the risk of what they accept."""

from skuq.selective._classifier import SelectiveClassifier
from skuq.selective._refusals import Refusals, accept
from skuq.selective._regressor import SelectiveRegressor

__all__ = ["Refusals", "SelectiveClassifier", "SelectiveRegressor", "accept"]

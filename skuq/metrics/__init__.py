"""Metrics: is an uncertainty honest? Pure functions, scorers and pictures."""

from skuq.metrics._calibration import expected_calibration_error
from skuq.metrics._display import ReliabilityDisplay
from skuq.metrics._scorers import ece_scorer

__all__ = ["ReliabilityDisplay", "ece_scorer", "expected_calibration_error"]

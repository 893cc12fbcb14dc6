"""skuq: honest uncertainty from torch networks, for scikit-learn users."""

from skuq._report import report
from skuq.estimators import TorchClassifier, TorchRegressor
from skuq.exceptions import DivergedError
from skuq.pipeline import predict_draws, predict_interval, predict_quantiles, predict_uncertainty

__version__ = "0.1.0"

__all__ = [
    "DivergedError",
    "TorchClassifier",
    "TorchRegressor",
    "predict_draws",
    "predict_interval",
    "predict_quantiles",
    "predict_uncertainty",
    "report",
]

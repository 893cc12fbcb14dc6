"""skuq: honest uncertainty from torch networks, for scikit-learn users."""

from skuq._report import report
from skuq._version import __version__
from skuq.estimators import TorchClassifier, TorchRegressor
from skuq.exceptions import DivergedError
from skuq.pipeline import predict_draws, predict_interval, predict_quantiles, predict_uncertainty

__all__ = [
    "DivergedError",
    "TorchClassifier",
    "TorchRegressor",
    "__version__",
    "predict_draws",
    "predict_interval",
    "predict_quantiles",
    "predict_uncertainty",
    "report",
]

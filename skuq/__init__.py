"""skuq: honest uncertainty from torch networks, for scikit-learn users."""

from skuq._onnx import export_onnx
from skuq._report import report
from skuq._version import __version__
from skuq.estimators import TorchClassifier, TorchRegressor
from skuq.exceptions import DivergedError, PersistenceError
from skuq.persistence import inspect, load, save
from skuq.pipeline import predict_draws, predict_interval, predict_quantiles, predict_uncertainty

__all__ = [
    "DivergedError",
    "PersistenceError",
    "TorchClassifier",
    "TorchRegressor",
    "__version__",
    "export_onnx",
    "inspect",
    "load",
    "predict_draws",
    "predict_interval",
    "predict_quantiles",
    "predict_uncertainty",
    "report",
    "save",
]
